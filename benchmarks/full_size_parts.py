"""The parts that `full_size.py` measures: one picture at all stages, ways to run the networks, and a meter."""

from __future__ import annotations

import functools
import math
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple, TypeVar

import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from rdeic.config import ModelConfig
from rdeic.model.model import Rdeic
from rdeic.nn.graphs import Capture, CudaGraphs, GraphCache
from rdeic.nn.norm import GroupNorm
from rdeic.types import CodedLatent, CompressedFeatures

# Of a result, relative to its norm. GPUs convolve float32 with 10 bits behind the point (TF32).
TOLERANCES = {torch.float32: 0.01, torch.float16: 0.02, torch.bfloat16: 0.1}
PARTS = {
    "encode": "VAE encode",
    "bits": "compress: f to bits",
    "latent": "decompress: bits to z_c",
    "step": "U-Net + control step",
    "decode": "VAE decode",
    "whole": "whole",
}
WAYS = ("library", "eager", "graphs", "compile")
WHOLE_STEPS = (2, 5)
STEP = 150  # a timestep index like any other
WARM_UPS = 2  # on a GPU; elsewhere the run that is compared is enough
Made = TypeVar("Made")


class Size(NamedTuple):
    width: int
    height: int

    def padded(self, multiple: int) -> Size:
        return Size(*(-(-side // multiple) * multiple for side in self))


class Row(NamedTuple):
    size: str
    part: str
    way: str
    seconds: float  # median; NaN: not timed, because its result was wrong
    cpu_seconds: float
    memory: float | None  # bytes beyond the loaded model; None: not known on this system
    operations: float  # 0: not counted
    error: float | None  # of the result, relative to float32; None: nothing to compare


class Meter:
    """Time and memory of calls on one device."""

    def __init__(self, device: torch.device, runs: int) -> None:
        self.device, self.runs = device, runs

    def measure(self, work: Callable[[], Made], row: Row) -> tuple[Row, Made]:
        """`row` with what `work` took."""
        seconds, cpu_seconds, memory = [], [], []
        for _ in range(self.runs):
            before, cpu_start = self._start(), time.process_time()
            made, elapsed = self._timed(work)
            seconds.append(elapsed)
            cpu_seconds.append(time.process_time() - cpu_start)
            memory.append(self._peak() - before)
        return row._replace(
            seconds=statistics.median(seconds),
            cpu_seconds=statistics.median(cpu_seconds),
            memory=max(memory) if self._peak() else None,
        ), made

    def _timed(self, work: Callable[[], Made]) -> tuple[Made, float]:
        if self.device.type != "cuda":
            start = time.perf_counter()
            return work(), time.perf_counter() - start
        begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        stream = torch.cuda.current_stream(self.device)
        begin.record(stream)
        made = work()
        end.record(stream)
        end.synchronize()
        return made, begin.elapsed_time(end) / 1e3

    def _start(self) -> int:
        """Forget earlier peaks => bytes in use."""
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
            torch.cuda.reset_peak_memory_stats(self.device)
            return torch.cuda.memory_allocated(self.device)
        if sys.platform == "linux":
            Path("/proc/self/clear_refs").write_text("5")
        return _status("VmRSS")

    def _peak(self) -> int:
        return (
            torch.cuda.max_memory_allocated(self.device) if self.device.type == "cuda" else _status("VmHWM")
        )


def _status(field: str) -> int:
    """Bytes, as Linux knows them of this process; 0 elsewhere."""
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
    except OSError:
        return 0
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(f"{field}:"))


class Operations(NamedTuple):
    """Of one picture of `Size`, counted without computing anything."""

    encode: float
    step: float
    decode: float

    @staticmethod
    def of(config: ModelConfig, size: Size) -> Operations:
        with torch.device("meta"):
            model = Rdeic(config).requires_grad_(False)
            x = torch.zeros(1, 3, size.height, size.width)
            h, w = (side // config.autoencoder.stride for side in (size.height, size.width))
            z, guide = (
                torch.zeros(1, c, h, w)
                for c in (config.autoencoder.latent_channels, config.compression.width)
            )
            t = torch.zeros(1)
        works: list[Callable[[], Tensor]] = [
            lambda: model.autoencoder.feature(x),
            lambda: model.predict_noise(z, t, guide),
            lambda: model.autoencoder.decode(z),
        ]
        totals = []
        for work in works:
            with FlopCounterMode(display=False) as counter, torch.no_grad():
                work()
            totals.append(float(counter.get_total_flops()))
        return Operations(*totals)


class Subject(NamedTuple):
    """One picture at all stages, and what float32 makes of it."""

    size: Size
    x: Tensor  # (1, 3, H, W) in [-1, 1]
    coded: CodedLatent
    features: CompressedFeatures
    references: dict[str, Tensor]  # by part
    operations: Operations

    @staticmethod
    def of(model: Rdeic, size: Size, device: torch.device) -> Subject:
        """`model` in float32."""
        padded = size.padded(model.config.hyper_stride)
        x = smooth(padded, device)
        coded = model.encode(model.analyse(x), 0)
        subject = Subject(size, x, coded, model.decode(coded, 0), {}, Operations.of(model.config, padded))
        use(model, "library")
        for part, (work, inputs) in subject.networks(model).items():
            subject.references[part] = work(*inputs)
        return subject

    def networks(self, model: Rdeic) -> dict[str, tuple[Callable[..., Tensor], tuple[Tensor, ...]]]:
        """Each part's work, and its inputs."""
        z_c, guide = self.features
        t = torch.full((1,), STEP, device=z_c.device)
        return {
            "encode": (model.autoencoder.feature, (self.x,)),
            "step": (model.predict_noise, (z_c, t, guide)),
            "decode": (model.autoencoder.decode, (z_c,)),
        }

    def row(self, part: str, way: str = "") -> Row:
        counted = {
            "encode": self.operations.encode,
            "step": self.operations.step,
            "decode": self.operations.decode,
        }
        size = f"{self.size.width}x{self.size.height}"
        return Row(size, PARTS.get(part, part), way, math.nan, math.nan, None, counted.get(part, 0.0), None)


def use(model: Rdeic, way: str) -> None:
    """From now on its networks' norms are those of a way."""
    for layer in model.modules():
        if isinstance(layer, GroupNorm):
            layer.fused = way in ("eager", "graphs")


def capture_on(device: torch.device) -> Capture:
    return CudaGraphs() if device.type == "cuda" else lambda work, inputs: work


def measure(
    model: Rdeic, subject: Subject, parts: Sequence[str], ways: Sequence[str], meter: Meter
) -> list[Row]:
    """A row for each part and way, in inference mode. `model` in the precision to measure."""
    rows = list[Row]()
    for part in parts:
        match part:
            case "bits":
                rows.append(warm(lambda: encode_feature(model, subject), subject.row(part, "eager"), meter))
            case "latent":
                rows.append(warm(lambda: model.decode(subject.coded, 0), subject.row(part, "eager"), meter))
            case "whole":
                for way in ways:
                    rows += [] if way == "compile" else whole_rows(model, subject, way, meter)
            case _:
                rows += [network_row(model, subject, part, way, meter) for way in ways]
    return rows


def encode_feature(model: Rdeic, subject: Subject) -> CodedLatent:
    return model.encode(model.compression.g_a(subject.references["encode"]), 0)


def network_row(model: Rdeic, subject: Subject, part: str, way: str, meter: Meter) -> Row:
    use(model, way)
    work, inputs = subject.networks(model)[part]
    run = work
    if way == "graphs":
        visit = GraphCache(capture_on(meter.device), at_once=True).visit(part)

        def run(*inputs: Tensor) -> Tensor:
            found: Tensor = visit(work, *inputs)
            return found
    elif way == "compile":
        run = torch.compile(work)
    reference, found = subject.references[part], run(*inputs)
    error = float((found.float() - reference).norm() / reference.norm())
    row = subject.row(part, way)._replace(error=error)
    precision = model.analysis_precision if part == "encode" else model.precision
    return warm(lambda: run(*inputs), row, meter) if error < TOLERANCES[precision] else row


def whole_rows(model: Rdeic, subject: Subject, way: str, meter: Meter) -> list[Row]:
    """From pixels to bits; from bits to pixels in some numbers of steps."""
    use(model, way)
    if way == "graphs":
        model.use_graphs(capture_on(meter.device), at_once=True)
    noise = torch.randn(subject.features.z_c.shape, generator=torch.Generator().manual_seed(0))

    def restore(steps: int) -> Tensor:
        noises = (noise.to(meter.device) for _ in range(steps + 1))
        x = model.restore(model.decode(subject.coded, 0), noises, steps, 1.0)
        return ((x + 1) * 127.5).round().clamp(0, 255).to(torch.uint8).cpu()

    works: dict[str, Callable[[], object]] = {
        "whole encode": lambda: model.encode(model.analyse(subject.x), 0),
        **{f"whole decode, {steps} steps": functools.partial(restore, steps) for steps in WHOLE_STEPS},
    }
    rows = [warm(work, subject.row(part, way), meter) for part, work in works.items()]
    model.stop_graphs()
    return rows


def warm(work: Callable[[], object], row: Row, meter: Meter) -> Row:
    for _ in range(WARM_UPS if meter.device.type == "cuda" else 0):
        work()
    return meter.measure(work, row)[0]


def profile(model: Rdeic, subject: Subject, device: torch.device) -> str:
    """Where the time of each network goes: the kernels of a GPU, or the operations of a CPU."""
    use(model, "eager")
    kinds = torch.profiler.ProfilerActivity
    activities = [kinds.CPU, kinds.CUDA] if device.type == "cuda" else [kinds.CPU]
    said = []
    for part, (work, inputs) in subject.networks(model).items():
        work(*inputs)
        with torch.profiler.profile(activities=activities) as profiler:
            work(*inputs)
        order = f"self_{device.type}_time_total"
        said.append(f"{part}\n{profiler.key_averages().table(sort_by=order, row_limit=25)}")
    return "\n".join(said)


def smooth(size: Size, device: torch.device) -> Tensor:
    """A picture (1, 3, H, W) in [-1, 1] without an edge."""
    generator = torch.Generator().manual_seed(0)
    coarse = torch.rand(1, 3, -(-size.height // 32), -(-size.width // 32), generator=generator)
    fine = torch.nn.functional.interpolate(coarse, (size.height, size.width), mode="bicubic")
    return (fine * 2 - 1).clamp(-1, 1).to(device)

"""Seconds and memory of every part of a model at several picture sizes, on a CPU or a GPU.

    python benchmarks/full_size.py MODEL [--device cuda] [--precision fp16|bf16|fp32] [--sizes 768x512,1920x1080]
        [--runs 3] [--threads 2] [-o full_size.csv]

Printed is a Markdown table for each size. Seconds are the median of the runs after a first one on a small picture (on
a GPU, on the same picture); CPU seconds, what the process used in the meantime. Memory is what a part takes beyond the
loaded model, whose own size is printed below. Operations are counted on the networks' shapes, a multiplication and an
addition being two; the entropy coder has none worth counting.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple, TypeVar

import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

import rdeic
from rdeic import checkpoints, registry
from rdeic.config import ModelConfig
from rdeic.evaluation import report
from rdeic.model import Rdeic

PRECISIONS = {"fp16": torch.float16, "bf16": torch.bfloat16, "fp32": torch.float32}
SIZES = "512x512,768x512,1920x1080"
STEP = 150  # a timestep index like any other
Made = TypeVar("Made")


class Size(NamedTuple):
    width: int
    height: int

    def padded(self, multiple: int) -> Size:
        return Size(*(-(-side // multiple) * multiple for side in self))


WARM_UP = Size(128, 128)  # on a CPU, where the size does not choose the algorithms


class Row(NamedTuple):
    size: str
    part: str
    seconds: float  # median
    cpu_seconds: float
    memory: float | None  # bytes beyond the loaded model; None: not known on this system
    operations: float  # 0: not counted


class Meter:
    """Time and memory of calls on one device."""

    def __init__(self, device: torch.device, runs: int) -> None:
        self.device, self.runs = device, runs

    def measure(self, size: str, part: str, operations: float, work: Callable[[], Made]) -> tuple[Row, Made]:
        seconds, cpu_seconds, memory = [], [], []
        for _ in range(self.runs):
            before = self._start()
            start, cpu_start = time.perf_counter(), time.process_time()
            made = work()
            if self.device.type == "cuda":
                torch.cuda.synchronize(self.device)
            seconds.append(time.perf_counter() - start)
            cpu_seconds.append(time.process_time() - cpu_start)
            memory.append(self._peak() - before)
        extra = max(memory) if self._peak() else None
        row = Row(size, part, statistics.median(seconds), statistics.median(cpu_seconds), extra, operations)
        return row, made

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


def parts(model: Rdeic, size: Size, meter: Meter) -> list[Row]:
    """One picture through everything, one denoising step of it."""
    padded, name = size.padded(model.config.hyper_stride), f"{size.width}x{size.height}"
    counted = Operations.of(model.config, padded)
    x = smooth(padded, meter.device)

    def run(part: str, operations: float, work: Callable[[], Made]) -> Made:
        row, made = meter.measure(name, part, operations, work)
        rows.append(row)
        return made

    rows: list[Row] = []
    f = run("VAE encode", counted.encode, lambda: model.autoencoder.feature(x))
    coded = run("compress: f to bits", 0.0, lambda: model.encode(model.compression.g_a(f), 0))
    features = run("decompress: bits to z_c", 0.0, lambda: model.decode(coded, 0))
    t = torch.full((1,), STEP, device=meter.device)
    run(
        "U-Net + control step",
        counted.step,
        lambda: model.predict_noise(features.z_c, t, features.guide),
    )
    run("VAE decode", counted.decode, lambda: model.autoencoder.decode(features.z_c))
    return rows


def smooth(size: Size, device: torch.device) -> Tensor:
    """A picture (1, 3, H, W) in [-1, 1] without an edge."""
    generator = torch.Generator().manual_seed(0)
    coarse = torch.rand(1, 3, -(-size.height // 32), -(-size.width // 32), generator=generator)
    fine = torch.nn.functional.interpolate(coarse, (size.height, size.width), mode="bicubic")
    return (fine * 2 - 1).clamp(-1, 1).to(device)


def weight_bytes(model: Rdeic) -> int:
    return sum(value.nbytes for value in model.state_dict().values())


def table(rows: list[Row]) -> str:
    header = ("part", "seconds", "CPU seconds", "TFLOP", "TFLOP/s", "memory")
    lines = [
        (
            row.part,
            f"{row.seconds:.3f}",
            f"{row.cpu_seconds:.2f}",
            f"{row.operations / 1e12:.2f}" if row.operations else "",
            f"{row.operations / row.seconds / 1e12:.3f}" if row.operations else "",
            "" if row.memory is None else f"{row.memory / 2**30:.2f} GiB",
        )
        for row in rows
    ]
    return report.markdown(header, lines)


def run(options: argparse.Namespace) -> None:
    if options.threads:
        torch.set_num_threads(options.threads)
    device, precision = torch.device(options.device), PRECISIONS.get(options.precision)
    folder = registry.find(options.model)
    loading, (model, _) = Meter(device, 1).measure(
        "", "load", 0.0, lambda: checkpoints.load_model(folder, device, precision=precision)
    )
    meter, rows = Meter(device, options.runs), [loading]
    for size in options.sizes:
        with torch.inference_mode():
            parts(model, size if device.type == "cuda" else WARM_UP, Meter(device, 1))
            found = parts(model, size, meter)
        print(f"{size.width}x{size.height}\n\n{table(found)}\n", flush=True)
        rows += found
    held = weight_bytes(model) / 2**30
    remarks = [
        f"`{report.command()}`",
        report.machine(),
        f"{device}, {model.precision}, runs: {options.runs}; the loaded weights: {held:.2f} GiB",
    ]
    print(table([loading]), *remarks, sep="\n\n")
    if options.output:
        report.write_csv(options.output, Row._fields, rows, remarks)


def sizes(text: str) -> list[Size]:
    return [Size(*map(int, one.split("x"))) for one in text.split(",")]


def parser() -> argparse.ArgumentParser:
    options = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    options.add_argument("model", metavar="MODEL", help="an installed model's name, or a model folder")
    options.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    options.add_argument("--precision", choices=PRECISIONS, help="default: as `rdeic` would choose")
    options.add_argument("--sizes", type=sizes, default=sizes(SIZES), metavar="WxH,...")
    options.add_argument("--runs", type=int, default=1)
    options.add_argument("--threads", type=int, help="default: torch's own choice")
    options.add_argument("-o", "--output", type=Path, metavar="CSV")
    return options


if __name__ == "__main__":
    try:
        run(parser().parse_args())
    except rdeic.RdeicError as error:
        sys.exit(f"full_size: {error}")

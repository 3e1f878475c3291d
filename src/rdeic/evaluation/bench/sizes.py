"""What a picture costs by its size, the program from the shell, and the range coder alone.

Each size and direction has a process of its own (`one_size.py`), which does not know what came before.
"""

from __future__ import annotations

import json
import math
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from rdeic.entropy import tables
from rdeic.entropy.coder import SymbolDecoder, SymbolEncoder
from rdeic.errors import ConfigError, ImageError
from rdeic.evaluation.bench import drawing, times
from rdeic.evaluation.bench.drawing import Line, Panel
from rdeic.evaluation.bench.one_size import Found, Task
from rdeic.evaluation.bench.subject import Subject
from rdeic.evaluation.report import Table
from rdeic.pictures import images
from rdeic.system import memory

_PROGRAM_BYTES = 700_000_000  # Python, torch and a small model, at the most
_STEP = 64  # pixels, of which generated sides are multiples
_ASPECT = 1.5
_PASS = 15_000  # symbols that the range coder is given at a time


class Cost(NamedTuple):
    """Time and memory of one direction at one size."""

    seconds: float  # median of the runs
    per_megapixel: float
    peak_bytes: int  # of the whole process, or of the GPU


class SizeCosts(NamedTuple):
    """Both directions at one size."""

    width: int
    height: int
    file_bytes: int
    compress: Cost
    restore: Cost

    @property
    def megapixels(self) -> float:
        """Pixels in units of 10^6."""
        return self.width * self.height / 1e6


class ColdStart(NamedTuple):
    """Seconds of the program from the shell, all start-up included: medians."""

    compress: float
    decompress: float


class CoderSpeed(NamedTuple):
    """The range coder alone, on one picture's symbols."""

    symbols: int
    stream_bytes: int
    encode: float  # million symbols a second, of the fastest run
    decode: float


class Bench(NamedTuple):
    """What is measured with, and who hears of it."""

    model: str
    device: str | None
    quality: float
    runs: int
    advance: Callable[[], None]  # once for each size
    remark: Callable[[str], None]


def measure(bench: Bench, megapixels: Sequence[float]) -> list[SizeCosts]:
    """A row for each size; one that memory is too short for is a remark instead.

    Raises ConfigError for a model that is not there.
    """
    subject = Subject(bench.model, bench.device)
    rows = []
    for wanted in megapixels:
        width, height = sides(wanted)
        if (reason := _too_large(subject, width, height)) is not None:
            bench.remark(f"{wanted:g} megapixels: left out: {reason}")
        else:
            try:
                rows.append(_one(bench, width, height))
            except ConfigError as error:
                bench.remark(f"{wanted:g} megapixels: left out: {error}")
        bench.advance()
    return rows


def sides(megapixels: float) -> tuple[int, int]:
    """Width and height, 3 to 2, of about so many pixels."""
    height = max(1, round(math.sqrt(megapixels * 1e6 / _ASPECT) / _STEP)) * _STEP
    return max(1, round(megapixels * 1e6 / height / _STEP)) * _STEP, height


def cold_start(bench: Bench, width: int, height: int) -> ColdStart:
    """`rdeic compress` and `rdeic decompress`, each run a process. Raises ConfigError if they fail."""
    with tempfile.TemporaryDirectory() as name:
        picture, file, restored = (str(Path(name, one)) for one in ("a.png", "a.rdeic", "b.png"))
        images.write(times.texture(width, height), picture, "png")
        where = ["--model", bench.model, *(["--device", bench.device] if bench.device else [])]
        made, back = [], []
        for _ in range(bench.runs):
            made.append(_program("compress", picture, "-o", file, *where))
            back.append(_program("decompress", file, "-o", restored, *where))
        return ColdStart(statistics.median(made), statistics.median(back))


def coder_speed(bench: Bench, width: int, height: int) -> CoderSpeed:
    """Times the range coder on the symbols of a generated picture. Raises what the codec raises."""
    subject, picture = Subject(bench.model, bench.device), times.texture(width, height)
    latent = subject.latent(subject.make(picture, bench.quality), picture)
    symbols = latent.symbols.ravel().astype(np.int32)
    scales = tables.scale_index(latent.sigma.ravel())
    cuts = range(0, symbols.size, _PASS)
    encoding, decoding = [], []
    for _ in range(max(3, bench.runs)):
        start = time.perf_counter()
        encoder = SymbolEncoder()
        for cut in cuts:
            encoder.encode(symbols[cut : cut + _PASS], scales[cut : cut + _PASS])
        stream = encoder.finish()
        between = time.perf_counter()
        decoder = SymbolDecoder(stream)
        for cut in cuts:
            decoder.decode(scales[cut : cut + _PASS])
        decoder.finish()
        encoding.append(between - start)
        decoding.append(time.perf_counter() - between)
    count = symbols.size
    return CoderSpeed(count, len(stream), count / min(encoding) / 1e6, count / min(decoding) / 1e6)


def table(rows: Sequence[SizeCosts]) -> Table:
    """The costs as rows of a Markdown table, one for each size."""
    header = (
        "megapixels",
        "pixels",
        "bytes",
        *("compress (s)", "s per MP", "peak (MB)", "restore (s)", "s per MP", "peak (MB)"),
    )
    lines = [
        (
            f"{row.megapixels:.2f}",
            f"{row.width}x{row.height}",
            f"{row.file_bytes:,}",
            *(
                text
                for cost in (row.compress, row.restore)
                for text in (
                    f"{cost.seconds:.2f}",
                    f"{cost.per_megapixel:.2f}",
                    f"{cost.peak_bytes / 1e6:,.0f}",
                )
            ),
        )
        for row in rows
    ]
    return Table(header, lines)


def plot(path: Path, rows: Sequence[SizeCosts]) -> None:
    """Seconds per megapixel and peak memory over the size. Raises ConfigError without matplotlib, or without rows."""
    if not rows:
        raise ConfigError(f"{path}: no size was measured, so there is nothing to draw")
    x = [row.megapixels for row in rows]
    seconds = [
        Line("compress", x, [row.compress.per_megapixel for row in rows]),
        Line("restore", x, [row.restore.per_megapixel for row in rows]),
    ]
    peaks = [
        Line("compress", x, [row.compress.peak_bytes / 1e9 for row in rows]),
        Line("restore", x, [row.restore.peak_bytes / 1e9 for row in rows]),
    ]
    ticks = [float(f"{one:.2g}") for one in x]
    panels = [
        Panel("seconds per megapixel", "megapixels", seconds, ticks),
        Panel("peak memory, GB", "megapixels", peaks, ticks),
    ]
    drawing.curves(path, panels, columns=2)


def _too_large(subject: Subject, width: int, height: int) -> str | None:
    """Why not to try a size: Linux would kill a process for it."""
    try:
        free, needed = memory.free(), subject.memory_for(width, height) + _PROGRAM_BYTES
    except ImageError as error:  # there is not enough for any way to cut it up
        return str(error)
    if free is None or needed <= free:
        return None
    return f"takes about {needed / 1e9:.1f} GB of memory, {free / 1e9:.1f} GB are free"


def _one(bench: Bench, width: int, height: int) -> SizeCosts:
    with tempfile.TemporaryDirectory() as name:
        file = Path(name, "a.rdeic")
        costs = []
        for compress in (True, False):
            task = Task(
                compress, bench.model, bench.device, width, height, bench.quality, bench.runs, str(file)
            )
            found = _in_own_process(task)
            seconds = statistics.median(found.seconds)
            costs.append(Cost(seconds, seconds / (width * height / 1e6), found.peak_bytes))
        return SizeCosts(width, height, file.stat().st_size, *costs)


def _in_own_process(task: Task) -> Found:
    """Raises ConfigError if the process ends without a result."""
    command = [sys.executable, "-m", f"{__package__}.one_size", json.dumps(task._asdict())]
    return Found(**json.loads(_output(command).splitlines()[-1]))


def _program(*arguments: str) -> float:
    start = time.perf_counter()
    _output([sys.executable, "-m", "rdeic", *arguments, "--force"])
    return time.perf_counter() - start


def _output(command: list[str]) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        words = done.stderr.strip().splitlines()
        raise ConfigError(words[-1] if words else f"its process ended with status {done.returncode}")
    return done.stdout

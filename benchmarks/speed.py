"""What one picture costs beside coding itself: loading, searching for a size, and the command line with nothing loaded.

    python benchmarks/speed.py [PICTURE] [--model NAME|DIR] [--runs 5] [--threads 2] [-o speed.csv]

Coding itself, stage by stage, is measured by `rdeic bench`. Printed is a Markdown table. The baseline is float32:
inside a program they take turns, run by run. Inside a program the model is loaded once, before the clock starts. From
the command line each run is a new process, so that Python, torch and the weights are part of the time; its peak memory
is that of the whole process. The first is not counted, and may leave compiled bytecode, as an installation does.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple, ParamSpec

import numpy as np

import launch
import program
import rdeic
from rdeic.checkpoints import checkpoints, registry
from rdeic.evaluation import report
from rdeic.pictures import images

P = ParamSpec("P")
FLOAT32 = ("fp32", "fp32")  # the precisions of a codec


class Row(NamedTuple):
    what: str
    seconds: float  # median
    fastest: float
    slowest: float
    peak_mb: float | None  # largest of all runs; None: not measured alone
    ratio: float | None = None  # of the medians, to the row in float32; None: has none


def inside(what: str, runs: int, work: Callable[P, object], *args: P.args, **kwargs: P.kwargs) -> Row:
    work(*args, **kwargs)  # the first run also tunes and allocates
    seconds = []
    for _ in range(runs):
        start = time.perf_counter()
        work(*args, **kwargs)
        seconds.append(time.perf_counter() - start)
    return row(what, seconds)


def row(what: str, seconds: list[float], peak_mb: float | None = None) -> Row:
    return Row(what, statistics.median(seconds), min(seconds), max(seconds), peak_mb)


def beside(plain: Row, other: Row) -> list[Row]:
    return [plain, other._replace(ratio=other.seconds / plain.seconds)]


def in_turn(what: str, runs: int, plain: Callable[[], object], fast: Callable[[], object]) -> list[Row]:
    """The same in float32 and by default, one after the other `runs` times."""
    seconds: tuple[list[float], list[float]] = ([], [])
    for number in range(runs + 1):
        for work, found in zip((plain, fast), seconds, strict=True):
            start = time.perf_counter()
            work()
            if number:  # the first run also tunes and allocates
                found.append(time.perf_counter() - start)
    return beside(row(f"{what}, fp32", seconds[0]), row(what, seconds[1]))


def cold(what: str, runs: int, arguments: list[str]) -> Row:
    """`arguments` of a Python interpreter, each time a new one."""
    costs = [launch.cost(arguments) for _ in range(runs + 1)]
    peak = max(one.peak_bytes for one in costs)
    return row(what, [one.seconds for one in costs[1:]], peak / 1e6)


def imported(runs: int) -> Row:
    """`import rdeic` alone: without the interpreter's own start."""
    program = "import time; t = time.perf_counter(); import rdeic; print(time.perf_counter() - t)"
    seconds = [float(subprocess.check_output([sys.executable, "-c", program])) for _ in range(runs)]
    return row("import rdeic", seconds)


def program_rows(model: str, picture: images.Picture, runs: int) -> list[Row]:
    plain, fast = rdeic.load(model, "cpu", None, *FLOAT32), rdeic.load(model, "cpu")
    blob = plain.compress(picture)
    bpp = rdeic.inspect(blob).bpp

    def both(what: str, work: Callable[[rdeic.Codec], object]) -> list[Row]:
        return in_turn(what, runs, lambda: work(plain), lambda: work(fast))

    return [
        inside("load the model", runs, checkpoints.load_model, registry.find(model), "cpu"),
        *both("compress", lambda codec: codec.compress(picture)),
        *both(f"compress, search for {bpp:.3f} bpp", lambda codec: codec.compress(picture, bpp=bpp)),
        *both("decompress", lambda codec: codec.decompress(blob)),
        *both("decompress, --detail 1.2", lambda codec: codec.decompress(blob, detail=1.2)),
    ]


def cold_rows(model: str, picture: Path, runs: int) -> list[Row]:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        file, restored, again = folder / "file.rdeic", folder / "restored.png", folder / "again.rdeic"
        file.write_bytes(rdeic.load(model, "cpu").compress(picture))
        program = ["-m", "rdeic"]
        common = ["--model", model, "--device", "cpu", "-f"]
        compress = [*program, "compress", str(picture), "-o", str(again), *common]
        decompress = [*program, "decompress", str(file), "-o", str(restored), *common]
        return [
            cold("python -c pass", runs, ["-c", "pass"]),
            cold("python -c 'import torch'", runs, ["-c", "import torch"]),
            imported(runs),
            cold("rdeic --help", runs, [*program, "--help"]),
            cold("rdeic info FILE", runs, [*program, "info", str(file)]),
            *beside(
                cold("rdeic compress PICTURE, fp32", runs, [*compress, "--encoder-precision", "fp32"]),
                cold("rdeic compress PICTURE", runs, compress),
            ),
            *beside(
                cold("rdeic decompress FILE, fp32", runs, [*decompress, "--precision", "fp32"]),
                cold("rdeic decompress FILE", runs, decompress),
            ),
        ]


def differences(model: str, picture: images.Picture) -> str:
    """What the default costs, in a line: PSNR of its pictures from those in float32, and its files beside theirs."""
    plain, fast = rdeic.load(model, "cpu", None, *FLOAT32), rdeic.load(model, "cpu")
    found = []
    for quality in (0, 50, 100):
        blob, other = plain.compress(picture, quality), fast.compress(picture, quality)
        a, b = (np.asarray(codec.decompress(blob), np.float64) for codec in (plain, fast))
        psnr = 10 * np.log10(255**2 / np.mean((a - b) ** 2))
        found.append(f"{quality}: {psnr:.1f} dB, {len(blob)} and {len(other)} bytes")
    return f"by default from float32, at quality {'; '.join(found)}"


def table(rows: list[Row]) -> str:
    header = ("what", "median", "fastest", "slowest", "to fp32", "peak memory")
    lines = [
        (
            row.what,
            f"{row.seconds:.3f} s",
            f"{row.fastest:.3f} s",
            f"{row.slowest:.3f} s",
            "" if row.ratio is None else f"{row.ratio:.2f}",
            "" if row.peak_mb is None else f"{row.peak_mb:.0f} MB",
        )
        for row in rows
    ]
    return report.markdown(header, lines)


def run(options: argparse.Namespace) -> None:
    program.use_threads(options.threads)
    if options.threads:
        os.environ["OMP_NUM_THREADS"] = str(options.threads)  # of the processes started below
    # Without bytecode, Python would compile our hundred modules at each start: an eighth of a second.
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    picture = images.read(options.picture)
    rows = program_rows(options.model, picture, options.runs)
    rows += cold_rows(options.model, options.picture, options.runs)
    height, width, _ = picture.shape
    remarks = program.remarks(
        f"{width}x{height} pixels, {options.runs} runs each; load average before: {os.getloadavg()[0]:.1f}",
        differences(options.model, picture),
    )
    program.tell(table(rows), remarks, options.output, Row._fields, rows)


def parser() -> argparse.ArgumentParser:
    options = program.parser(__doc__, "--model", "--runs", "--threads", "-o --output")
    options.add_argument("picture", type=Path, nargs="?", default=program.EXAMPLE, metavar="PICTURE")
    return options


if __name__ == "__main__":
    program.leave(lambda: run(parser().parse_args()), subprocess.CalledProcessError)

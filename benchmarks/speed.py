"""What one picture costs beside coding itself: loading, searching for a size, and the command line with nothing loaded.

    python benchmarks/speed.py [PICTURE] [--model NAME|DIR] [--runs 5] [--threads 2] [-o speed.csv]

Coding itself, stage by stage, is measured by `rdeic bench`. Printed is a Markdown table of medians. Inside a program
the model is loaded once, before the clock starts. From the command line each run is a new process, so that Python,
torch and the weights are part of the time; its peak memory is that of the whole process.
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

import torch

import rdeic
from rdeic import checkpoints, images, registry
from rdeic.evaluation import report

P = ParamSpec("P")
EXAMPLE = Path(__file__).resolve().parent.parent / "examples" / "kodim23.png"  # 768x512
# A process's peak memory begins with that of the one that started it, so a small one must do that, not this one.
LAUNCHER = """
import os, sys, time
silent = [(os.POSIX_SPAWN_OPEN, 1, os.devnull, os.O_WRONLY, 0)]
start = time.perf_counter()
child = os.posix_spawn(sys.executable, [sys.executable, *sys.argv[1:]], os.environ, file_actions=silent)
_, status, usage = os.wait4(child, 0)
print(time.perf_counter() - start, usage.ru_maxrss)
sys.exit(os.waitstatus_to_exitcode(status))
"""
MAXRSS_UNIT = 1 if sys.platform == "darwin" else 1024  # bytes


class Row(NamedTuple):
    what: str
    seconds: float  # median
    slowest: float
    peak_mb: float | None  # largest of all runs; None: not measured alone


def inside(what: str, runs: int, work: Callable[P, object], *args: P.args, **kwargs: P.kwargs) -> Row:
    work(*args, **kwargs)  # the first run also tunes and allocates
    seconds = []
    for _ in range(runs):
        start = time.perf_counter()
        work(*args, **kwargs)
        seconds.append(time.perf_counter() - start)
    return Row(what, statistics.median(seconds), max(seconds), None)


def cold(what: str, runs: int, arguments: list[str]) -> Row:
    """`arguments` of a Python interpreter, each time a new one."""
    seconds, peaks = [], []
    for _ in range(runs):
        line = subprocess.check_output([sys.executable, "-c", LAUNCHER, *arguments])
        elapsed, peak = line.split()
        seconds.append(float(elapsed))
        peaks.append(int(peak) * MAXRSS_UNIT / 1e6)
    return Row(what, statistics.median(seconds), max(seconds), max(peaks))


def imported(runs: int) -> Row:
    """`import rdeic` alone: without the interpreter's own start."""
    program = "import time; t = time.perf_counter(); import rdeic; print(time.perf_counter() - t)"
    seconds = [float(subprocess.check_output([sys.executable, "-c", program])) for _ in range(runs)]
    return Row("import rdeic", statistics.median(seconds), max(seconds), None)


def program_rows(codec: rdeic.Codec, folder: Path, picture: images.Picture, runs: int) -> list[Row]:
    blob = codec.compress(picture)
    bpp = rdeic.inspect(blob).bpp
    return [
        inside("load the model", runs, checkpoints.load_model, folder, "cpu"),
        inside(f"compress, search for {bpp:.3f} bpp", runs, codec.compress, picture, bpp=bpp),
        inside("decompress, 2 steps, --detail 1.2", runs, codec.decompress, blob, detail=1.2, steps=2),
    ]


def cold_rows(codec: rdeic.Codec, model: str, picture: Path, runs: int) -> list[Row]:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        file, restored = folder / "file.rdeic", folder / "restored.png"
        file.write_bytes(codec.compress(picture))
        program = ["-m", "rdeic"]
        compress = [
            *program,
            "compress",
            str(picture),
            "--model",
            model,
            "-o",
            str(folder / "again.rdeic"),
            "-f",
        ]
        decompress = [*program, "decompress", str(file), "--model", model, "-o", str(restored), "-f"]
        return [
            cold("python -c pass", runs, ["-c", "pass"]),
            imported(runs),
            cold("rdeic --help", runs, [*program, "--help"]),
            cold("rdeic info FILE", runs, [*program, "info", str(file)]),
            cold("rdeic compress PICTURE", runs, compress),
            cold("rdeic decompress FILE", runs, decompress),
        ]


def table(rows: list[Row]) -> str:
    header = ("what", "median", "slowest", "peak memory")
    lines = [
        (
            row.what,
            f"{row.seconds:.3f} s",
            f"{row.slowest:.3f} s",
            "" if row.peak_mb is None else f"{row.peak_mb:.0f} MB",
        )
        for row in rows
    ]
    return report.markdown(header, lines)


def run(options: argparse.Namespace) -> None:
    if options.threads:
        torch.set_num_threads(options.threads)
        os.environ["OMP_NUM_THREADS"] = str(options.threads)  # of the processes started below
    codec, folder = rdeic.load(options.model, "cpu"), registry.find(options.model)
    picture = images.read(options.picture)
    rows = program_rows(codec, folder, picture, options.runs)
    rows += cold_rows(codec, options.model, options.picture, options.runs)
    height, width, _ = picture.shape
    remarks = [
        f"`{report.command()}`",
        report.machine(),
        f"{width}x{height} pixels, {options.runs} runs each; load average before: {os.getloadavg()[0]:.1f}",
    ]
    print(table(rows), *remarks, sep="\n\n")
    if options.output:
        report.write_csv(options.output, Row._fields, rows, remarks)


def parser() -> argparse.ArgumentParser:
    options = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    options.add_argument("picture", type=Path, nargs="?", default=EXAMPLE, metavar="PICTURE")
    options.add_argument("--model", default="mini", metavar="NAME|DIR")
    options.add_argument("--runs", type=int, default=5)
    options.add_argument("--threads", type=int, help="default: torch's own choice")
    options.add_argument("-o", "--output", type=Path, metavar="CSV")
    return options


if __name__ == "__main__":
    try:
        run(parser().parse_args())
    except (rdeic.RdeicError, subprocess.CalledProcessError) as error:
        sys.exit(f"speed: {error}")

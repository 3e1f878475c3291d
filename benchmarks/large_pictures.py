"""Seconds and peak memory of compressing and restoring large pictures, each in a process of its own, as users start it.

    python benchmarks/large_pictures.py [PHOTOGRAPH] [--sizes 1,4,12,50,100] [--model NAME|DIR] [--threads 2]
        [--max-memory 2GB] [-o large_pictures.csv]

SIZES are megapixels. The pictures are made from the photograph: mirrored side by side until they are large enough, each
time at another brightness and contrast, with grain of standard deviation 2 over all, so that nothing repeats. Times are
the clock's and the processor's; the latter depend less on what else the machine does. The peak is that of the whole
process, Python, torch and the weights included, and beside it is the estimate that `rdeic.codec.limits` makes of it.
"""

from __future__ import annotations

import argparse
import itertools
import math
import os
import subprocess
import tempfile
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

import launch
import program
from rdeic.checkpoints import registry
from rdeic.codec import limits
from rdeic.container.stored_size import Size
from rdeic.evaluation import report
from rdeic.pictures import images

GRAIN = 2.0
PROGRAM_BYTES = (
    450e6  # of Python, torch and mini's weights, which the estimate is about what comes in addition to
)


class Row(NamedTuple):
    direction: str
    megapixels: float
    seconds: float
    cpu_seconds: float
    peak_gb: float
    estimate_gb: float
    file_bytes: int


def extent(megapixels: float) -> Size:
    """Of a picture as large, three quarters as high as it is wide."""
    width = round(math.sqrt(megapixels * 1e6 * 4 / 3))
    return Size(width, round(megapixels * 1e6 / width))


def picture(photograph: images.Picture, width: int, height: int) -> images.Picture:
    """(height, width, 3) uint8"""
    rng = np.random.default_rng(0)
    out = np.empty((height, width, 3), np.uint8)
    side_y, side_x = photograph.shape[:2]
    for row, column in itertools.product(range(-(-height // side_y)), range(-(-width // side_x))):
        piece = photograph[:: -1 if row % 2 else 1, :: -1 if column % 2 else 1].astype(np.float32)
        piece = piece[: height - row * side_y, : width - column * side_x]
        piece = (piece - 128) * rng.uniform(0.6, 1.1) + 128 + rng.uniform(-25, 25)
        piece += rng.normal(0, GRAIN, piece.shape)
        rows = slice(row * side_y, row * side_y + piece.shape[0])
        out[rows, column * side_x : column * side_x + piece.shape[1]] = piece.round().clip(0, 255)
    return out


def rows(megapixels: float, options: argparse.Namespace) -> list[Row]:
    size = extent(megapixels)
    config = registry.describe(registry.find(options.model)).config
    extra = [f"--max-memory={options.max_memory}"] if options.max_memory else []
    with tempfile.TemporaryDirectory() as name:
        source, file, restored = (Path(name) / one for one in ("a.png", "a.rdeic", "b.png"))
        made = picture(images.read(options.photograph), *size)
        Image.fromarray(made).save(source, compress_level=1)
        del made
        common = ["--model", options.model, *extra]
        compress = launch.cost(["-m", "rdeic", "compress", str(source), "-o", str(file), *common])
        decompress = launch.cost(["-m", "rdeic", "decompress", str(file), "-o", str(restored), *common])
        bytes_ = file.stat().st_size
    estimate = PROGRAM_BYTES + limits.needed_bytes(
        size, config, limits.plan(size, config, None), config.diffusion.default_steps
    )
    return [
        Row(what, megapixels, one.seconds, one.cpu_seconds, one.peak_bytes / 1e9, estimate / 1e9, bytes_)
        for what, one in (("compress", compress), ("decompress", decompress))
    ]


def table(found: list[Row]) -> str:
    header = (
        "",
        "megapixels",
        "seconds",
        "a megapixel",
        "CPU seconds a megapixel",
        "peak",
        "estimate",
        "file",
    )
    lines = [
        (
            row.direction,
            f"{row.megapixels:g}",
            f"{row.seconds:.1f}",
            f"{row.seconds / row.megapixels:.2f}",
            f"{row.cpu_seconds / row.megapixels:.2f}",
            f"{row.peak_gb:.2f} GB",
            f"{row.estimate_gb:.2f} GB",
            f"{row.file_bytes} bytes",
        )
        for row in found
    ]
    return report.markdown(header, lines)


def run(options: argparse.Namespace) -> None:
    if options.threads:
        os.environ["OMP_NUM_THREADS"] = str(options.threads)  # of the processes started below
    found = []
    for megapixels in options.sizes:
        found += rows(megapixels, options)
        print(table(found[-2:]), flush=True)
    load = f"load average before: {os.getloadavg()[0]:.1f}"
    remarks = [f"`{report.command()}`", report.host(), f"threads: {options.threads or 'all'}; {load}"]
    program.tell(f"\n\n{table(found)}", remarks, options.output, Row._fields, found)


def parser() -> argparse.ArgumentParser:
    options = program.parser(__doc__, "--model", "--threads", "-o --output")
    options.add_argument("photograph", type=Path, nargs="?", default=program.EXAMPLE, metavar="PHOTOGRAPH")
    options.add_argument("--sizes", type=program.numbers, default="1,4,12,50,100", metavar="MEGAPIXELS,...")
    options.add_argument("--max-memory", metavar="SIZE")
    return options


if __name__ == "__main__":
    program.leave(lambda: run(parser().parse_args()), subprocess.CalledProcessError)

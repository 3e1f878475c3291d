"""How far pictures that are restored in tiles and windows are from the same files' pictures restored whole.

    python benchmarks/tiled_error.py PICTURES [--pictures 6] [--sizes 2048x1536,3072x2048] [--model NAME|DIR]
        [--threads 2] [-o tiled_error.csv]

Each photograph is cropped to the shape, enlarged (Lanczos), and gets grain of standard deviation 2, as enlarging leaves
none. Both ways restore the bits of quality 50 in the precision that the CPU has by default. Steps are those of a
line's mean that tiles add, in levels of 255: the largest at a border of tiles, and the largest elsewhere, in the
direction where the former is the larger part of the latter.
"""

from __future__ import annotations

import argparse
import itertools
import statistics
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from PIL import Image, ImageOps

import program
from rdeic.checkpoints import registry
from rdeic.checkpoints.checkpoints import load_model
from rdeic.codec import decoder
from rdeic.container.stored_size import Size
from rdeic.errors import ConfigError
from rdeic.evaluation import report
from rdeic.model import precision, tiled
from rdeic.model.model import Rdeic
from rdeic.model.tiles import Tiling
from rdeic.pictures import images

GRAIN = 2.0
QUALITY = 128  # byte
PADDED = 64  # pixels; sides become multiples of it


class Row(NamedTuple):
    picture: str
    size: str
    psnr: float  # dB, of tiled to whole
    largest: int  # difference, levels
    step_at_borders: float  # levels, in the direction where it stands out more
    step_elsewhere: float  # in the same direction


def enlarged(path: Path, size: Size) -> images.Picture:
    """(height, width, 3)"""
    photograph = Image.fromarray(images.read(path))
    picture = np.asarray(ImageOps.fit(photograph, size, Image.Resampling.LANCZOS)).astype(np.float32)
    picture += np.random.default_rng(0).normal(0, GRAIN, picture.shape)
    return picture.round().clip(0, 255).astype(np.uint8)


def restored(
    model: Rdeic, picture: images.Picture, tiling: Tiling, steps: int
) -> tuple[images.Picture, images.Picture]:
    """One file's picture restored whole, and in tiles."""
    size = Size(picture.shape[1], picture.shape[0])
    padded = torch.from_numpy(images.pad(picture, PADDED)).permute(2, 0, 1)[None] / 127.5 - 1
    how = tiled.Restoring(lambda like: decoder.noises(0, like), steps, 1.0)
    with torch.inference_mode():
        coded = model.encode(model.analyse(padded), QUALITY)
        features = model.decode(coded, QUALITY)
        x = model.restore(features, how.noises(features.z_c), steps, 1.0)[0, :, : size.height, : size.width]
        return tiled.to_pixels(x), tiled.restore(model, coded, QUALITY, size, how, tiling)


def psnr(found: images.Picture, wanted: images.Picture) -> float:
    """dB; 148 for equal pictures"""
    error = np.square(found.astype(np.float64) - wanted).mean()
    return float(10 * np.log10(255**2 / max(error, 1e-10)))


def seams(found: images.Picture, whole: images.Picture, side: int, axis: int) -> tuple[float, float]:
    """The largest step of a line's mean that tiles added at their borders along an axis, and elsewhere; in levels."""
    added = np.diff(found.astype(np.float64) - whole, axis=axis)
    sizes = np.abs(added.mean(axis=(1 - axis, 2)))
    borders = np.arange(side, found.shape[axis], side) - 1
    return float(sizes[borders].max()), float(np.delete(sizes, borders).max())


def row(model: Rdeic, path: Path, size: Size, tiling: Tiling) -> Row:
    whole, found = restored(model, enlarged(path, size), tiling, model.config.diffusion.default_steps)
    both = [seams(found, whole, tiling.side, axis) for axis in (0, 1)]
    at_borders, elsewhere = max(both, key=lambda steps: steps[0] / steps[1])
    largest = int(np.abs(found.astype(int) - whole).max())
    return Row(path.stem, f"{size.width}x{size.height}", psnr(found, whole), largest, at_borders, elsewhere)


def table(rows: list[Row]) -> str:
    header = ("picture", "size", "tiled to whole", "at most", "step at borders", "elsewhere")
    lines = [
        (
            row.picture,
            row.size,
            f"{row.psnr:.1f} dB",
            str(row.largest),
            f"{row.step_at_borders:.3f}",
            f"{row.step_elsewhere:.3f}",
        )
        for row in rows
    ]
    return report.markdown(header, lines)


def run(options: argparse.Namespace) -> None:
    if min(itertools.chain(*options.sizes)) <= Tiling().side:
        raise ConfigError(
            f"without a border there is no step: --sizes must be larger than {Tiling().side} both ways"
        )
    program.use_threads(options.threads)
    cpu = torch.device("cpu")
    fast = precision.automatic(cpu, precision.capabilities())
    model, _ = load_model(registry.find(options.model), cpu, None, fast, fast)
    rows = []
    for size in options.sizes:
        for entry in program.scan(options.folder, options.pictures):
            rows.append(row(model, Path(entry.path), Size(*size), Tiling()))
            print(table(rows[-1:]).splitlines()[-1], flush=True)
    worst = min(rows, key=lambda row: row.psnr)
    middle = statistics.median(row.psnr for row in rows)
    remarks = program.remarks(
        f"worst: {worst.psnr:.1f} dB, {worst.picture} at {worst.size}; median: {middle:.1f} dB"
    )
    program.tell(f"\n\n{table(rows)}", remarks, options.output, Row._fields, rows)


def parser() -> argparse.ArgumentParser:
    options = program.parser(__doc__, "folder", "--pictures", "--model", "--threads", "-o --output")
    options.add_argument("--sizes", type=program.sizes, default="2048x1536,3072x2048", metavar="WxH,...")
    return options


if __name__ == "__main__":
    program.leave(lambda: run(parser().parse_args()))

"""Smoothness against sharpness (Fig. 10): one file at several lambda_s, and what changes with it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from analyses import maps
from rdeic.evaluation.bench import drawing
from rdeic.evaluation.bench.subject import Named, Subject
from rdeic.pictures.images import Picture

DETAILS = (0.0, 0.5, 1.0, 1.5, 2.0)
REFERENCE = 1.0  # what the others are compared with: how files are restored unless one says otherwise
WINDOW = (176, 144)  # pixels of the part shown, width and height
CLIP = 99.5  # percentile of the differences that is the end of their colour scale


class Sheet(NamedTuple):
    """A picture, its restorations and how far they are from that at `REFERENCE`."""

    image: str
    bpp: float
    original: Picture
    details: tuple[float, ...]
    restored: tuple[Picture, ...]
    differences: tuple[NDArray[np.float64], ...]  # (H, W) mean over colours of |restored - reference|, 0..255


def measure(subject: Subject, one: Named, quality: float, details: Sequence[float]) -> Sheet:
    """A file at quality 0..100, restored with each lambda_s. Raises ConfigError for one that is out of range."""
    blob = subject.make(one.picture, quality)
    reference = np.asarray(subject.decompress(blob, REFERENCE)).astype(np.float64)
    restored = tuple(np.asarray(subject.decompress(blob, detail)) for detail in details)
    differences = tuple(np.abs(picture - reference).mean(axis=2) for picture in restored)
    bpp = 8 * len(blob) / differences[0].size
    return Sheet(one.name, bpp, one.picture, tuple(details), restored, differences)


def cropped(sheet: Sheet, size: tuple[int, int]) -> Sheet:
    """The part of at most `size` (width, height) pixels where the sweep changes most."""
    height, width, _ = sheet.original.shape
    w, h = min(size[0], width), min(size[1], height)
    top, left = busiest(sum(sheet.differences, np.zeros((height, width))), w, h)
    rows, columns = slice(top, top + h), slice(left, left + w)
    return sheet._replace(
        original=sheet.original[rows, columns],
        restored=tuple(picture[rows, columns] for picture in sheet.restored),
        differences=tuple(difference[rows, columns] for difference in sheet.differences),
    )


def busiest(values: NDArray[np.float64], width: int, height: int) -> tuple[int, int]:
    """Top and left of the window of `width` x `height` with the largest sum of `values` (H, W)."""
    total = np.pad(values, ((1, 0), (1, 0))).cumsum(axis=0).cumsum(axis=1)
    sums = (
        total[height:, width:] - total[:-height, width:] - total[height:, :-width] + total[:-height, :-width]
    )
    top, left = np.unravel_index(int(np.argmax(sums)), sums.shape)
    return int(top), int(left)


def draw(path: Path, sheet: Sheet) -> None:
    """The original and every restoration above their differences. Raises what `drawing.figure` raises."""
    columns = len(sheet.details) + 1
    height, width, _ = sheet.original.shape
    limit = max(1.0, float(np.percentile(np.stack(sheet.differences), CLIP)))
    with drawing.figure(path, columns * width / drawing.DPI + 0.9, 2 * (height / drawing.DPI + 0.3)) as made:
        grid = made.subplots(2, columns, squeeze=False)
        maps.bare(grid[0, 0], f"original, {Path(sheet.image).stem}")
        grid[0, 0].imshow(sheet.original, interpolation="nearest")
        grid[1, 0].remove()
        for column, detail in enumerate(sheet.details, start=1):
            above, below = grid[0, column], grid[1, column]
            maps.bare(above, f"lambda_s = {detail:g}")
            above.imshow(sheet.restored[column - 1], interpolation="nearest")
            difference = sheet.differences[column - 1]
            maps.bare(
                below, "reference" if detail == REFERENCE else f"mean difference {difference.mean():.1f}"
            )
            image = below.imshow(difference, cmap=maps.COLOURS, vmin=0, vmax=limit)
        bar = made.colorbar(image, ax=list(grid[1, 1:]), extend="max", pad=0.01, panchor=False)
        bar.set_label("difference, of 255", fontsize=9)

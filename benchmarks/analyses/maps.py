"""Maps over the positions of y: on pictures, or as numbers around a position."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from rdeic.evaluation.bench import drawing
from rdeic.evaluation.bench.subject import Subject
from rdeic.pictures.images import Picture

if TYPE_CHECKING:
    from matplotlib.axes import Axes

COLOURS = "viridis"
SIGNED_COLOURS = "RdBu_r"


class Matrix(NamedTuple):
    """Values over the offsets -r..r, rows first."""

    title: str
    values: NDArray[np.float64]  # (2r + 1, 2r + 1)


def positions(subject: Subject, picture: Picture) -> tuple[int, int]:
    """Rows and columns of y that a picture (H, W, 3) itself covers, the padding left out."""
    stride = subject.config.y_stride
    return -(-picture.shape[0] // stride), -(-picture.shape[1] // stride)


def bare(axes: Axes, title: str) -> None:
    """Axes that hold a picture: no ticks, no frame."""
    axes.set_title(title, fontsize=9)
    axes.set_xticks([])
    axes.set_yticks([])
    axes.grid(visible=False)
    for spine in axes.spines.values():
        spine.set_visible(False)


def matrices(path: Path, rows: Sequence[Sequence[Matrix]], label: str) -> None:
    """Square maps of values around zero, each with its numbers, on one scale, which the middle (1) is left out of.

    Offsets count from the middle. Raises what `drawing.figure` raises.
    """
    limit = max(_off_centre(matrix.values) for row in rows for matrix in row)
    with drawing.figure(path, 3.0 * len(rows[0]) + 1.0, 3.2 * len(rows)) as made:
        grid = made.subplots(len(rows), len(rows[0]), squeeze=False)
        for axes, matrix in zip(grid.flat, (matrix for row in rows for matrix in row), strict=True):
            image = axes.imshow(matrix.values, cmap=SIGNED_COLOURS, vmin=-limit, vmax=limit)
            _annotate(axes, matrix, limit)
        for axes in grid[-1]:
            axes.set_xlabel("columns apart")
        for axes in grid[:, 0]:
            axes.set_ylabel("rows apart")
        made.colorbar(
            image, ax=list(grid.flat), label=label, shrink=0.8 / len(rows), extend="max", panchor=False
        )


def _annotate(axes: Axes, matrix: Matrix, limit: float) -> None:
    radius = matrix.values.shape[0] // 2
    offsets = [f"{offset:+d}" if offset else "0" for offset in range(-radius, radius + 1)]
    axes.set_title(matrix.title)
    axes.set_xticks(range(2 * radius + 1), offsets)
    axes.set_yticks(range(2 * radius + 1), offsets)
    axes.grid(visible=False)
    for (row, column), value in np.ndenumerate(matrix.values):
        text = "1" if row == column == radius else f"{value:+.2f}"
        colour = "white" if abs(value) > 0.6 * limit else "black"
        axes.text(column, row, text, ha="center", va="center", fontsize=8, color=colour)


def _off_centre(values: NDArray[np.float64]) -> float:
    """Largest magnitude outside the middle, at least a hundredth."""
    return max(0.01, float(np.abs(np.delete(values.ravel(), values.size // 2)).max()))

"""How the analyses look: curves in panels, and maps in numbers or on pictures. matplotlib is imported when drawing."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from rdeic.errors import ConfigError, ImageError
from rdeic.system import files

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Okabe and Ito's colours, told apart by all kinds of colour vision; yellow left out, as it vanishes on white.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#000000")
MARKERS = ("o", "s", "^", "D", "v", "P", "X")
DASHES = ("-", "--", "-.", (0, (1, 1)), (0, (5, 1, 1, 1, 1, 1)), (0, (7, 2)), "-")
MAP_COLOURS = "viridis"
SIGNED_COLOURS = "RdBu_r"
DPI = 110  # of pictures; curves have no pixels
JPEG_QUALITY = 88
_STYLE: dict[Any, Any] = {
    "font.size": 10,
    "font.sans-serif": ["DejaVu Sans", "Verdana"],
    "axes.titlesize": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.alpha": 0.3,
    "grid.linewidth": 0.6,
    "lines.linewidth": 1.6,
    "lines.markersize": 5,
    "svg.fonttype": "none",  # text stays text, and the file small; readers' fonts are hardly wider than DejaVu
    "svg.hashsalt": "rdeic",  # the same numbers make the same file
    "savefig.facecolor": "white",
}


class Line(NamedTuple):
    """One curve of a panel, in the order it is to be joined."""

    label: str  # the same in every panel; in the legend once
    x: Sequence[float]
    y: Sequence[float]


class Panel(NamedTuple):
    """One pair of axes."""

    title: str
    x_label: str
    lines: Sequence[Line]
    ticks: Sequence[
        float
    ] = ()  # on the x axis, which is then logarithmic; empty: linear, matplotlib's choice


class Matrix(NamedTuple):
    """Values over the offsets -r..r, rows first."""

    title: str
    values: NDArray[np.float64]  # (2r + 1, 2r + 1)


@contextlib.contextmanager
def figure(path: Path, width: float, height: float) -> Iterator[Figure]:
    """An empty figure of `width` x `height` inches that is written to `path` at the end, atomically.

    The suffix says how: .svg, .png or .jpg. Raises ConfigError without matplotlib, ImageError if the disk fails.
    """
    try:
        import matplotlib as mpl
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ConfigError("figures need matplotlib: pip install 'rdeic[eval]'") from error
    kind = path.suffix.removeprefix(".")
    with mpl.rc_context(_STYLE):
        made = Figure(figsize=(width, height), layout="constrained", dpi=DPI)
        yield made
        buffer = io.BytesIO()
        if kind == "svg":
            made.savefig(buffer, format=kind, metadata={"Date": None})
        else:
            made.savefig(buffer, format=kind, pil_kwargs={"quality": JPEG_QUALITY} if kind == "jpg" else {})
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        files.atomic_write(path, buffer.getvalue())
    except OSError as error:
        raise ImageError(f"{path}: cannot be written: {error.strerror or error}") from error


def curves(path: Path, panels: Sequence[Panel], columns: int) -> None:
    """Panels in rows of `columns`, with one legend. Raises what `figure` raises."""
    labels = list(dict.fromkeys(line.label for panel in panels for line in panel.lines))
    rows = -(-len(panels) // columns)
    with figure(path, 3.4 * columns, 2.7 * rows + 0.5) as made:
        grid = made.subplots(rows, columns, squeeze=False)
        for axes, panel in zip(grid.flat, panels, strict=False):
            _panel(axes, panel, labels)
        for axes in grid.flat[len(panels) :]:
            axes.set_axis_off()
        if len(labels) > 1:
            _legend(made, labels, list(grid.flat[len(panels) :]))


def matrices(path: Path, rows: Sequence[Sequence[Matrix]], label: str) -> None:
    """Square maps of values around zero, each with its numbers, on one scale, which the middle (1) is left out of.

    Offsets count from the middle. Raises what `figure` raises.
    """
    limit = max(_off_centre(matrix.values) for row in rows for matrix in row)
    with figure(path, 3.0 * len(rows[0]) + 1.0, 3.2 * len(rows)) as made:
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


def bare(axes: Axes, title: str) -> None:
    """Axes that hold a picture: no ticks, no frame."""
    axes.set_title(title, fontsize=9)
    axes.set_xticks([])
    axes.set_yticks([])
    axes.grid(visible=False)
    for spine in axes.spines.values():
        spine.set_visible(False)


def _panel(axes: Axes, panel: Panel, labels: Sequence[str]) -> None:
    from matplotlib.ticker import NullLocator

    for line in panel.lines:
        style = labels.index(line.label) % len(COLOURS)
        axes.plot(
            line.x,
            line.y,
            color=COLOURS[style],
            marker=MARKERS[style],
            linestyle=DASHES[style],
            label=line.label,
        )
    axes.set_title(panel.title)
    axes.set_xlabel(panel.x_label)
    if panel.ticks:
        axes.set_xscale("log")
        axes.xaxis.set_minor_locator(NullLocator())
        axes.set_xticks(panel.ticks, [f"{tick:g}" for tick in panel.ticks])


def _legend(made: Figure, labels: Sequence[str], free: Sequence[Axes]) -> None:
    """In the first of the places that no panel takes, or else below."""
    lines = {str(line.get_label()): line for axes in made.axes for line in axes.get_lines()}
    handles = [lines[label] for label in labels]
    if free:
        free[0].legend(handles, labels, loc="center", frameon=False)
    else:
        columns = min(len(labels), 4)
        made.legend(handles, labels, loc="outside lower center", ncols=columns, frameon=False)


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

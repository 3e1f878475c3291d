"""Figures: curves in panels, and how all of them look. matplotlib is imported when drawing."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from rdeic.errors import ConfigError, ImageError
from rdeic.system import files

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Okabe and Ito's colours, told apart by all kinds of colour vision; yellow left out, as it vanishes on white.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#000000")
MARKERS = ("o", "s", "^", "D", "v", "P", "X")
DASHES = ("-", "--", "-.", (0, (1, 1)), (0, (5, 1, 1, 1, 1, 1)), (0, (7, 2)), "-")
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

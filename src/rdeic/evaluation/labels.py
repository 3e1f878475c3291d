"""Where the name of a curve goes in a plot: beside the curve, clear of other curves and names."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

SIZE = 13  # of the letters, in units of the plot
_WIDTH = 0.58  # of an average letter, of its size: a little more than most sans-serif fonts have
_GAP = 9  # between a point and its name
_STEPS = 8  # samples of each piece of a curve


class Point(NamedTuple):
    """A place in the plot, x to the right, y down."""

    x: float
    y: float


class Box(NamedTuple):
    """A rectangle in the plot."""

    left: float
    top: float
    right: float
    bottom: float

    def covers(self, point: Point) -> bool:
        """Whether a point is inside."""
        return self.left <= point.x <= self.right and self.top <= point.y <= self.bottom

    def meets(self, other: Box) -> bool:
        """Whether two rectangles have a point in common."""
        across = self.left <= other.right and other.left <= self.right
        return across and self.top <= other.bottom and other.top <= self.bottom


class Label(NamedTuple):
    """A name in its place."""

    text: str
    x: float  # of the anchor, on the base line
    y: float
    anchor: str  # of SVG: "start", "middle" or "end"

    @property
    def box(self) -> Box:
        """The rectangle that the text covers."""
        width = len(self.text) * SIZE * _WIDTH
        left = self.x - {"start": 0.0, "middle": width / 2, "end": width}[self.anchor]
        return Box(left, self.y - 0.8 * SIZE, left + width, self.y + 0.25 * SIZE)


def place(names: Sequence[str], curves: Sequence[Sequence[Point]], area: Box) -> tuple[Label, ...]:
    """One label for every curve (of one point or more), within `area` where that is possible.

    Earlier curves choose first.
    """
    crowd = [sample for curve in curves for sample in _samples(curve)]
    placed: list[Label] = []
    for name, curve in zip(names, curves, strict=True):
        options = _options(name, curve)
        costs = [_cost(option, crowd, placed, area) + 0.5 * rank for rank, option in enumerate(options)]
        placed.append(options[costs.index(min(costs))])
    return tuple(placed)


def _options(name: str, curve: Sequence[Point]) -> list[Label]:
    """Best first: to the right of the last point, then above and below both ends, then along the curve."""
    first, last = curve[0], curve[-1]
    lower = 0.35 * SIZE
    return [
        Label(name, last.x + _GAP, last.y + lower, "start"),
        Label(name, last.x, last.y - _GAP, "middle"),
        Label(name, last.x, last.y + _GAP + 0.8 * SIZE, "middle"),
        Label(name, first.x - _GAP, first.y + lower, "end"),
        Label(name, first.x, first.y - _GAP, "middle"),
        Label(name, first.x, first.y + _GAP + 0.8 * SIZE, "middle"),
        *(
            Label(name, point.x + side * _GAP, point.y + lift, "start" if side > 0 else "end")
            for point in curve[-2:0:-1]
            for side, lift in ((1, _GAP + 0.8 * SIZE), (-1, -_GAP), (1, -_GAP), (-1, _GAP + 0.8 * SIZE))
        ),
    ]


def _cost(label: Label, crowd: Sequence[Point], taken: Sequence[Label], area: Box) -> float:
    box = label.box
    outside = max(
        area.left - box.left, area.top - box.top, box.right - area.right, box.bottom - area.bottom, 0
    )
    hidden = sum(box.covers(point) for point in crowd)
    clashes = sum(box.meets(other.box) for other in taken)
    return 10 * outside + 2 * hidden + 40 * clashes


def _samples(curve: Sequence[Point]) -> list[Point]:
    found = list(curve)
    for a, b in pairwise(curve):
        found += [
            Point(a.x + (b.x - a.x) * step / _STEPS, a.y + (b.y - a.y) * step / _STEPS)
            for step in range(1, _STEPS)
        ]
    return found

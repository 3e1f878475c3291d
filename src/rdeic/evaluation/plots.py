"""Rate against quality as SVG: one drawing per metric, styled by the page it is put into.

Written by hand rather than by a plotting library: the text stays text in the reader's own font, colours follow the
page's light or dark theme, points tell their values, and a drawing has a few kilobytes.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

from markupsafe import Markup

from rdeic.evaluation.bd_rate import Curve
from rdeic.evaluation.labels import Box, Label, Point, place
from rdeic.evaluation.types import Metric

STYLES = 8  # colours there are, and markers; a style beyond pairs a colour with another marker
PUBLISHED = -1  # the style of what was not measured here
PUBLISHED_ROOM = 0.6  # how far published curves may widen the axes, of the span of the measured ones

_WIDTH, _HEIGHT = 640, 430
_AREA = Box(48, 14, 548, 382)  # of the axes; the margin on the right is for names
_NAMES = Box(52, 8, 640, 378)  # where names may go
_BOUND = "SD autoencoder"
_DOT = "M-2.6 0a2.6 2.6 0 1 0 5.2 0a2.6 2.6 0 1 0-5.2 0z"  # of published curves
_MARKERS = (
    "M-4.5 0a4.5 4.5 0 1 0 9 0a4.5 4.5 0 1 0-9 0z",
    "M-4-4h8v8h-8z",
    "M0-5.2L5 4H-5z",
    "M0-5.6L5.6 0L0 5.6L-5.6 0z",
    "M0 5.2L5-4H-5z",
    "M-1.7-5h3.4v3.3h3.3v3.4h-3.3v3.3h-3.4v-3.3h-3.3v-3.4h3.3z",
    "M-3-5h6l3 5l-3 5h-6l-3-5z",
    "M0-6L1.7-1.7L6 0L1.7 1.7L0 6L-1.7 1.7L-6 0L-1.7-1.7z",
)


class Series(NamedTuple):
    """One curve of a plot."""

    curve: Curve
    style: int  # 0 and up, or PUBLISHED
    label: str


class _Axis(NamedTuple):
    low: float  # data, above 0 on a logarithmic axis
    high: float
    start: float  # where `low` lies in the drawing
    end: float
    log: bool

    def at(self, value: float) -> float:
        low, high, value = (math.log(v) if self.log else v for v in (self.low, self.high, value))
        return self.start + (self.end - self.start) * (value - low) / (high - low)


def marker(style: int) -> str:
    """The path of a style's marker, about 10 units wide around the origin."""
    return _MARKERS[(style + style // STYLES) % STYLES]


def colour(style: int) -> str:
    """The class of a style's colour."""
    return f"c{style % STYLES}"


def plot(series: Sequence[Series], metric: Metric, bound: float | None) -> Markup:
    """Rate on a logarithmic axis against `metric`; with nothing measured, an empty string.

    bound: a horizontal line where published methods end. Published curves show as far as they are near the
    measured ones. Values that are not finite are left out.
    """
    shown = [one._replace(curve=_finite(one.curve)) for one in series]
    measured = [one for one in shown if one.curve.bpp and one.style != PUBLISHED]
    if not measured:
        return Markup("")
    x, y = _axes(shown, bound)
    paths = [(one, _path(x, y, one.curve)) for one in shown]
    drawn = [(one, path) for one, path in paths if any(_AREA.covers(point) for point in path)]
    limit = _limit(y, bound)
    labels = place(
        [*(one.label for one, _ in drawn), *([_BOUND] if limit else [])],
        [
            *([point for point in path if _AREA.covers(point)] for _, path in drawn),
            *([limit] if limit else []),
        ],
        _NAMES,
    )
    clip = f"area-{metric.name}"
    return Markup(
        '<svg viewBox="0 0 {w} {h}" role="img" aria-label="{title} against bits per pixel">'
        '<clipPath id="{clip}"><rect x="{a.left}" y="{a.top}" width="{aw}" height="{ah}"/></clipPath>'
        "{grid}{bound}{curves}</svg>"
    ).format(
        w=_WIDTH,
        h=_HEIGHT,
        title=metric.title,
        clip=clip,
        a=_AREA,
        aw=_AREA.right - _AREA.left,
        ah=_AREA.bottom - _AREA.top,
        grid=_grid(x, y),
        bound=_bound(limit, labels[-1]),
        curves=Markup("").join(
            _curve(one, path, label, clip, metric)
            for (one, path), label in reversed(
                list(zip(drawn, labels, strict=False))
            )  # the bound's label is left over
        ),
    )


def _pairs(curve: Curve) -> list[tuple[float, float]]:
    return list(zip(curve.bpp, curve.values, strict=True))


def _finite(curve: Curve) -> Curve:
    pairs = sorted((bpp, value) for bpp, value in _pairs(curve) if bpp > 0 and math.isfinite(bpp + value))
    return Curve(curve.name, tuple(bpp for bpp, _ in pairs), tuple(value for _, value in pairs))


def _axes(series: Sequence[Series], bound: float | None) -> tuple[_Axis, _Axis]:
    """Room for everything measured, and for what is published near it."""
    measured = [one.curve for one in series if one.style != PUBLISHED]
    others = [one.curve for one in series if one.style == PUBLISHED]
    x_low, x_high = _range(
        [math.log(bpp) for curve in measured for bpp in curve.bpp],
        [math.log(bpp) for curve in others for bpp in curve.bpp],
    )
    y_low, y_high = _range(
        [value for curve in measured for value in curve.values],
        [*(value for curve in others for value in curve.values), *([] if bound is None else [bound])],
    )
    return (
        _Axis(math.exp(x_low), math.exp(x_high), _AREA.left, _AREA.right, log=True),
        _Axis(y_low, y_high, _AREA.bottom, _AREA.top, log=False),
    )


def _path(x: _Axis, y: _Axis, curve: Curve) -> list[Point]:
    return [Point(x.at(bpp), y.at(value)) for bpp, value in _pairs(curve)]


def _range(measured: Sequence[float], others: Sequence[float]) -> tuple[float, float]:
    low, high = min(measured), max(measured)
    room = PUBLISHED_ROOM * (high - low)
    near = [value for value in others if low - room <= value <= high + room]
    low, high = min([low, *near]), max([high, *near])
    margin = 0.06 * (high - low) or 0.05 * abs(high) or 1
    return low - margin, high + margin


def _grid(x: _Axis, y: _Axis) -> Markup:
    parts = [
        Markup(
            '<path class="grid" d="M{0:.1f} {1}V{2}"/><text class="tick" x="{0:.1f}" y="{3}">{4}</text>'
        ).format(x.at(tick), _AREA.top, _AREA.bottom, _AREA.bottom + 19, text)
        for tick, text in _log_ticks(x.low, x.high)
    ]
    parts += [
        Markup(
            '<path class="grid" d="M{1} {0:.1f}H{2}"/><text class="tick y" x="{3}" y="{4:.1f}">{5}</text>'
        ).format(y.at(tick), _AREA.left, _AREA.right, _AREA.left - 8, y.at(tick) + 4, text)
        for tick, text in _linear_ticks(y.low, y.high)
    ]
    middle = (_AREA.left + _AREA.right) / 2
    parts.append(
        Markup(
            '<path class="axis" d="M{0} {1}V{2}H{3}"/><text class="name" x="{4}" y="{5}">{6}</text>'
        ).format(_AREA.left, _AREA.top, _AREA.bottom, _AREA.right, middle, _HEIGHT - 8, "bits per pixel")
    )
    return Markup("").join(parts)


def _limit(y: _Axis, bound: float | None) -> list[Point]:
    """Places along the bound, if it is in sight, where its name may go."""
    if bound is None or not y.low <= bound <= y.high:
        return []
    return [Point(_AREA.left + (_AREA.right - _AREA.left) * k / 10, y.at(bound)) for k in range(1, 10)]


def _bound(limit: Sequence[Point], label: Label) -> Markup:
    if not limit:
        return Markup("")
    return Markup(
        '<g class="series published" data-codec="published"><path class="bound" d="M{0} {1:.1f}H{2}"/>{3}</g>'
    ).format(_AREA.left, limit[0].y, _AREA.right, _name(label))


def _name(label: Label) -> Markup:
    return Markup(
        '<text class="label" x="{0.x:.1f}" y="{0.y:.1f}" text-anchor="{0.anchor}">{0.text}</text>'
    ).format(label)


def _curve(series: Series, path: Sequence[Point], label: Label, clip: str, metric: Metric) -> Markup:
    published = series.style == PUBLISHED
    points = Markup("").join(
        Markup(
            '<path class="point" transform="translate({x:.1f} {y:.1f})" d="{shape}"><title>{tip}</title></path>'
        ).format(
            x=point.x,
            y=point.y,
            shape=_DOT if published else marker(series.style),
            tip=f"{series.label}: {metric.title} {number(value, metric)} at {bpp:.4f} bpp",
        )
        for point, (bpp, value) in zip(path, _pairs(series.curve), strict=True)
        if _AREA.covers(point)
    )
    return Markup(
        '<g class="series {kind}" data-codec="{codec}"><path class="line" clip-path="url(#{clip})" d="M{d}"/>{points}'
        "{name}</g>"
    ).format(
        kind="published" if published else colour(series.style),
        codec="published" if published else series.curve.name,
        clip=clip,
        d="L".join(f"{point.x:.1f} {point.y:.1f}" for point in path),
        points=points,
        name=_name(label),
    )


def number(value: float, metric: Metric) -> str:
    """A value of a metric with as many digits as mean something: "28.15", "0.9151", "0.00042"."""
    digits = {"psnr": 2, "niqe": 2, "fid": 2, "kid": 5, "ssimulacra2": 1, "cvvdp": 2, "butteraugli": 2}.get(
        metric.name, 4
    )
    if math.isnan(value):
        return "\N{EN DASH}"
    return f"{value:.{digits}f}" if math.isfinite(value) else "\N{INFINITY}" if value > 0 else "-\N{INFINITY}"


def _log_ticks(low: float, high: float) -> list[tuple[float, str]]:
    """Round values with their texts: three or more where the range allows, never fewer than two."""
    decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    for digits in ((1, 2, 5), (1, 1.5, 2, 3, 4, 5, 6, 8)):
        ticks = [digit * 10.0**decade for decade in decades for digit in digits]
        found = [tick for tick in ticks if low <= tick <= high]
        if len(found) >= 3:
            break
    return [(tick, f"{tick:g}") for tick in found] if len(found) > 1 else _linear_ticks(low, high)


def _linear_ticks(low: float, high: float) -> list[tuple[float, str]]:
    """About six round values with their texts."""
    rough = (high - low) / 6
    decade = 10.0 ** math.floor(math.log10(rough))
    step = next(factor * decade for factor in (1, 2, 2.5, 5, 10) if factor * decade >= rough * (1 - 1e-9))
    digits = max(0, -math.floor(math.log10(step) + 1e-9)) + (step / decade == 2.5)
    first = math.ceil(low / step - 1e-9)
    last = math.floor(high / step + 1e-9)
    return [(index * step, f"{index * step:.{digits}f}") for index in range(first, last + 1)]

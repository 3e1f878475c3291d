"""What every codec reaches at the same rate, read off the straight lines between its measured settings."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import NamedTuple

from rdeic.evaluation.bd_rate import Curve
from rdeic.evaluation.means import Mean, comparable, curve
from rdeic.evaluation.types import Metric

_SLACK = 1e-9  # of a rate, for what rounding does


class Reading(NamedTuple):
    """What one codec reaches in one metric at a given rate."""

    value: float | None  # None: the rate is outside of what was measured
    best: bool  # of two codecs or more that have a value


class Row(NamedTuple):
    """One codec at the rate."""

    codec: str
    readings: tuple[Reading, ...]  # one per metric
    remark: str  # where its rates begin or end, if the rate is beyond


class AtRate(NamedTuple):
    """All codecs at one rate."""

    bpp: float
    rows: tuple[Row, ...]

    @property
    def found(self) -> int:
        """How many readings have a value."""
        return sum(reading.value is not None for row in self.rows for reading in row.readings)


def at_rates(
    rows: Sequence[Mean], codecs: Sequence[str], metrics: Sequence[Metric], subject: str
) -> tuple[AtRate, ...]:
    """One table for every rate at which the subject managed all pictures, smallest first."""
    rates = sorted(bpp for bpp, _ in comparable(rows, subject))
    return tuple(_at_rate(rows, codecs, metrics, bpp) for bpp in dict.fromkeys(rates))


def value_at(points: Curve, bpp: float) -> float | None:
    """The curve's value, linear in log(bpp) between its points by rising rate; None outside of them."""
    for rate, value in zip(points.bpp, points.values, strict=True):
        if math.isclose(rate, bpp, rel_tol=_SLACK):
            return value
    for (low, first), (high, second) in pairwise(zip(points.bpp, points.values, strict=True)):
        if 0 < low < bpp < high:
            return first + (second - first) * math.log(bpp / low) / math.log(high / low)
    return None


def _at_rate(rows: Sequence[Mean], codecs: Sequence[str], metrics: Sequence[Metric], bpp: float) -> AtRate:
    values = {
        codec: [value_at(curve(rows, codec, metric.name), bpp) for metric in metrics] for codec in codecs
    }
    best = [_best((row[column] for row in values.values()), metric) for column, metric in enumerate(metrics)]
    return AtRate(
        bpp,
        tuple(
            Row(
                codec,
                tuple(
                    Reading(value, value is not None and value == top)
                    for value, top in zip(row, best, strict=True)
                ),
                _remark([rate for rate, _ in comparable(rows, codec)], bpp),
            )
            for codec, row in values.items()
        ),
    )


def _best(values: Iterable[float | None], metric: Metric) -> float | None:
    found = [value for value in values if value is not None and not math.isnan(value)]
    if len(found) < 2:  # nothing to be better than
        return None
    return (min if metric.lower_is_better else max)(found, key=metric.graded)


def _remark(rates: Sequence[float], bpp: float) -> str:
    if not rates:
        return "no setting managed all pictures"
    if min(rates) > bpp * (1 + _SLACK):
        return f"smallest: {min(rates):.4f} bpp"
    if max(rates) < bpp * (1 - _SLACK):
        return f"largest: {max(rates):.4f} bpp"
    return ""

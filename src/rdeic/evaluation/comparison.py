"""Every codec against every other, in BD-rate."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from rdeic.errors import ConfigError
from rdeic.evaluation.bd_rate import BdRate, Curve, bd_rate
from rdeic.evaluation.means import Mean, curve
from rdeic.evaluation.types import Metric


class Cell(NamedTuple):
    """One codec against the anchor in one metric."""

    result: BdRate | None
    reason: str  # why there is no result, or ""


class Row(NamedTuple):
    """One codec against the anchor."""

    codec: str
    cells: tuple[Cell, ...]  # one per metric


class Comparison(NamedTuple):
    """All other codecs against the anchor."""

    anchor: str
    metrics: tuple[Metric, ...]
    rows: tuple[Row, ...]

    @property
    def reasons(self) -> tuple[str, ...]:
        """A line for each BD-rate that is missing: why."""
        return tuple(
            dict.fromkeys(
                f"{metric.title}: {cell.reason}"
                for row in self.rows
                for metric, cell in zip(self.metrics, row.cells, strict=True)
                if cell.reason
            )
        )

    @property
    def found(self) -> int:
        """How many BD-rates could be computed."""
        return sum(cell.result is not None for row in self.rows for cell in row.cells)


def compare(rows: Sequence[Mean], codecs: Iterable[str], metrics: Sequence[Metric]) -> tuple[Comparison, ...]:
    """One comparison for every codec as the anchor, that with the most BD-rates first."""
    names = tuple(codecs)
    comparisons = [
        Comparison(
            anchor,
            tuple(metrics),
            tuple(
                Row(test, tuple(_cell(rows, anchor, test, metric) for metric in metrics))
                for test in names
                if test != anchor
            ),
        )
        for anchor in names
    ]
    return tuple(sorted(comparisons, key=lambda one: -one.found))


def _cell(rows: Sequence[Mean], anchor: str, test: str, metric: Metric) -> Cell:
    pair = (_graded(curve(rows, codec, metric.name), metric) for codec in (anchor, test))
    try:
        return Cell(bd_rate(*pair, lower_is_better=metric.lower_is_better), "")
    except ConfigError as error:
        return Cell(None, str(error))


def _graded(points: Curve, metric: Metric) -> Curve:
    return points._replace(values=tuple(map(metric.graded, points.values)))

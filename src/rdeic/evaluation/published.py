"""The measurements published with the paper, as curves to compare with."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import NamedTuple

from rdeic.errors import ConfigError
from rdeic.evaluation import report
from rdeic.evaluation.bd_rate import Curve
from rdeic.evaluation.types import METRICS, Score

SOURCE = (
    "Li et al., RDEIC: Accelerating Diffusion-Based Extreme Image Compression with Relay Residual Diffusion"
)
RDEIC = "RDEIC"  # as the paper uses it: 2 denoising steps for the two larger rates, 5 for the others
VARIANTS = ("RDEIC-2", "RDEIC-5")  # with 2 and with 5 steps at every rate

_TABLE = Path(__file__).parent / "data" / "published_results.csv"
_BOUND = "SD Encoder"
_LARGER_RATES = ("1", "2")


class Point(NamedTuple):
    """One method at one setting on one data set, averaged over its pictures."""

    dataset: str
    method: str
    setting: str
    bpp: float | None  # None: a bound for any rate
    scores: tuple[Score, ...]  # those that were published


@cache
def points() -> tuple[Point, ...]:
    """Everything published, in the order of the table, then RDEIC as the paper uses it."""
    names = {metric.name for metric in METRICS}
    found = [
        Point(
            row["dataset"],
            row["method"],
            row["setting"],
            float(row["bpp"]) if row["bpp"] else None,
            tuple(Score(name, float(text)) for name, text in row.items() if name in names and text),
        )
        for row in report.read_csv(_TABLE).rows
    ]
    chosen = [
        point._replace(method=RDEIC)
        for point in found
        if point.method == VARIANTS[0 if point.setting in _LARGER_RATES else 1]
    ]
    return (*found, *chosen)


def datasets() -> tuple[str, ...]:
    """The data sets there are measurements for."""
    return tuple(dict.fromkeys(point.dataset for point in points()))


def curve(dataset: str, method: str, metric: str) -> Curve:
    """One method's values of one metric. Raises ConfigError if there are none."""
    found = [one for one in curves(dataset, metric) if one.name == method]
    if not found:
        raise ConfigError(f"nothing published of {method!r} in {metric!r} on {dataset!r}")
    return found[0]


def curves(dataset: str, metric: str) -> tuple[Curve, ...]:
    """Every method's values of one metric, RDEIC first. Raises ConfigError if the data set is unknown.

    RDEIC comes thrice: with 2 steps, with 5, and as the paper uses it.
    """
    if dataset not in datasets():
        raise ConfigError(f"nothing published on {dataset!r}: choose from {', '.join(datasets())}")
    pairs: dict[str, list[tuple[float, float]]] = {RDEIC: []}
    for point in points():
        if point.dataset == dataset and point.bpp is not None:
            pairs.setdefault(point.method, []).extend(
                (point.bpp, score.value) for score in point.scores if score.metric == metric
            )
    return tuple(
        Curve(method, *zip(*sorted(values), strict=True)) for method, values in pairs.items() if values
    )


def bound(dataset: str, metric: str) -> float | None:
    """What Stable Diffusion's autoencoder reaches without any compression: no rate gets RDEIC beyond it."""
    for point in points():
        if point.dataset == dataset and point.method == _BOUND:
            return next((score.value for score in point.scores if score.metric == metric), None)
    return None

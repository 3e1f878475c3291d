"""Averages over the pictures of a set: the rows of tables, the points of curves."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from statistics import fmean
from typing import NamedTuple

from rdeic.evaluation.bd_rate import Curve
from rdeic.evaluation.results import Results
from rdeic.evaluation.types import Measurement, Score


class Mean(NamedTuple):
    """One codec at one setting, averaged over the pictures it managed."""

    codec: str
    setting: str
    pictures: int  # managed; where it is 0, the numbers below are None and there are no scores
    failed: int  # left out of the averages
    bpp: float | None  # mean of the pictures' bits per pixel
    encode_seconds: float | None
    decode_seconds: float | None
    scores: tuple[Score, ...]  # means of metrics that all of them have, then the metrics of the whole set


class Failure(NamedTuple):
    """All files of one codec that failed in the same way."""

    codec: str
    message: str
    files: int
    settings: tuple[str, ...]
    images: tuple[str, ...]


def failures(results: Results) -> tuple[Failure, ...]:
    """What failed, by codec and message."""
    groups: dict[tuple[str, str], list[Measurement]] = {}
    for one in results.measurements:
        if one.error:
            groups.setdefault((one.codec, one.error), []).append(one)
    return tuple(
        Failure(
            *key,
            files=len(group),
            settings=tuple(dict.fromkeys(one.setting for one in group)),
            images=tuple(dict.fromkeys(one.image for one in group)),
        )
        for key, group in groups.items()
    )


def means(results: Results) -> tuple[Mean, ...]:
    """Means over the pictures, by codec and setting, in the order in which they were measured."""
    groups: dict[tuple[str, str], list[Measurement]] = {}
    for one in results.measurements:
        groups.setdefault((one.codec, one.setting), []).append(one)
    of_set: dict[tuple[str, str], list[Score]] = {}
    for one_set in results.set_scores:
        of_set.setdefault((one_set.codec, one_set.setting), []).append(one_set.score)
    return tuple(_mean(key, group, of_set.get(key, [])) for key, group in groups.items())


def comparable(rows: Iterable[Mean], codec: str) -> list[tuple[float, Mean]]:
    """Rates and rows of one codec where no picture failed: means over other pictures say nothing beside them."""
    return [(row.bpp, row) for row in rows if row.codec == codec and not row.failed and row.bpp is not None]


def curve(rows: Iterable[Mean], codec: str, metric: str) -> Curve:
    """The points of one codec in one metric by rising rate, of `comparable` rows: none if it has no values of it."""
    points = sorted(
        (bpp, score.value)
        for bpp, row in comparable(rows, codec)
        for score in row.scores
        if score.metric == metric
    )
    return Curve(codec, tuple(bpp for bpp, _ in points), tuple(value for _, value in points))


def _mean(key: tuple[str, str], group: Sequence[Measurement], of_set: Sequence[Score]) -> Mean:
    good = [one for one in group if not one.error]
    values: dict[str, list[float]] = {}
    for score in (score for one in good for score in one.scores):
        values.setdefault(score.metric, []).append(score.value)
    return Mean(
        *key,
        pictures=len(good),
        failed=len(group) - len(good),
        bpp=fmean(one.bpp for one in good) if good else None,
        encode_seconds=fmean(one.encode_seconds for one in good) if good else None,
        decode_seconds=fmean(one.decode_seconds for one in good) if good else None,
        # A metric that some pictures are too small for would be of other pictures than the rate.
        scores=(
            *(Score(metric, fmean(found)) for metric, found in values.items() if len(found) == len(good)),
            *of_set,
        ),
    )

"""One file restored in many ways: by the number of denoising steps (Fig. 8), by the amount of detail (Fig. 10)."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from rdeic.evaluation.bench import drawing
from rdeic.evaluation.bench.drawing import Line, Panel
from rdeic.evaluation.bench.subject import Named, Subject
from rdeic.evaluation.report import Table
from rdeic.evaluation.types import METRICS, Metric, Score
from rdeic.pictures.images import Picture

Judge = Callable[
    [Picture, Picture], tuple[Score, ...]
]  # (restored, original) -> what a metric says, in their order


class Decoding(NamedTuple):
    """How a file is restored."""

    steps: int | None  # None: as the file says
    detail: float  # lambda_s


class Axis(NamedTuple):
    """What varies from one decoding to the next."""

    name: str  # column of a table
    label: str  # below a panel
    of: Callable[[Decoding], float]
    logarithmic: bool


STEPS = Axis("steps", "denoising steps L", lambda decoding: decoding.steps or 0, logarithmic=True)
DETAIL = Axis("lambda_s", "detail, lambda_s", lambda decoding: decoding.detail, logarithmic=False)


class Point(NamedTuple):
    """One picture at one quality, restored in one way; or the mean of several pictures."""

    image: str
    quality: float
    decoding: Decoding
    bpp: float
    decode_seconds: float
    scores: tuple[Score, ...]

    def score(self, metric: str) -> float:
        """Its value. Raises KeyError if it was not measured."""
        return dict(self.scores)[metric]


def measure(
    subject: Subject,
    pictures: Sequence[Named],
    judge: Judge,
    qualities: Sequence[float],
    decodings: Sequence[Decoding],
    advance: Callable[[], None],
) -> list[Point]:
    """Every picture at every quality 0..100, restored in every way; `advance` is called once for each file."""
    found: list[Point] = []
    for one in pictures:
        for quality in qualities:
            blob = subject.make(one.picture, quality)
            bpp = 8 * len(blob) / (one.picture.shape[0] * one.picture.shape[1])
            if not found:
                subject.decompress(blob)  # the first decoding also tunes and allocates
            for decoding in decodings:
                start = time.perf_counter()
                restored = np.asarray(subject.decompress(blob, decoding.detail, decoding.steps))
                seconds = time.perf_counter() - start
                scores = judge(restored, one.picture)
                found.append(Point(one.name, quality, decoding, bpp, seconds, scores))
            advance()
    return found


def means(points: Iterable[Point]) -> list[Point]:
    """Over pictures, for each quality and decoding; a metric that one picture lacks is left out."""
    groups: dict[tuple[float, Decoding], list[Point]] = {}
    for point in points:
        groups.setdefault((point.quality, point.decoding), []).append(point)
    return [
        Point(
            f"{len(group)} pictures",
            quality,
            decoding,
            statistics.fmean(point.bpp for point in group),
            statistics.fmean(point.decode_seconds for point in group),
            _mean_scores(group),
        )
        for (quality, decoding), group in groups.items()
    ]


def metrics(points: Sequence[Point]) -> list[Metric]:
    """The metrics that all points have, as `METRICS` describes them."""
    common = [set(dict(point.scores)) for point in points]
    return [metric for metric in METRICS if all(metric.name in names for names in common)]


def draw(path: Path, points: Sequence[Point], axis: Axis) -> None:
    """Means over pictures: a panel for each metric and one for time, a line for each quality.

    Raises what `drawing.figure` raises.
    """
    averages = means(points)
    panels = [
        _panel(metric.heading, axis, averages, [point.score(metric.name) for point in averages])
        for metric in metrics(averages)
    ]
    panels.append(_panel("time to restore, s", axis, averages, [one.decode_seconds for one in averages]))
    drawing.curves(path, panels, columns=3)


def table(points: Sequence[Point], axis: Axis) -> Table:
    """A Markdown table of means; the best of each quality is bold."""
    averages = means(points)
    measured = metrics(averages)
    header = ("quality", axis.name, "bpp", *(metric.heading for metric in measured), "seconds")
    rows = []
    for point in averages:
        rivals = [other for other in averages if other.quality == point.quality]
        rows.append(
            (
                f"{point.quality:g}",
                f"{axis.of(point.decoding):g}",
                f"{point.bpp:.4f}",
                *(_cell(point, rivals, metric) for metric in measured),
                f"{point.decode_seconds:.2f}",
            )
        )
    return Table(header, rows)


def as_csv(points: Sequence[Point]) -> Table:
    """The points as rows of a CSV file: six significant digits, empty where there is no value."""
    names = tuple(dict.fromkeys(score.metric for point in points for score in point.scores))
    header = ("image", "quality", "steps", "detail", "bpp", "decode_seconds", *names)
    rows = []
    for point in points:
        scores = dict(point.scores)
        values = (f"{scores[name]:.6g}" if name in scores else "" for name in names)
        steps = "" if point.decoding.steps is None else str(point.decoding.steps)
        rows.append(
            (
                point.image,
                f"{point.quality:g}",
                steps,
                f"{point.decoding.detail:g}",
                f"{point.bpp:.6g}",
                f"{point.decode_seconds:.4g}",
                *values,
            )
        )
    return Table(header, rows)


def _mean_scores(group: Sequence[Point]) -> tuple[Score, ...]:
    names = [score.metric for score in group[0].scores]
    kept = [name for name in names if all(name in dict(point.scores) for point in group)]
    return tuple(Score(name, statistics.fmean(point.score(name) for point in group)) for name in kept)


def _panel(title: str, axis: Axis, averages: Sequence[Point], values: Sequence[float]) -> Panel:
    lines = []
    for quality in dict.fromkeys(point.quality for point in averages):
        pairs = [(p, v) for p, v in zip(averages, values, strict=True) if p.quality == quality]
        label = f"quality {quality:g}, {pairs[0][0].bpp:.3f} bpp"
        lines.append(Line(label, [axis.of(p.decoding) for p, _ in pairs], [v for _, v in pairs]))
    return Panel(title, axis.label, lines, ticks=lines[0].x if axis.logarithmic else ())


def _cell(point: Point, rivals: Sequence[Point], metric: Metric) -> str:
    text = _rounded(point, metric)
    grades = [metric.graded(rival.score(metric.name)) for rival in rivals]
    best = (min if metric.lower_is_better else max)(grades)
    return f"**{text}**" if metric.graded(point.score(metric.name)) == best else text


def _rounded(point: Point, metric: Metric) -> str:
    return f"{point.score(metric.name):.{2 if metric.unit == 'dB' else 4}f}"

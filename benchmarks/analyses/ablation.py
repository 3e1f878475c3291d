"""Curves of the ablation studies (Figs. 7 to 9), from the table that `benchmarks/ablation.py` writes.

Columns: `variant`, `quality`, `bpp`, `psnr` (dB), `ms_ssim`, `perceptual`, `denoise_seconds`; others are left alone,
and a metric whose column is missing or empty is left out. A row is one variant at one rate, means over the pictures.
"""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from rdeic.errors import ConfigError
from rdeic.evaluation import report
from rdeic.evaluation.bd_rate import MIN_OVERLAP, Curve, bd_rate
from rdeic.evaluation.bench import drawing
from rdeic.evaluation.bench.drawing import Line, Panel
from rdeic.evaluation.report import Table
from rdeic.evaluation.types import METRICS, Metric, Score

FULL = "+RRD+FSFT, 2 steps"
FIGURES = {  # variants of each figure, as `benchmarks/ablation.py` calls them
    "fig7": ("Baseline, 50 steps", "+RRD, 2 steps", "+RRD, 5 steps", FULL),
    "fig8": ("+RRD, 1 step", "+RRD, 2 steps", "+RRD, 5 steps", "+RRD, 10 steps"),
    "fig9": ("W/o diffusion mechanism", "W/o denoising process", FULL),
}
NEEDED = ("variant", "quality", "bpp", "denoise_seconds")


class Row(NamedTuple):
    """One variant at one rate."""

    variant: str
    quality: float
    bpp: float
    denoise_seconds: float  # 0: it does not denoise
    scores: tuple[Score, ...]


def read(path: Path) -> list[Row]:
    """The rows of an ablation table, in its order. Raises ConfigError if it is none."""
    rows = report.read_csv(path).rows
    if not rows or not set(NEEDED) <= rows[0].keys():
        raise ConfigError(f"{path}: no table of ablations: it needs the columns {', '.join(NEEDED)}")
    try:
        return [_row(row) for row in rows]
    except (TypeError, ValueError) as error:
        raise ConfigError(f"{path}: not a table of ablations: {error}; make it anew") from error


def variants(rows: Sequence[Row]) -> dict[str, list[Row]]:
    """Rows of each variant, by rising rate, in the table's order of variants."""
    found: dict[str, list[Row]] = {}
    for row in rows:
        found.setdefault(row.variant, []).append(row)
    return {name: sorted(group, key=lambda row: row.bpp) for name, group in found.items()}


def figures(rows: Sequence[Row]) -> dict[str, list[Row]]:
    """What to draw: the paper's figures of which two variants or more are there, or else all there is as one."""
    found = {
        name: [row for row in rows if row.variant in wanted]
        for name, wanted in FIGURES.items()
        if len({row.variant for row in rows} & set(wanted)) > 1
    }
    return found or {"all": list(rows)}


def metrics(rows: Sequence[Row]) -> list[Metric]:
    """The metrics that every row has a score of."""
    return [metric for metric in METRICS if all(metric.name in dict(row.scores) for row in rows)]


def draw(path: Path, rows: Sequence[Row]) -> None:
    """A panel for each metric over the rate, a line for each variant. Raises what `drawing.figure` raises."""
    panels = [
        Panel(
            metric.heading,
            "bits per pixel",
            [
                Line(name, [row.bpp for row in group], [dict(row.scores)[metric.name] for row in group])
                for name, group in variants(rows).items()
            ],
        )
        for metric in metrics(rows)
    ]
    drawing.curves(path, panels, columns=3)


def table(rows: Sequence[Row], against: str | None = None) -> Table:
    """A Markdown table as the paper's Table II: BD-rates against the variant of that name, or the first."""
    groups, measured = variants(rows), metrics(rows)
    anchor = groups[against or next(iter(groups))]
    header = (
        "variant",
        "rates",
        "denoising (s)",
        *(f"BD-rate, {metric.title}" for metric in measured),
    )
    lines = [
        (
            name,
            f"{group[0].bpp:.3f} to {group[-1].bpp:.3f} bpp",
            f"{statistics.fmean(row.denoise_seconds for row in group):.3f}",
            *(_delta(anchor, group, metric) for metric in measured),
        )
        for name, group in groups.items()
    ]
    return Table(header, lines)


def _delta(anchor: Sequence[Row], group: Sequence[Row], metric: Metric) -> str:
    """BD-rate in percent, with the share of their qualities that both reach if that is small; "-" if there is none."""
    if group[0].variant == anchor[0].variant:
        return "0%"
    curves = (
        Curve(
            one[0].variant,
            tuple(r.bpp for r in one),
            tuple(metric.graded(dict(r.scores)[metric.name]) for r in one),
        )
        for one in (anchor, group)
    )
    try:
        found = bd_rate(*curves, lower_is_better=metric.lower_is_better, min_overlap=0.0)
    except ConfigError:
        return "-"
    share = "" if found.overlap >= MIN_OVERLAP else f" (of {found.overlap:.0%})"
    return f"{found.percent:+.1f}%{share}"


def _row(cells: dict[str, str]) -> Row:
    scores = tuple(
        Score(metric.name, float(cells[metric.name])) for metric in METRICS if cells.get(metric.name)
    )
    return Row(
        cells["variant"],
        float(cells["quality"]),
        float(cells["bpp"]),
        float(cells["denoise_seconds"] or 0.0),
        scores,
    )

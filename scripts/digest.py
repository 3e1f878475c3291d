"""What a report of `rdeic evaluate` found, as a page of documentation: tables at equal rates, BD-rates, curves.

    python scripts/digest.py REPORT --anchor avif -o docs/kodak.md

Written are the page and, beside it, images/<name of the page>.svg.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import rdeic
from rdeic.errors import ConfigError
from rdeic.evaluation import report
from rdeic.evaluation.bench import drawing
from rdeic.evaluation.comparison import Cell, compare
from rdeic.evaluation.means import Mean, curve, failures, means
from rdeic.evaluation.results import Results, load
from rdeic.evaluation.same_rate import AtRate, Reading, at_rates
from rdeic.evaluation.types import METRICS, Metric
from rdeic.system import files

DIGITS = {"psnr": 2, "ssimulacra2": 1, "cvvdp": 2, "butteraugli": 2}  # 3 for the others
HIGHEST = 0.3  # bits per pixel: beyond it nothing is extreme any more


def page(results: Results, anchor: str, drawn: str) -> str:
    """The whole page; `drawn` is where the curves are, relative to it. Raises ConfigError for an unknown anchor."""
    rows = means(results)
    measured = [metric for metric in METRICS if any(metric.name in dict(row.scores) for row in rows)]
    if anchor not in results.codecs:
        raise ConfigError(f"anchor {anchor!r} was not measured: choose from {', '.join(results.codecs)}")
    pictures = len({one.image for one in results.measurements})
    parts = [
        f"# {pictures} pictures of {results.dataset.capitalize()}",
        f"![Rate against quality]({drawn})",
        "## At equal rates",
        "Read off the straight lines between measured settings, at each rate of rdeic; the best is bold.",
        *(_at_rate(table, measured) for table in at_rates(rows, results.codecs, measured, "rdeic")),
        f"## BD-rates against {anchor}",
        "How many more (+) or fewer (-) bits the same quality takes, and over how much of the common range of quality.",
        _bd_rates(rows, results.codecs, measured, anchor),
        "## How it was made",
        *_remarks(results),
    ]
    return "\n\n".join(parts) + "\n"


def _at_rate(table: AtRate, measured: Sequence[Metric]) -> str:
    lines = [
        (
            f"{row.codec} ({row.remark})" if row.remark else row.codec,
            *(_reading(one, metric) for one, metric in zip(row.readings, measured, strict=True)),
        )
        for row in table.rows
    ]
    return report.markdown((f"{table.bpp:.3f} bpp", *(metric.heading for metric in measured)), lines)


def _reading(one: Reading, metric: Metric) -> str:
    if one.value is None:
        return "-"
    text = f"{one.value:.{DIGITS.get(metric.name, 3)}f}"
    return f"**{text}**" if one.best else text


def _bd_rates(rows: Sequence[Mean], codecs: Sequence[str], measured: Sequence[Metric], anchor: str) -> str:
    found = next(one for one in compare(rows, codecs, measured) if one.anchor == anchor)
    lines = [(row.codec, *map(_cell, row.cells)) for row in found.rows]
    return report.markdown(("codec", *(metric.title for metric in measured)), lines)


def _cell(cell: Cell) -> str:
    return f"{cell.result.percent:+.1f}% ({cell.result.overlap:.0%})" if cell.result else "-"


def _remarks(results: Results) -> Iterator[str]:
    yield f"`{results.command}`"
    yield "; ".join((*results.hardware, *results.versions))
    for one in results.unavailable:
        yield f"{one.metric}: not measured, {one.reason}"
    for gone in results.unavailable_codecs:
        yield f"{gone.codec}: not measured, {gone.reason}"
    for failure in failures(results):
        yield f"{failure.codec}: {failure.files} files failed, {failure.message}"


def draw(results: Results, path: Path) -> None:
    """A panel for each metric, a line for each codec."""
    rows = means(results)
    panels = []
    for metric in METRICS:
        lines = []
        for codec in results.codecs:
            points = curve(rows, codec, metric.name)
            near = [(x, y) for x, y in zip(points.bpp, points.values, strict=True) if x <= HIGHEST]
            if near:
                lines.append(drawing.Line(codec, *zip(*near, strict=True)))
        if lines:
            panels.append(drawing.Panel(metric.heading, "bits per pixel", lines))
    drawing.curves(path, panels, columns=2)


def main() -> None:
    options = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    options.add_argument("report", type=Path, metavar="REPORT", help="folder that rdeic evaluate wrote")
    options.add_argument("--anchor", default="avif", metavar="CODEC", help="what BD-rates are against")
    options.add_argument("-o", "--output", type=Path, required=True, metavar="MARKDOWN")
    arguments = options.parse_args()
    results, output = load(arguments.report), arguments.output
    drawn = Path("images") / f"{output.stem}.svg"
    text = page(results, arguments.anchor, drawn.as_posix())
    draw(results, output.parent / drawn)
    files.atomic_write(output, text.encode())


if __name__ == "__main__":
    try:
        main()
    except (rdeic.RdeicError, OSError) as error:
        sys.exit(f"digest: {error}")

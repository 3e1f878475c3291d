"""The report of an evaluation: one HTML page that needs nothing else, and its numbers as CSV beside it."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import jinja2
from markupsafe import Markup

from rdeic.errors import ConfigError
from rdeic.evaluation import plots, published, report
from rdeic.evaluation.comparison import Cell, Comparison, compare
from rdeic.evaluation.means import Mean, curve, failures, means
from rdeic.evaluation.results import Results
from rdeic.evaluation.same_rate import at_rates
from rdeic.evaluation.types import METRICS, Metric, Score
from rdeic.evaluation.viewer import gallery
from rdeic.system import files

PAGE_FILE = "index.html"
MEASUREMENTS_FILE = "measurements.csv"
MEANS_FILE = "means.csv"
PICTURE_BYTES = 32 << 20  # that the page carries as data URIs, so that a phone can still open it
FAINT = 0.25  # overlap below which a BD-rate is shown, but faintly

_FOLDER = Path(__file__).parent / "page"
_MOST_ROWS = 3000  # in the table of single pictures, so that a browser can still scroll it
_FEW = 3  # names of pictures, where there may be hundreds
_DISTORTION = frozenset({"psnr", "ms_ssim", "ssim"})  # the others are measures of perception


class Tile(NamedTuple):
    """A headline: what one metric says of the subject against the anchor."""

    metric: Metric
    percent: float | None  # BD-rate; None: it cannot be told
    remark: str


def write(
    results: Results, folder: Path, *, anchor: str | None = None, published_on: str | None = None
) -> Path:
    """Writes index.html, measurements.csv and means.csv into `folder` (which holds the pictures of
    `results.shown`), each atomically, and returns the path of the page.

    anchor: the codec that BD-rates are against at first, None: the one that most others can be compared with.
    published_on: a name of `published.datasets`, whose published curves are drawn too; None: no such curves.

    Raises ConfigError if `anchor` was not measured or nothing is published on that data set, and OSError.
    """
    rows = means(results)
    page = _page(results, rows, folder, anchor, published_on)
    _write_measurements(results, folder / MEASUREMENTS_FILE)
    _write_means(results, rows, folder / MEANS_FILE)
    files.atomic_write(folder / PAGE_FILE, page.encode(errors="replace"))  # file names may be no text
    return folder / PAGE_FILE


def _page(
    results: Results, rows: Sequence[Mean], folder: Path, anchor: str | None, published_on: str | None
) -> str:
    codecs = tuple(dict.fromkeys([*results.codecs, *(row.codec for row in rows)]))
    style = {codec: index for index, codec in enumerate(codecs)}
    subject = _subject(codecs, anchor)
    metrics = _having([score for row in rows for score in row.scores])
    comparisons = _comparisons(rows, codecs, metrics, anchor, subject)
    tables = at_rates(rows, codecs, metrics, subject) if len(codecs) > 1 and metrics else ()
    pictures = gallery(results, folder, PICTURE_BYTES)
    script = (_FOLDER / "script.js").read_text(encoding="utf-8")
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    return _template().render(
        results=results,
        rows=rows,
        codecs=codecs,
        style=style,
        subject=subject,
        metrics=metrics,
        image_metrics=_having([score for one in results.measurements for score in one.scores]),
        pictures=len({one.image for one in results.measurements}),
        failures=failures(results),
        failed=sum(row.failed for row in rows),
        few=_FEW,
        comparisons=comparisons,
        tiles=_tiles(comparisons, subject),
        at_rates=tables,
        fullest=max(tables, key=lambda one: one.found, default=None),
        figure_groups=_figures(rows, style, metrics, published_on),
        published_on=published_on,
        published_source=published.SOURCE,
        gallery=pictures,
        gallery_limit=PICTURE_BYTES >> 20,
        scenes=[
            scene._asdict() | {"versions": [one._asdict() for one in scene.versions]}
            for scene in pictures.scenes
        ],
        faint=FAINT,
        most=_MOST_ROWS,
        css=Markup((_FOLDER / "style.css").read_text(encoding="utf-8")),
        script=Markup(script),
        script_hash=f"sha256-{digest}",
    )


def _subject(codecs: Sequence[str], anchor: str | None) -> str:
    """Whom the headline is about: ours if it was measured and is not the anchor."""
    others = [codec for codec in codecs if codec != anchor]
    return next((codec for codec in others if codec.startswith("rdeic")), others[0] if others else "")


def _template() -> jinja2.Template:
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(_FOLDER),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"of": _value, "metric_number": plots.number, "signed": _signed}
    environment.globals |= {"marker": plots.marker, "colour": plots.colour}
    return environment.get_template("report.html")


def _having(scores: Sequence[Score]) -> tuple[Metric, ...]:
    names = {score.metric for score in scores}
    return tuple(metric for metric in METRICS if metric.name in names)


def _value(scores: Sequence[Score], metric: Metric) -> float | None:
    return next((score.value for score in scores if score.metric == metric.name), None)


def _signed(percent: float) -> str:
    return f"{percent:+.1f}".replace("-", "\N{MINUS SIGN}")


def _comparisons(
    rows: Sequence[Mean],
    codecs: Sequence[str],
    metrics: Sequence[Metric],
    anchor: str | None,
    subject: str,
) -> tuple[Comparison, ...]:
    """One per anchor, the chosen one first; by default not the subject, which is to be compared with it."""
    if anchor is not None and anchor not in codecs:
        raise ConfigError(f"anchor {anchor!r} was not measured: choose from {', '.join(codecs)}")
    if len(codecs) < 2 or not metrics:
        return ()
    found = compare(rows, codecs, metrics)
    if anchor is None:
        return tuple(sorted(found, key=lambda one: one.anchor == subject))
    return tuple(sorted(found, key=lambda one: one.anchor != anchor))


def _tiles(comparisons: Sequence[Comparison], subject: str) -> list[Tile]:
    """The subject against the first anchor in every metric, unless no metric can tell."""
    found = [
        _tile(metric, cell)
        for one in comparisons[:1]
        for row in one.rows
        if row.codec == subject
        for metric, cell in zip(one.metrics, row.cells, strict=True)
    ]
    return found if any(tile.percent is not None for tile in found) else []


def _tile(metric: Metric, cell: Cell) -> Tile:
    if cell.result is None:
        return Tile(metric, None, cell.reason)
    if cell.result.overlap < FAINT:
        return Tile(metric, None, f"only {cell.result.overlap:.0%} of the quality range in common")
    return Tile(metric, cell.result.percent, f"over {cell.result.overlap:.0%} of the quality range")


def _figures(
    rows: Sequence[Mean], style: dict[str, int], metrics: Sequence[Metric], published_on: str | None
) -> list[tuple[str, list[tuple[Metric, Markup]]]]:
    distortion: list[tuple[Metric, Markup]] = []
    perception: list[tuple[Metric, Markup]] = []
    for metric in metrics:
        series = [plots.Series(curve(rows, codec, metric.name), style[codec], codec) for codec in style]
        bound = None
        if published_on is not None:
            bound = published.bound(published_on, metric.name)
            series += [
                plots.Series(one, plots.PUBLISHED, one.name)
                for one in published.curves(published_on, metric.name)
                if one.name not in published.VARIANTS
            ]
        svg = plots.plot(series, metric, bound)
        if svg:
            (distortion if metric.name in _DISTORTION else perception).append((metric, svg))
    groups = [("Rate-distortion", distortion), ("Rate-perception", perception)]
    return [group for group in groups if group[1]]


def _write_measurements(results: Results, path: Path) -> None:
    metrics = tuple(dict.fromkeys(score.metric for one in results.measurements for score in one.scores))
    fixed = (
        "codec",
        "setting",
        "image",
        "width",
        "height",
        "bytes",
        "bpp",
        "encode_seconds",
        "decode_seconds",
    )
    named = fixed.index("width")
    lines = []
    for one in results.measurements:
        scores = dict(one.scores)
        # The zeros of a failure are no numbers.
        known = [*one[:named], *[""] * (len(fixed) - named)] if one.error else one[: len(fixed)]
        lines.append([*known, *(scores.get(metric, "") for metric in metrics), one.error])
    _write_csv(path, (*fixed, *metrics, "error"), lines, results)


def _write_means(results: Results, rows: Sequence[Mean], path: Path) -> None:
    metrics = tuple(dict.fromkeys(score.metric for row in rows for score in row.scores))
    lines = []
    for row in rows:
        scores = dict(row.scores)
        lines.append([*row[:-1], *(scores.get(metric, "") for metric in metrics)])
    _write_csv(path, (*Mean._fields[:-1], *metrics), lines, results)


def _write_csv(
    path: Path, header: Sequence[str], lines: Sequence[Sequence[object]], results: Results
) -> None:
    remarks = (results.command, *results.hardware, "; ".join(results.versions))
    report.write_csv(
        path,
        header,
        [[_plain(cell) if isinstance(cell, str) else cell for cell in line] for line in lines],
        [_plain(remark) for remark in remarks],
    )


def _plain(text: str) -> str:
    """In one line, and encodable whatever a file name was made of."""
    return " ".join(text.split()).encode(errors="replace").decode()

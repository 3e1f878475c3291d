"""The analyses of the paper for a model of ours: a page of figures and tables, and the numbers behind them.

    python benchmarks/figures.py all --data KODAK --perceptual squeezenet.safetensors -o docs
    python benchmarks/figures.py NAME ...        # one of steps, detail, allocation, correlation, times, ablation

Written are figures.md, images/figures/ and measurements/figures/ in the folder -o. A run replaces the sections that it
measures and leaves the others of the page as they are. `ablation` draws a table of benchmarks/ablation.py (--ablation);
`all` includes it where that is given. Times are worth something only on a machine that does nothing else.
"""

from __future__ import annotations

import argparse
import functools
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import program
import rdeic
from analyses import ablation, allocation, correlation, detail, page, sweep
from analyses.page import Section
from analyses.sweep import Axis, Decoding, Judge, Point
from rdeic.evaluation import metrics, report
from rdeic.evaluation.bench import times
from rdeic.evaluation.bench.subject import Named, Subject, check_names
from rdeic.evaluation.bench.times import Spread, StageTimes
from rdeic.evaluation.report import Table
from rdeic.pictures import images

METRICS = ("psnr", "ms_ssim", "lpips", "dists", "gradients", "perceptual")
TABLE_STEPS = (2, 5, 50)  # of the paper's Tables I and III
TIMED = 5  # pictures at most
QUALITY = 50.0  # that they are timed at

TEXTS = {
    "steps": """\
The paper's Fig. 8. The same files, restored in more and more steps: means over the pictures, one line for each quality.
Gradients are the mean length of the luminance's gradient over that of the original; below 1 is smoother than it.""",
    "detail": """\
The paper's Fig. 10. `--detail`, lambda_s of Eq. 15, scales what the control network adds to the noise estimator's own
estimate; 1 is how files are restored by default. The part shown is the one of its picture where the sweep changes most;
below each restoration is its distance to that at lambda_s = 1, mean over the three colours.""",
    "allocation": """\
The paper's Fig. 12 (a). Bits of y at every position, summed over the channels, by the tables of the entropy coder, over
the mean of their picture. The table says how much of a file is y (the rest: hyper indices and header), and how much of
y goes to the quarter of positions with the least and with the most contrast (standard deviation of the luminance around
the position). Bits that are spread evenly would give 25% to either.""",
    "correlation": """\
The paper's Fig. 12 (b). Correlation of (y - mu) / sigma with itself some rows and columns away, over all channels and
positions, mean of the pictures. The nearer to zero outside the middle, the less the entropy model has left to find. The
paper shows this for y itself; "as coded" is the same for round(y - mu) / sigma, without what rounding takes away.""",
    "times": """\
The paper's Tables I and III. Mean and standard deviation over the pictures, the model loaded and warm, from a picture
in memory to the bytes of a file and back. Remaining is all of decoding but the steps. The speedup is that of denoising
against the largest number of steps: Table III's Baseline takes 50. `rdeic bench` prints this table for any machine.""",
    "ablation": """\
The paper's Figs. 7 to 9 and its Table II, from the table that `benchmarks/ablation.py` made. BD-rates are against the
first variant: how many more (+) or fewer (-) bits the same quality takes. "of 5%": the two share no more than that of
all their qualities, so that little is known.""",
}
TITLES = {
    "steps": "Number of denoising steps",
    "detail": "Smoothness and sharpness",
    "allocation": "Where the bits go",
    "correlation": "What is left in the latent",
    "times": "Times",
    "ablation": "Ablations",
}


class Work(NamedTuple):
    """What the analyses share."""

    options: argparse.Namespace
    pictures: list[Named]
    shown: list[Named]
    judge: Judge
    remarks: tuple[str, ...]
    missing: tuple[str, ...]  # metrics that cannot be had here

    def image(self, name: str) -> Path:
        path: Path = self.options.output / page.IMAGES / name
        return path

    def numbers(self, name: str, table: Table) -> None:
        """Stores the measurements behind a section."""
        path = self.options.output / page.NUMBERS / f"{name}.csv"
        path.parent.mkdir(parents=True, exist_ok=True)
        report.write_csv(path, *table, self.remarks)

    def section(self, name: str, drawn: Sequence[str], table: Table) -> Section:
        return Section(name, TITLES[name], TEXTS[name], tuple(drawn), table, self.remarks)

    def subjects(self) -> list[Subject]:
        """The model, and the one to compare it with."""
        return [Subject(name, self.options.device) for name in models(self.options)]


def steps(work: Work) -> Section:
    decodings = [Decoding(count, 1.0) for count in work.options.steps]
    points = swept(work, "steps", decodings, sweep.STEPS)
    section = work.section("steps", ["steps.svg"], sweep.table(points, sweep.STEPS))
    return section._replace(remarks=work.remarks + work.missing)


def details(work: Work) -> Section:
    decodings = [Decoding(None, value) for value in work.options.details]
    points = swept(work, "detail", decodings, sweep.DETAIL)
    quality = work.options.qualities[-1]
    sheet = detail.measure(
        Subject(work.options.model, work.options.device), work.shown[0], quality, work.options.details
    )
    detail.draw(work.image("detail.jpg"), detail.cropped(sheet, detail.WINDOW))
    section = work.section("detail", ["detail.jpg", "detail.svg"], sweep.table(points, sweep.DETAIL))
    return section._replace(remarks=work.remarks + work.missing)


def swept(work: Work, name: str, decodings: Sequence[Decoding], axis: Axis) -> list[Point]:
    options = work.options
    subject = Subject(options.model, options.device)
    advance = counter(name, len(work.pictures) * len(options.qualities))
    points = sweep.measure(subject, work.pictures, work.judge, options.qualities, decodings, advance)
    work.numbers(name, sweep.as_csv(points))
    sweep.draw(work.image(f"{name}.svg"), points, axis)
    return points


def allocations(work: Work) -> Section:
    advance = counter("allocation", len(work.subjects()) * len(work.options.qualities) * len(work.pictures))
    found = []
    for subject in work.subjects():
        for quality in work.options.qualities:
            for one in work.pictures:
                found.append(allocation.measure(subject, one, quality))
                advance()
    names = [one.name for one in work.shown]
    allocation.draw(work.image("allocation.jpg"), work.shown, [one for one in found if one.image in names])
    work.numbers("allocation", allocation.as_csv(found))
    return work.section("allocation", ["allocation.jpg"], allocation.table(found))


def correlations(work: Work) -> Section:
    advance = counter("correlation", len(work.subjects()) * len(work.options.qualities))
    found = []
    for subject in work.subjects():
        for quality in work.options.qualities:
            found.append(correlation.measure(subject, work.pictures, quality))
            advance()
    correlation.draw(work.image("correlation.svg"), found)
    work.numbers("correlation", correlation.as_csv(found))
    return work.section("correlation", ["correlation.svg"], correlation.table(found))


def stage_times(work: Work) -> Section:
    load = f"load average before: {os.getloadavg()[0]:.1f}"
    timed = work.pictures[:TIMED]
    advance = counter("times", len(work.subjects()) * len(timed))
    rows = [
        row
        for subject in work.subjects()
        for row in times.measure(subject, timed, QUALITY, TABLE_STEPS, 1, advance)
    ]
    work.numbers("times", times_csv(rows))
    section = work.section("times", [], times.table(rows))
    remarks = (*section.remarks[:2], f"{which(timed)}, quality {QUALITY:g}", load)
    return section._replace(remarks=remarks)


def times_csv(rows: Sequence[StageTimes]) -> Table:
    """The times as rows of a CSV file: mean and deviation of every stage, in seconds."""
    stages = ("encoding", "denoising", "remaining")
    header = (*StageTimes._fields[:7], *(f"{stage}_{what}" for stage in stages for what in Spread._fields))
    lines = [
        (*map(str, row[:7]), *(f"{value:.5g}" for stage in stages for value in getattr(row, stage)))
        for row in rows
    ]
    return Table(header, lines)


def ablations(work: Work) -> Section:
    if work.options.ablation is None:
        raise rdeic.ConfigError("ablation needs --ablation, the CSV file that benchmarks/ablation.py wrote")
    rows = ablation.read(work.options.ablation)
    drawn = []
    for name, chosen in ablation.figures(rows).items():
        drawn.append(f"ablation-{name}.svg")
        ablation.draw(work.image(drawn[-1]), chosen)
    section = work.section("ablation", drawn, ablation.table(rows))
    return section._replace(remarks=report.read_csv(work.options.ablation).remarks)


ANALYSES: dict[str, Callable[[Work], Section]] = {
    "steps": steps,
    "detail": details,
    "allocation": allocations,
    "correlation": correlations,
    "times": stage_times,
    "ablation": ablations,
}


def counter(what: str, total: int) -> Callable[[], None]:
    """Says on stderr how far it got, each time it is called."""
    done = 0

    def advance() -> None:
        nonlocal done
        done += 1
        print(f"{what}: {done}/{total}", file=sys.stderr)

    return advance


def which(pictures: Sequence[Named]) -> str:
    return f"{len(pictures)} pictures: {', '.join(Path(one.name).stem for one in pictures)}"


def models(options: argparse.Namespace) -> list[str]:
    return [options.model, *([options.against] if options.against else [])]


def read_pictures(options: argparse.Namespace) -> list[Named]:
    """Raises ConfigError if there are none, ImageError."""
    if options.data is None:
        raise rdeic.ConfigError("--data is missing: name a folder of pictures")
    return [Named(one.name, images.read(one.path)) for one in program.scan(options.data, options.pictures)]


def choose(pictures: list[Named], names: list[str]) -> list[Named]:
    """Those with the given file names or stems, in that order. Raises ConfigError for a name that is not there."""
    known = {key: one for one in pictures for key in (one.name, one.name.rpartition(".")[0])}
    if missing := [name for name in names if name not in known]:
        raise rdeic.ConfigError(f"no picture {missing[0]!r} among {', '.join(one.name for one in pictures)}")
    return [known[name] for name in names]


def run(options: argparse.Namespace) -> None:
    """Raises RdeicError, and OSError where the disk fails."""
    program.use_threads(options.threads)
    names = [options.name]
    if options.name == "all":
        names = [name for name in ANALYSES if name != "ablation" or options.ablation]
    if names != ["ablation"]:
        check_names(models(options))
    pictures = [] if names == ["ablation"] else read_pictures(options)
    shown = choose(pictures, options.show) if options.show else pictures[:2]
    judges = metrics.load(METRICS, options.perceptual, options.device)
    missing = (f"not measured: {one.metric} ({one.reason})" for one in judges.unavailable)
    remarks = (f"`{report.command()}`", report.machine(), which(pictures))
    judge = functools.partial(metrics.scores, judges)
    work = Work(options, pictures, shown, judge, remarks, tuple(missing))
    for name in names:
        path = page.update(options.output, [ANALYSES[name](work)], tuple(ANALYSES))
        print(f"{path}: {name}", flush=True)


def parser() -> argparse.ArgumentParser:
    shared = ("--model", "--device", "--threads", "--pictures", "--qualities", "--perceptual")
    options = program.parser(__doc__, *shared)
    options.set_defaults(qualities="25,75")
    options.add_argument("name", choices=(*ANALYSES, "all"), metavar="NAME")
    options.add_argument(
        "--against", metavar="NAME|DIR", help="a second model, in allocation, correlation and times"
    )
    options.add_argument("--data", type=Path, metavar="PICTURES", help="a folder")
    options.add_argument(
        "--show", action="append", default=[], metavar="NAME", help="pictures to show; default: two"
    )
    options.add_argument("--steps", type=program.counts, default="1,2,3,4,5,10", metavar="L,L,...")
    options.add_argument("--details", type=program.numbers, default="0,0.5,1,1.5,2", metavar="LAMBDA_S,...")
    options.add_argument("--ablation", type=Path, metavar="CSV")
    options.add_argument("-o", "--output", type=Path, required=True, metavar="DIR")
    return options


if __name__ == "__main__":
    program.leave(lambda: run(parser().parse_args()), OSError)

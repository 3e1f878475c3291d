"""What a model card says of training: the pictures, their licences, and what each stage took."""

from __future__ import annotations

import re
import statistics
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import rdeic
from rdeic.evaluation import report
from rdeic.evaluation.report import Stored
from rdeic.training import config as settings
from rdeic.training.config import TrainConfig

GRANTED = {  # licence classes of the manifest under which the picture itself may be reused
    "public": "public domain or equivalent",
    "free": "free use granted by the author",
    "cc-by": "CC BY",
    "cc-by-sa": "CC BY-SA",
    "unsplash": "Unsplash, Pexels or CC0",
}
NOT_GRANTED = {
    "permissive": "only a licence for the repository as a whole (MIT, GPL, ...)",
    "research": "part of a research data set, or an example from research",
    "none": "no licence stated",
}
REPOSITORY_PAGE = "https://github.com/{}"

LICENCES = """\
{granted:,} of the {total:,} photographs come under a licence that permits reuse of the pictures (the first
{kinds} rows); the other {rest:,} **carry only the licence of a repository, are parts of research sets, or state
none**. The code and the weights are under the licence of this project, but whether weights learnt from such
pictures, or from share-alike ones, are free of other people's claims is not settled. Whoever needs a clean origin
should train anew, by the commands below, on pictures of their own. No training picture is in this repository or in
the package."""


class Stage(NamedTuple):
    """One run of `rdeic train`."""

    name: str
    path: Path  # of the configuration
    config: TrainConfig
    steps: int  # done
    hours: float
    held_out: str  # metrics of the last validation
    pictures: str  # what the log says of the data; "" if nothing


def read_stage(name: str, path: Path, log: Path) -> Stage:
    """Raises ConfigError if the log cannot be read or says of no validation. A run may have been stopped early."""
    config = settings.read(path)
    try:
        text = log.read_text(encoding="utf-8")
    except OSError as error:
        raise rdeic.ConfigError(f"{log}: cannot be read: {error.strerror}") from error
    seconds, last = 0.0, 0
    for step, pace in re.findall(r"^step +(\d+)/\d+ .*?([\d.]+) s/step", text, re.MULTILINE):
        # A resumed run repeats some steps, which took their time as well.
        done = int(step) - last if int(step) > last else config.log_every
        seconds, last = seconds + float(pace) * done, int(step)
    held_out = re.findall(r"^step +\d+/\d+  held out: (.+)$", text, re.MULTILINE)
    stopped = re.findall(r"^interrupted after step (\d+);", text, re.MULTILINE)
    done = max(last, int(stopped[-1]) if stopped else 0)
    if not held_out:
        raise rdeic.ConfigError(f"{log}: the run was never validated")
    pictures = re.findall(r"^(\d+ pictures, .+)$", text, re.MULTILINE)
    return Stage(name, path, config, done, seconds / 3600, held_out[-1], pictures[-1] if pictures else "")


def data_section(manifest: Stored) -> Iterator[str]:
    rows = manifest.rows
    classes = Counter(row["licence_class"] for row in rows)
    if unknown := classes.keys() - GRANTED.keys() - NOT_GRANTED.keys():
        raise rdeic.ConfigError(
            f"the manifest has licence classes without a meaning: {', '.join(sorted(unknown))}"
        )
    sides = [min(int(row["width"]), int(row["height"])) for row in rows]
    reduced = sum(int(row["original"].split("x")[0]) > int(row["width"]) for row in rows)
    repositories = len({row["repository"] for row in rows})
    granted = sum(classes[name] for name in GRANTED)
    yield "## Data"
    yield (
        f"{len(rows):,} photographs from {repositories} public repositories, {reduced:,} of them scaled down from "
        f"larger originals: the shorter side has {min(sides)} to {max(sides)} pixels, the median is "
        f"{statistics.median(sides):.0f}. They were compared with the Kodak pictures, which serve for evaluation "
        "only, and duplicates left out."
    )
    yield "## Licence situation"
    yield LICENCES.format(granted=granted, total=len(rows), rest=len(rows) - granted, kinds=len(GRANTED))
    meanings = GRANTED | NOT_GRANTED
    lines = [(meaning, f"{classes[name]:,}") for name, meaning in meanings.items()]
    yield report.markdown(("what the source states", "pictures"), lines)
    sources = Counter((row["repository"], row["licence_class"]) for row in rows)
    table = report.markdown(
        ("repository", "pictures", "class"),
        [(f"[{r}]({REPOSITORY_PAGE.format(r)})", str(n), c) for (r, c), n in sorted(sources.items())],
    )
    yield f"<details><summary>All sources</summary>\n\n{table}\n\n</details>"


def training_section(stages: list[Stage], hardware: str, start: str) -> Iterator[str]:
    yield "## Training"
    hours = sum(stage.hours for stage in stages)
    used = next((f" {stage.pictures}." for stage in stages if stage.pictures), "")
    yield f"On {hardware}: {hours:.1f} hours in all.{used} Every setting is in the configuration."
    if start:
        yield start
    commands = "\n".join(
        f"rdeic train {stage.name} --config {stage.path.as_posix()} --data PHOTOGRAPHS "
        f"-o runs/{stage.config.name}/{stage.path.stem}"
        for stage in stages
    )
    yield f"```\n{commands}\n```"
    lines = [
        (
            stage.path.stem,
            progress(stage),
            f"{stage.config.batch} x {stage.config.crop}x{stage.config.crop}",
            f"{stage.config.learning_rate:g}",
            stage.config.precision,
            f"{stage.hours:.2f}",
        )
        for stage in stages
    ]
    yield report.markdown(("stage", "steps", "batch", "learning rate", "precision", "hours"), lines)
    yield "The last validation of each, on held-out centre crops (as its log has it):"
    yield "\n".join(f"* {stage.path.stem}: {stage.held_out}" for stage in stages)


def progress(stage: Stage) -> str:
    planned = stage.config.steps
    whole = stage.steps == planned or stage.config.minutes > 0
    return f"{stage.steps:,}" if whole else f"{stage.steps:,} of {planned:,}"

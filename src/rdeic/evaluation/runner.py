"""A whole evaluation: every picture of a data set through every codec at every setting, several at once."""

from __future__ import annotations

import functools
import itertools
import os
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from importlib import metadata
from pathlib import Path
from typing import NamedTuple

import rdeic
from rdeic.errors import ConfigError
from rdeic.evaluation import datasets, metrics, patches, pool, report, results, worker
from rdeic.evaluation.journal import Journal, Key
from rdeic.evaluation.metrics import Judges
from rdeic.evaluation.results import ORIGINAL, Results, Shown
from rdeic.evaluation.types import Codec, Measurement, Score, SetScore, Unavailable, UnavailableCodec
from rdeic.evaluation.worker import Setup, Task

MAX_JOBS = 8  # by default: each holds a model and a few pictures in memory
_PACKAGES = ("torch", "pillow", "numpy")


class Plan(NamedTuple):
    """What to measure."""

    dataset: Path  # folder of pictures
    protocol: str  # of datasets.PROTOCOLS
    codecs: tuple[Codec, ...]
    unavailable: tuple[UnavailableCodec, ...]  # asked for; passed on to the report
    metrics: tuple[str, ...]  # of metrics.NAMES
    weights: str | None  # file of the metric "perceptual"
    device: str | None  # of the metrics; None: the first GPU, or else the CPU
    jobs: int  # pictures at once
    show: int  # of how many pictures the restored ones are kept for the viewer
    command: str  # that repeats it


def default_jobs() -> int:
    """One for each core this process may use, at most MAX_JOBS."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(cores, MAX_JOBS)


def count(plan: Plan) -> int:
    """How many measurements a plan means. Raises ConfigError if there are no pictures."""
    return len(datasets.scan(plan.dataset)) * sum(len(codec.settings) for codec in plan.codecs)


def run(plan: Plan, folder: Path, tick: Callable[[], None]) -> Results:
    """Measures what is not in `folder`'s journal yet, and writes results.json there.

    `tick` is called for each measurement, those of an earlier run included. A codec that fails, crashes or takes too
    long is recorded so, and tried again when the run is repeated. Raises ConfigError for a plan that makes no sense,
    OSError if `folder` cannot be written.
    """
    images = datasets.scan(plan.dataset)
    _check(plan)
    folder.mkdir(parents=True, exist_ok=True)
    judges = metrics.load(plan.metrics, plan.weights, plan.device)
    setup = _setup(plan, judges, folder)
    tasks = _tasks(setup, images, plan.show)
    journal = Journal(folder)
    done: dict[Task, Measurement] = {}
    for task in tasks:
        found = journal.find(_key(setup, task), judges.labels)
        if found is not None and _kept(setup, judges, task):
            done[task] = _only(found, judges)
            tick()
    waiting = [task for task in tasks if task not in done]
    for task, measurement in _measure(setup, waiting, plan.jobs):
        journal.add(_key(setup, task), judges.labels, measurement)
        done[task] = measurement
        tick()
    made = _results(plan, setup, judges, [(task, done[task]) for task in tasks])
    results.save(made, folder)
    return made


def _check(plan: Plan) -> None:
    if not plan.codecs:
        reasons = "; ".join(f"{one.codec}: {one.reason}" for one in plan.unavailable)
        raise ConfigError(f"no codec to measure: {reasons or 'name one with --codec'}")
    names = [codec.name for codec in plan.codecs]
    if twice := {name for name in names if names.count(name) > 1}:
        raise ConfigError(f"{', '.join(sorted(twice))}: named twice; give all settings of a codec at once")
    if plan.jobs < 1 or plan.show < 0:
        raise ConfigError("jobs must be at least 1, the pictures to show at least 0")
    if plan.protocol not in datasets.PROTOCOLS:
        raise ConfigError(f"no protocol {plan.protocol!r}: choose from {', '.join(datasets.PROTOCOLS)}")


def _setup(plan: Plan, judges: Judges, folder: Path) -> Setup:
    missing = {one.metric for one in judges.unavailable}
    return Setup(
        codecs=plan.codecs,
        metrics=tuple(name for name in plan.metrics if name not in missing),
        weights=plan.weights,
        device=plan.device,
        protocol=plan.protocol,
        threads=max(1, (os.cpu_count() or 1) // plan.jobs),
        folder=folder,
    )


def _tasks(setup: Setup, images: Sequence[datasets.Entry], show: int) -> list[Task]:
    """Picture by picture, so that a run that is stopped has all codecs on the same pictures."""
    return [
        Task(index, setting, image, place < show)
        for place, image in enumerate(images)
        for index, codec in enumerate(setup.codecs)
        for setting in dict.fromkeys(codec.settings)
    ]


def _key(setup: Setup, task: Task) -> Key:
    codec = setup.codecs[task.codec]
    return Key(codec.name, codec.version, task.setting, task.image.name, task.image.digest, setup.protocol)


def _kept(setup: Setup, judges: Judges, task: Task) -> bool:
    """Whether the files that go with a measurement are there."""
    wanted = [worker.picture_path, worker.original_path] if task.shown else []
    if judges.extractor is not None:
        wanted += [worker.features_path, worker.original_features_path]
    return all((setup.folder / path(setup, task)).is_file() for path in wanted)


def _only(measurement: Measurement, judges: Judges) -> Measurement:
    """Without the scores of metrics that an earlier run asked for and this one does not."""
    wanted = [score for score in measurement.scores if score.metric in judges.of_pictures]
    return measurement._replace(scores=tuple(sorted(wanted, key=lambda s: metrics.NAMES.index(s.metric))))


def _measure(setup: Setup, tasks: Sequence[Task], jobs: int) -> Iterator[tuple[Task, Measurement]]:
    def limit(task: Task) -> float:
        return setup.codecs[task.codec].timeout

    begin = functools.partial(worker.start, setup)
    for task, result in pool.run(begin, tasks, jobs, limit):
        if isinstance(result, pool.Failure):
            result = worker.failed(setup, task, result.reason)
        yield task, result


def _results(plan: Plan, setup: Setup, judges: Judges, pairs: list[tuple[Task, Measurement]]) -> Results:
    order = {codec.name: {s: i for i, s in enumerate(codec.settings)} for codec in plan.codecs}
    names = list(order)
    measurements = sorted(
        (one for _, one in pairs), key=lambda m: (names.index(m.codec), order[m.codec][m.setting], m.image)
    )
    set_scores, gaps = _set_scores(plan, setup, judges, pairs)
    return Results(
        dataset=plan.dataset.resolve().name,
        protocol=plan.protocol,
        metrics=tuple(name for name in metrics.NAMES if name in plan.metrics),
        codecs=tuple(names),
        measurements=tuple(measurements),
        set_scores=tuple(set_scores),
        unavailable=(*judges.unavailable, *gaps, *_undefined(judges, measurements)),
        unavailable_codecs=plan.unavailable,
        shown=tuple(_shown(setup, pairs)),
        command=plan.command,
        versions=(
            f"rdeic {rdeic.__version__}",
            *(f"{package} {metadata.version(package)}" for package in _PACKAGES),
            *judges.versions,
            *(f"{codec.name}: {codec.version}" for codec in plan.codecs),
        ),
        hardware=f"{report.machine()}; {plan.jobs} at once, {setup.threads} threads each",
    )


def _set_scores(
    plan: Plan, setup: Setup, judges: Judges, pairs: list[tuple[Task, Measurement]]
) -> tuple[list[SetScore], list[Unavailable]]:
    """FID and KID of every codec and setting whose pictures all came through; and why there are none of others."""
    found: list[SetScore] = []
    gaps: list[Unavailable] = []
    names = [name for name in metrics.OF_SET if name in setup.metrics]
    if not names:
        return found, gaps
    groups: dict[tuple[str, str], list[tuple[Task, Measurement]]] = defaultdict(list)
    for task, one in pairs:
        groups[one.codec, one.setting].append((task, one))
    for (codec, setting), group in groups.items():
        failures = sum(bool(one.error) for _, one in group)
        if failures:
            reason = f"not of {codec} {setting}: {failures} of {len(group)} pictures failed"
            gaps += [Unavailable(name, reason) for name in names]
            continue
        tasks = [task for task, _ in group]
        restored = patches.stack([setup.folder / worker.features_path(setup, task) for task in tasks])
        original = patches.stack(
            [setup.folder / worker.original_features_path(setup, task) for task in tasks]
        )
        if len(original) < patches.MIN_PATCHES:
            reason = f"not of {codec} {setting}: {len(original)} patches of {patches.SIDE} pixels are too few"
            gaps += [Unavailable(name, reason) for name in names]
            continue
        functions = {"fid": patches.fid, "kid": patches.kid}
        found += [
            SetScore(codec, setting, Score(name, functions[name](restored, original))) for name in names
        ]
    return found, gaps


def _undefined(judges: Judges, measurements: Sequence[Measurement]) -> Iterator[Unavailable]:
    """Metrics that some of the pictures are too small for."""
    for name in judges.of_pictures:
        without = {
            one.image for one in measurements if not one.error and name not in {s.metric for s in one.scores}
        }
        if without:
            yield Unavailable(name, f"not of {len(without)} pictures, which are too small for it")


def _shown(setup: Setup, pairs: list[tuple[Task, Measurement]]) -> Iterator[Shown]:
    """The originals, then the restored pictures, as far as there are any."""
    kept = [(task, one) for task, one in pairs if task.shown and not one.error]
    for image, group in itertools.groupby(kept, key=lambda pair: pair[0].image):
        task = next(group)[0]
        yield Shown(ORIGINAL, "", image.name, worker.original_path(setup, task).as_posix())
    for task, one in kept:
        yield Shown(one.codec, one.setting, one.image, worker.picture_path(setup, task).as_posix())

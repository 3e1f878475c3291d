"""A whole evaluation: every picture of a data set through every codec at every setting, several at once."""

from __future__ import annotations

import contextlib
import functools
import itertools
import tempfile
from collections.abc import Callable, Generator, Iterator, Sequence
from importlib import metadata
from pathlib import Path
from typing import NamedTuple

import torch

import rdeic
from rdeic.errors import ConfigError
from rdeic.evaluation import datasets, metrics, pool, report, results, whole_sets, worker
from rdeic.evaluation.journal import Entry, Journal, Key
from rdeic.evaluation.metrics import Judges
from rdeic.evaluation.results import ORIGINAL, Results, Shown
from rdeic.evaluation.types import Codec, Measurement, Unavailable, UnavailableCodec
from rdeic.evaluation.worker import Setup, Task
from rdeic.system import memory, threads

MAX_JOBS = 8  # by default: each holds a model and a few pictures in memory
# Of memory, by a process and by a pixel of its picture; SSIMULACRA2 has 520 bytes of 560.
_PROCESS_BYTES, _PIXEL_BYTES = 500_000_000, 560
_SHARE = 0.8  # of the free memory
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


class Done(NamedTuple):
    """One measurement, made now or earlier."""

    task: Task
    hardware: str  # one line
    measurement: Measurement


def default_jobs(dataset: Path, protocol: str) -> int:
    """One for each core this process may use, at most MAX_JOBS, and as many as memory has room for.

    Raises ConfigError if there are no pictures.
    """
    free, needed = memory.free(), _PROCESS_BYTES + _PIXEL_BYTES * datasets.largest(dataset, protocol)
    room = MAX_JOBS if free is None else max(1, int(_SHARE * free / needed))
    return min(threads.cores(), MAX_JOBS, room)


def count(plan: Plan) -> int:
    """How many measurements a plan means. Raises ConfigError if there are no pictures."""
    return len(datasets.scan(plan.dataset)) * sum(len(codec.settings) for codec in plan.codecs)


def run(plan: Plan, folder: Path, tick: Callable[[], None]) -> Results:
    """Measures what is not in `folder`'s journal yet, and writes results.json there.

    `tick` is called for each measurement, those of an earlier run included. A codec that fails, crashes or takes too
    long is recorded so, and tried again when the run is repeated. Raises ConfigError for a plan that makes no sense
    and a `folder` within the data set, OSError if `folder` cannot be written.
    """
    if folder.resolve().is_relative_to(plan.dataset.resolve()):
        raise ConfigError(
            f"{folder}: lies within the pictures, and would be measured next time; choose another -o"
        )
    images = datasets.scan(plan.dataset)
    _check(plan)
    folder.mkdir(parents=True, exist_ok=True)
    worker.sweep(folder)
    judges = metrics.load(plan.metrics, plan.weights, plan.device)
    # Processes that are killed leave their temporary files behind.
    with tempfile.TemporaryDirectory(prefix="rdeic-", ignore_cleanup_errors=True) as scratch:
        setup = _setup(plan, judges, folder, Path(scratch))
        done = _all(plan, setup, judges, _tasks(setup, images, plan.show), tick)
    made = _results(plan, setup, judges, done)
    results.save(made, folder)
    return made


def _check(plan: Plan) -> None:
    if not plan.codecs:
        reasons = "; ".join(f"{one.codec}: {one.reason}" for one in plan.unavailable)
        raise ConfigError(f"no codec to measure: {reasons or 'name one with --codec'}")
    names = [codec.name for codec in plan.codecs]
    if twice := {name for name in names if names.count(name) > 1}:
        raise ConfigError(
            f"{', '.join(sorted(twice))}: named twice; give all settings of a codec at once, and models folders of "
            "different names"
        )
    if plan.jobs < 1 or plan.show < 0:
        raise ConfigError("jobs must be at least 1, the pictures to show at least 0")
    if plan.protocol not in datasets.PROTOCOLS:
        raise ConfigError(f"no protocol {plan.protocol!r}: choose from {', '.join(datasets.PROTOCOLS)}")


def _setup(plan: Plan, judges: Judges, folder: Path, scratch: Path) -> Setup:
    missing = {one.metric for one in judges.unavailable}
    return Setup(
        codecs=plan.codecs,
        metrics=tuple(name for name in plan.metrics if name not in missing),
        weights=plan.weights,
        device=plan.device,
        protocol=plan.protocol,
        threads=max(1, threads.cores() // plan.jobs),
        folder=folder,
        scratch=scratch,
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


def _all(
    plan: Plan, setup: Setup, judges: Judges, tasks: Sequence[Task], tick: Callable[[], None]
) -> list[Done]:
    """What the journal has, and the rest measured now."""
    journal = Journal(setup.folder)
    done: dict[Task, Entry] = {}
    for task in tasks:
        found = journal.find(_key(setup, task), judges.labels)
        if found is not None and _kept(setup, judges, task):
            done[task] = found._replace(measurement=_only(found.measurement, judges))
            tick()
    hardware = _hardware(plan, setup)
    waiting = [task for task in tasks if task not in done]
    with contextlib.closing(_measure(setup, waiting, plan.jobs)) as measured:
        for task, measurement in measured:
            done[task] = Entry(judges.labels, hardware, measurement)
            journal.add(_key(setup, task), done[task])
            tick()
    return [Done(task, done[task].hardware, done[task].measurement) for task in tasks]


def _hardware(plan: Plan, setup: Setup) -> str:
    device = plan.device or ("cuda" if torch.cuda.is_available() else "cpu")
    return f"{report.host()}; models on {device}, {plan.jobs} at once, {setup.threads} threads each"


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


def _measure(
    setup: Setup, tasks: Sequence[Task], jobs: int
) -> Generator[tuple[Task, Measurement], None, None]:
    def limit(task: Task) -> float:
        return setup.codecs[task.codec].timeout

    begin = functools.partial(worker.start, setup)
    for task, result in pool.run(begin, tasks, jobs, limit):
        if isinstance(result, pool.Failure):
            result = worker.failed(setup, task, result.reason)
        yield task, result


def _results(plan: Plan, setup: Setup, judges: Judges, done: Sequence[Done]) -> Results:
    order = {codec.name: {s: i for i, s in enumerate(codec.settings)} for codec in plan.codecs}
    names = list(order)
    measurements = sorted(
        (one.measurement for one in done),
        key=lambda m: (names.index(m.codec), order[m.codec][m.setting], m.image),
    )
    pairs = [(one.task, one.measurement) for one in done]
    set_scores, gaps = whole_sets.scores(setup, pairs)
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
        hardware=tuple(dict.fromkeys(one.hardware for one in done)),
    )


def _undefined(judges: Judges, measurements: Sequence[Measurement]) -> Iterator[Unavailable]:
    """Metrics that some of the pictures are too small for."""
    for name in judges.of_pictures:
        without = {
            one.image for one in measurements if not one.error and name not in {s.metric for s in one.scores}
        }
        if without:
            yield Unavailable(
                name,
                f"not of {len(without)} pictures, which are too small or flat for it; so it has no means",
            )


def _shown(setup: Setup, pairs: Sequence[tuple[Task, Measurement]]) -> Iterator[Shown]:
    """The originals, then the restored pictures, as far as there are any."""
    kept = [(task, one) for task, one in pairs if task.shown and not one.error]
    for image, group in itertools.groupby(kept, key=lambda pair: pair[0].image):
        task = next(group)[0]
        yield Shown(ORIGINAL, "", image.name, worker.original_path(setup, task).as_posix())
    for task, one in kept:
        yield Shown(one.codec, one.setting, one.image, worker.picture_path(setup, task).as_posix())

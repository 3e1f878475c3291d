"""The part of the agenda that trains: stages one after the other, each for its share of what is left of a call."""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import io
import json
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import FrameType
from typing import NamedTuple, TextIO

import torch

from agenda_clock import Clock, OutOfTimeError
from rdeic.checkpoints import registry
from rdeic.checkpoints.checkpoints import load_model, save_model
from rdeic.errors import ConfigError, TrainingError
from rdeic.system import files
from rdeic.training import checkpoint, sources
from rdeic.training import config as settings
from rdeic.training import run as train
from rdeic.training.config import TrainConfig
from rdeic.training.data import decode

STEPS = 1_000_000  # more than any call has time for: the clock ends a run, and warm-up is a share of these
SMALLEST_BATCH = 8
SAMPLE = 32  # pictures that are read to learn how long reading all of them will take


class Leg(NamedTuple):
    """One stage of the agenda."""

    stage: str
    config: Path  # its name is the stage's folder: one kind of stage may come twice
    share: float  # of the training time


class Plan(NamedTuple):
    """What was decided about a stage when it began; later calls keep to it."""

    minutes: float
    steps: int
    warmup_steps: int
    batch: int


def legs(arguments: argparse.Namespace) -> list[Leg]:
    """Raises ConfigError unless the shares are numbers above 0 that sum up to 1 at most."""
    try:
        found = [Leg(stage, Path(config), float(share)) for stage, config, share in arguments.train]
    except ValueError as error:
        raise ConfigError(f"--train STAGE CONFIG SHARE: {error}") from error
    if min(leg.share for leg in found) <= 0 or sum(leg.share for leg in found) > 1.001:
        raise ConfigError("--train STAGE CONFIG SHARE: shares must be above 0 and at most 1 together")
    return found


def train_all(arguments: argparse.Namespace, clock: Clock, deliver: Callable[[Path], None]) -> None:
    """The stages that are not finished, up to the end of the call; each stage's folder is given to `deliver`.

    Raises OutOfTimeError where the end comes first.
    """
    start, run = arguments.start, arguments.run
    for number, leg in enumerate(legs(arguments)):
        out: Path = arguments.work / leg.config.stem
        if not finished(out):
            clock.require(arguments.worthwhile)
            if number == 0 and run is not None:
                take_over(run, out)
            config = _config(leg, start, arguments)
            later = sum(other.share for other in legs(arguments)[number:])
            try:
                _train_leg(leg, config, leg.share / later, out, arguments, clock)
            finally:
                deliver(out)
            if torch.cuda.is_available():
                torch.cuda.empty_cache()
            if not finished(out):
                raise OutOfTimeError
        start = out / "model"


def finished(out: Path) -> bool:
    return (out / "model" / registry.CONFIG_FILE).is_file()


def take_over(run: Path, out: Path) -> None:
    """The newest checkpoint of a run as the first of `out`, its clock at zero. Raises CheckpointError."""
    if checkpoint.steps(out):
        return
    if not (found := checkpoint.steps(run)):
        raise ConfigError(f"{run} holds no checkpoint to go on from")
    saved = checkpoint.load(checkpoint.path_of(found[-1], run))
    checkpoint.save(saved._replace(elapsed=0.0), out, keep_last=1)
    print(f"taken over: {run} after step {saved.step}", flush=True)


def _config(leg: Leg, start: Path | None, arguments: argparse.Namespace) -> TrainConfig:
    config = settings.read(leg.config)
    config = dataclasses.replace(config, model=str(start or config.model))
    if config.perceptual:
        config = dataclasses.replace(config, perceptual=str(arguments.perceptual or config.perceptual))
    if torch.cuda.is_available():
        held = max(config.cache_mb, arguments.cache_mb)
        config = dataclasses.replace(config, images_on="device", cache_mb=held)
    return config


def _train_leg(
    leg: Leg, config: TrainConfig, share: float, out: Path, arguments: argparse.Namespace, clock: Clock
) -> None:
    """One stage, with half the batch for as long as memory runs out before the first step."""
    while True:
        plan = planned(config, share, out, arguments, clock)
        warmup = plan.warmup_steps
        fitted = dataclasses.replace(
            config, minutes=plan.minutes, steps=plan.steps, warmup_steps=warmup, batch=plan.batch
        )
        try:
            with ending_after(clock.left), _logged(out / "log.txt"):
                train(leg.stage, fitted, arguments.data, resume=True, dry_run=False, out=out)
            return
        except TrainingError as error:
            fresh = not checkpoint.steps(out)
            if "out of memory" not in str(error) or not fresh or plan.batch <= SMALLEST_BATCH:
                raise
            print(f"{leg.stage}: {plan.batch} crops are too many", flush=True)
            (out / "plan.json").unlink()
            config = dataclasses.replace(config, batch=plan.batch // 2)


def planned(
    config: TrainConfig, share: float, out: Path, arguments: argparse.Namespace, clock: Clock
) -> Plan:
    """The minutes that a stage may train in this call, less what loading and finishing take; decided once.

    A run that is taken over has had its warm-up. Raises OutOfTimeError if nothing is left.
    """
    path = out / "plan.json"
    if not path.is_file():
        left = 60.0 * arguments.training_minutes if arguments.training_minutes else clock.left
        seconds = share * left - _loading_seconds(arguments.data) - arguments.finish_seconds
        if seconds <= 0:
            raise OutOfTimeError
        done = max(checkpoint.steps(out), default=0)
        warmup = 0 if done else round(STEPS * config.warmup_steps / config.steps)
        plan = Plan(seconds / 60.0, done + STEPS, warmup, config.batch)
        out.mkdir(parents=True, exist_ok=True)
        files.atomic_write(path, json.dumps(plan._asdict()).encode())
        print(f"{out.name}: {plan.minutes:.2f} minutes, {plan.batch} crops a step", flush=True)
    return Plan(**json.loads(path.read_text(encoding="utf-8")))


def _loading_seconds(data: Sequence[Path]) -> float:
    """How long reading all pictures will take, by a sample of them."""
    found = sources.find(data)
    sample = found[:: -(-len(found) // SAMPLE)] if found else []
    start = time.monotonic()
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        list(pool.map(decode, sample))
    return 1.2 * (time.monotonic() - start) * len(found) / max(len(sample), 1)


def freight(out: Path) -> tuple[str, list[tuple[str, Path]]]:
    """What came of a stage, as an archive's name and (name inside, file)s.

    Of a finished one the model in half precision, of another the newest checkpoint, with which it goes on.
    """
    entries = [
        (f"{out.name}/{path.name}", path)
        for name in ("plan.json", "log.txt")
        if (path := out / name).is_file()
    ]
    if finished(out):
        half = out / "half"
        save_model(load_model(out / "model", "cpu", precision=torch.float32)[0], half, torch.float16)
        return f"{out.name}-model", entries + [
            (f"{out.name}/model/{path.name}", path) for path in sorted(half.iterdir())
        ]
    newest = [checkpoint.path_of(step, out) for step in checkpoint.steps(out)[-1:]]
    return f"{out.name}-checkpoint", entries + [(f"{out.name}/{path.name}", path) for path in newest]


@contextlib.contextmanager
def ending_after(seconds: float) -> Iterator[None]:
    """Training inside the block that is not over after `seconds` ends as on SIGTERM: with a checkpoint."""

    def end(number: int, frame: FrameType | None) -> None:
        if signal.getsignal(signal.SIGTERM) is signal.SIG_DFL:  # not in its loop yet, or no longer
            signal.setitimer(signal.ITIMER_REAL, 0.2)
        else:
            signal.raise_signal(signal.SIGTERM)

    before = signal.signal(signal.SIGALRM, end)
    signal.setitimer(signal.ITIMER_REAL, max(seconds, 1e-3))
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


class _Both(io.TextIOBase):
    """Writes to a stream and to a file."""

    def __init__(self, stream: TextIO, file: TextIO) -> None:
        self._streams = stream, file

    def write(self, text: str) -> int:
        for stream in self._streams:
            stream.write(text)
        return len(text)

    def flush(self) -> None:
        for stream in self._streams:
            stream.flush()


@contextlib.contextmanager
def _logged(path: Path) -> Iterator[None]:
    """What is said on stderr goes to `path` too."""
    with path.open("a", encoding="utf-8") as file, contextlib.redirect_stderr(_Both(sys.stderr, file)):
        yield

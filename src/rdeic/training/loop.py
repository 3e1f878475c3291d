"""The optimisation loop, the same for every stage. A resumed run ends with the weights of an uninterrupted one."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType
from typing import NamedTuple, TypeAlias

import torch
from torch import Tensor

from rdeic.errors import TrainingError
from rdeic.training import checkpoint
from rdeic.training.config import TrainConfig
from rdeic.training.contract import Stage
from rdeic.training.data import ImageSet
from rdeic.training.features import FeatureSet
from rdeic.training.memory import named_when_exhausted
from rdeic.training.processes import Processes
from rdeic.training.report import Report
from rdeic.training.selection import badness
from rdeic.training.trainer import Step, Trainer, to_signed

SMALLEST_SCALE = 1.0  # of the loss in fp16: below it, gradients are no numbers at any scale

TrainingSet: TypeAlias = ImageSet | FeatureSet
Export = Callable[[Path], None]  # writes the model, as it is at that moment, into a folder


class Data(NamedTuple):
    """What a run learns from and what it is judged by."""

    training: TrainingSet
    held_out: Tensor  # uint8 (N, 3, H, W), N at least 1


def train(
    stage: Stage,
    data: Data,
    config: TrainConfig,
    out: Path,
    resume: bool,
    export: Export,
    processes: Processes,
) -> bool:
    """Trains `stage` to its last step or minute, or to an interruption (SIGTERM, Ctrl-C), which leaves a checkpoint.

    Returns whether it was finished; if so the averaged weights, finished by the stage, are in `out / "model"`. The
    best ones by `config.keep_best` are in `out / "best"`. The first process alone writes. Raises TrainingError if the
    loss is no number, memory runs out, or `out` holds another run's checkpoints and `resume` is false;
    CheckpointError if the newest checkpoint does not fit; ConfigError if `keep_best` names no metric.
    """
    trainer = Trainer(stage, config, processes)
    _start(trainer, out, resume)
    run = _Run(trainer, data, out, export)
    with named_when_exhausted(), run.reporting(), _interruption() as interrupted:
        run.advance(interrupted)
        if not trainer.done:
            return False
        run.write(out / "model")
    return True


def _start(trainer: Trainer, out: Path, resume: bool) -> None:
    """Makes the folder, or takes up its newest checkpoint, the same in every process."""
    newest = trainer.processes.first_says(max(checkpoint.steps(out), default=-1))
    if newest >= 0 and not resume:
        raise TrainingError(
            f"{out} holds checkpoints of an earlier run; pass --resume or choose another folder with -o"
        )
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise TrainingError(
            f"cannot make the folder {out}: {error.strerror}; name another with -o"
        ) from error
    if newest >= 0:
        trainer.restore(checkpoint.path_of(newest, out))
    trainer.processes.align(trainer.parameters)


class _Run:
    """What the steps of one run share."""

    def __init__(self, trainer: Trainer, data: Data, out: Path, export: Export) -> None:
        self.trainer, self.data, self.out, self.export = trainer, data, out, export
        self.config, self.processes = trainer.config, trainer.processes
        self.report = Report(out, trainer.step, self.config.steps, self.processes.first)

    @contextlib.contextmanager
    def reporting(self) -> Iterator[None]:
        try:
            yield
        finally:
            self.report.close()

    def advance(self, interrupted: threading.Event) -> None:
        """Steps until the run is done, or until some process is interrupted."""
        trainer, config = self.trainer, self.config
        if config.keep_best:  # a wrong name is better known now than after the first thousand steps
            badness(config.keep_best, trainer.validate(self.data.held_out[:1]))
        window: list[Step] = []
        end = trainer.step if trainer.done else config.steps
        trainer.clock.start()
        with contextlib.closing(self.data.training.batches(trainer.step, end)) as batches:
            for pictures in batches:
                window.append(trainer.advance(pictures))
                step, stopped = trainer.step, self.processes.any([interrupted.is_set()])[0]
                last = trainer.done or stopped
                saving, logging = (
                    last or step % config.checkpoint_every == 0,
                    last or step % config.log_every == 0,
                )
                if saving or logging:
                    self._look(window, logging)
                if logging:
                    window.clear()
                if step % config.validate_every == 0 or trainer.done:
                    self._validate()
                if saving:
                    trainer.save(self.out)
                if last:
                    break
        if not trainer.done:
            self.report.say(f"interrupted after step {trainer.step}; --resume goes on from there")

    def write(self, folder: Path) -> None:
        """The model as it would be now, were the run over."""
        if self.processes.first:
            with self.trainer.finished(self._recent()):
                self.export(folder)

    def _recent(self) -> Iterator[Tensor]:
        for step in reversed(range(self.trainer.step)):
            yield to_signed(self.data.training.whole_batch(step), self.trainer.device)

    def _look(self, window: list[Step], logging: bool) -> None:
        """Raises TrainingError where a loss of the window is no number; reports its means."""
        names, table = _table(window)
        table = self.processes.average(table).cpu()  # (steps, columns)
        self._require_finite(table)
        if logging:
            means = list(zip(names, table.mean(0).tolist(), strict=True))
            rate = ("lr", window[-1].learning_rate)
            self.report.log(self.trainer.step, [*means, rate], self.trainer.clock.left)

    def _require_finite(self, table: Tensor) -> None:
        scaler = self.trainer.scaler
        # A scaled gradient may overflow: the scaler then leaves the step out and lowers the scale.
        looked_at = table[:, :1] if scaler.is_enabled() else table[:, [0, -1]]
        finite = looked_at.isfinite().all(1).tolist()
        if all(finite) and not (scaler.is_enabled() and scaler.get_scale() < SMALLEST_SCALE):
            return
        at = self.trainer.step - len(finite) + (1 + finite.index(False) if not all(finite) else len(finite))
        raise TrainingError(
            f"loss or gradient is no longer a number at step {at}; lower learning_rate or clip_norm, or set"
            ' precision = "fp32", then go on from the last checkpoint with --resume'
        )

    def _validate(self) -> None:
        trainer, metric = self.trainer, self.config.keep_best
        found = trainer.validate(self.data.held_out)
        self.report.validation(trainer.step, found)
        if metric and (bad := badness(metric, found)) < trainer.best:
            trainer.best = bad
            self.write(self.out / "best")
            self.report.say(f"the best {metric} so far; this model is in {self.out / 'best'}")


def _table(window: list[Step]) -> tuple[list[str], Tensor]:
    """Names, and a row for each step: loss, its terms, gradient norm."""
    names = ["loss", *(name for name, _ in window[0].loss.terms), "grad"]
    rows = [
        [entry.loss.total, *(value for _, value in entry.loss.terms), entry.grad_norm] for entry in window
    ]
    return names, torch.stack([torch.stack([value.float() for value in row]) for row in rows])


@contextlib.contextmanager
def _interruption() -> Iterator[threading.Event]:
    """An event set by SIGTERM or Ctrl-C, so that the step under way still ends; a second one stops at once."""
    event = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield event
        return

    def ask(number: int, frame: FrameType | None) -> None:
        event.set()
        signal.signal(number, before[number])

    before = {int(number): signal.signal(number, ask) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield event
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)

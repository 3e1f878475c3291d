"""The optimisation loop, the same for every stage. A resumed run ends with the weights of an uninterrupted one."""

from __future__ import annotations

import math
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from rdeic.errors import CheckpointError, TrainingError
from rdeic.training import checkpoint
from rdeic.training.config import TrainConfig
from rdeic.training.contract import Stage, StageLoss
from rdeic.training.data import ImageSet
from rdeic.training.ema import Ema
from rdeic.training.report import Report, Scalars

BETAS = (0.9, 0.999)
VALIDATION_CROP = 256  # pixels at least: MS-SSIM needs more than 160


class Data(NamedTuple):
    """What a run learns from and what it is judged by."""

    training: ImageSet
    held_out: ImageSet


class Step(NamedTuple):
    """What one optimiser step leaves for the log, still on the device."""

    loss: StageLoss  # detached
    grad_norm: Tensor  # before clipping, scalar


def train(stage: Stage, data: Data, config: TrainConfig, out: Path, resume: bool) -> bool:
    """Trains `stage` to `config.steps`, or to an interruption (SIGTERM, Ctrl-C), which leaves a checkpoint.

    Returns whether it was finished; if so the model holds the averaged weights and `stage.finish()` has run.
    Raises TrainingError if the loss is no number, memory runs out, or `out` holds another run's checkpoints and
    `resume` is false; CheckpointError if the newest checkpoint does not fit.
    """
    checkpoints = checkpoint.found(out)
    if checkpoints and not resume:
        raise TrainingError(
            f"{out} holds checkpoints of an earlier run; pass --resume or choose another folder"
        )
    trainer = Trainer(stage, config)
    if checkpoints:
        trainer.restore(checkpoints[-1])
    report = Report(out, trainer.step, config.steps)
    try:
        with _interruption() as interrupted:
            _advance(trainer, data, report, out, interrupted)
    finally:
        report.close()
    if trainer.step < config.steps:
        return False
    trainer.finish()
    return True


class Trainer:
    """Everything that changes from step to step."""

    step: int  # optimiser steps done

    def __init__(self, stage: Stage, config: TrainConfig) -> None:
        self.stage, self.config, self.step = stage, config, 0
        self.device = next(stage.model.parameters()).device
        stage.model.requires_grad_(False)
        stage.model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.parameters = stage.trainable()
        for parameter in self.parameters:
            parameter.requires_grad_(True)
        if not self.parameters:
            raise TrainingError("this stage has nothing to train")
        self.ema = Ema(self.parameters, config.ema_decay)
        groups = [
            {"params": [p for p in self.parameters if p.ndim > 1], "weight_decay": config.weight_decay},
            {"params": [p for p in self.parameters if p.ndim <= 1], "weight_decay": 0.0},
        ]
        self.optimiser = torch.optim.AdamW(
            [group for group in groups if group["params"]], lr=config.learning_rate, betas=BETAS, fused=True
        )

    def advance(self, pictures: Tensor) -> Step:
        """One optimiser step on uint8 pictures (B, 3, H, W). Raises TrainingError if memory runs out."""
        generator = torch.Generator(self.device).manual_seed(_step_seed(self.config.seed, self.step))
        rate = learning_rate(self.config, self.step)
        for group in self.optimiser.param_groups:
            group["lr"] = rate
        try:
            with torch.autocast(self.device.type, torch.bfloat16, enabled=self.config.precision == "bf16"):
                loss = self.stage.loss(_to_signed(pictures, self.device), generator)
            loss.total.backward()
        except torch.OutOfMemoryError as error:
            raise TrainingError(
                'out of memory; lower `batch` or `crop`, or set precision = "bf16"'
            ) from error
        norm = torch.nn.utils.clip_grad_norm_(self.parameters, self.config.clip_norm, foreach=True)
        self.optimiser.step()
        self.optimiser.zero_grad(set_to_none=True)
        self.stage.after_step()
        self.ema.update(self.step)
        self.step += 1
        return Step(loss._replace(total=loss.total.detach()), norm)

    def validate(self, pictures: Tensor) -> Scalars:
        """Mean metrics of the averaged weights on held-out uint8 pictures (N, 3, H, W), in full precision."""
        sums: dict[str, float] = {}
        self.stage.model.eval()
        devices = [self.device] if self.device.type == "cuda" else []
        # A fixed seed makes validations comparable; the fork keeps them from disturbing anything else.
        with torch.no_grad(), self.ema.applied(), torch.random.fork_rng(devices):
            torch.manual_seed(self.config.seed)
            for chunk in torch.split(pictures, self.config.batch):
                for name, value in self.stage.validation(_to_signed(chunk, self.device)):
                    sums[name] = sums.get(name, 0.0) + value * len(chunk)
        self.stage.model.train()
        return [(name, value / len(pictures)) for name, value in sums.items()]

    def save(self, out: Path) -> None:
        """Writes a checkpoint into `out`."""
        trainable = [parameter.detach() for parameter in self.parameters]
        state = self.stage.model.state_dict()
        optimiser = self.optimiser.state_dict()["state"]
        whole = checkpoint.Checkpoint(self.step, state, trainable, self.ema.averages, optimiser)
        checkpoint.save(whole, out, self.config.keep_last)

    def restore(self, path: Path) -> None:
        """Goes on from the checkpoint `path`. Raises CheckpointError if it belongs to another network."""
        saved = checkpoint.load(path)
        try:
            self.stage.model.load_state_dict(saved.model)
            # The settings of the groups are the configuration's, which may have changed; only the moments are old.
            groups = self.optimiser.state_dict()["param_groups"]
            self.optimiser.load_state_dict({"state": saved.optimiser, "param_groups": groups})
            with torch.no_grad():
                for parameter, value in zip(self.parameters, saved.trainable, strict=True):
                    parameter.copy_(value)
                for average, value in zip(self.ema.averages, saved.ema, strict=True):
                    average.copy_(value)
        except (RuntimeError, ValueError, KeyError) as error:
            detail = " ".join(str(error).split())
            raise CheckpointError(f"{path} belongs to another network or stage: {detail}") from error
        self.step = saved.step

    def finish(self) -> None:
        """Leaves the averaged weights in the model for good."""
        self.stage.model.eval()
        with torch.no_grad():
            for parameter, average in zip(self.parameters, self.ema.averages, strict=True):
                parameter.copy_(average)
            self.stage.finish()


def learning_rate(config: TrainConfig, step: int) -> float:
    """Linear warm-up, then half a cosine down to `final_lr_fraction` of the peak; `step` counts from 0."""
    if step < config.warmup_steps:
        return config.learning_rate * (step + 1) / config.warmup_steps
    done = (step - config.warmup_steps) / max(config.steps - config.warmup_steps, 1)
    floor = config.final_lr_fraction
    return config.learning_rate * (floor + (1 - floor) * (1 + math.cos(math.pi * done)) / 2)


def _advance(trainer: Trainer, data: Data, report: Report, out: Path, interrupted: threading.Event) -> None:
    config = trainer.config
    trainer.stage.model.train()
    held_out = data.held_out.centre_crops(config.validation_images, max(config.crop, VALIDATION_CROP))
    first, window = trainer.step, list[Step]()
    batches = data.training.batches(first, config.steps, config.batch, config.crop, config.seed)
    for pictures in batches:
        window.append(trainer.advance(pictures))
        step, last = trainer.step, trainer.step == config.steps or interrupted.is_set()
        saving = last or step % config.checkpoint_every == 0
        logging = last or step % config.log_every == 0
        if saving or logging:
            _require_finite(window, step)
        if logging:
            report.log(step, [*_means(window), ("lr", learning_rate(config, step - 1))])
            window.clear()
        if step % config.validate_every == 0 or step == config.steps:
            report.validation(step, trainer.validate(held_out))
        if saving:
            trainer.save(out)
        if interrupted.is_set() and step < config.steps:
            report.say(f"interrupted after step {step}; --resume goes on from there")
            break


def _require_finite(window: list[Step], step: int) -> None:
    finite = torch.stack([entry.loss.total.float() + entry.grad_norm for entry in window]).isfinite().tolist()
    if not all(finite):
        at = step - len(window) + finite.index(False) + 1
        raise TrainingError(
            f"loss or gradient is no longer a number at step {at}; lower learning_rate or clip_norm, or set"
            ' precision = "fp32", then go on from the last checkpoint with --resume'
        )


def _means(window: list[Step]) -> Scalars:
    """Means over the window of the loss, its terms and the gradient norm, fetched from the device at once."""
    values: dict[str, list[Tensor]] = {}
    for entry in window:
        for name, value in (("loss", entry.loss.total), *entry.loss.terms, ("grad", entry.grad_norm)):
            values.setdefault(name, []).append(value.detach().float())
    means = torch.stack([torch.stack(column).mean() for column in values.values()]).tolist()
    return list(zip(values, means, strict=True))


def _to_signed(pictures: Tensor, device: torch.device) -> Tensor:
    return pictures.to(device, torch.float32).div_(127.5).sub_(1)  # (B, 3, H, W) in [-1, 1], channels last


def _step_seed(seed: int, step: int) -> int:
    # Neighbouring seeds of a generator give related streams; SeedSequence mixes them well.
    return int(np.random.SeedSequence((seed, step)).generate_state(1, np.uint64)[0] >> 1)


@contextmanager
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

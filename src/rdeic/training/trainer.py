"""Everything that changes from step to step, and the step itself."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from rdeic.errors import CheckpointError, TrainingError
from rdeic.training import checkpoint
from rdeic.training.activations import checkpoint_blocks
from rdeic.training.clock import Clock
from rdeic.training.compiled import compile_networks, untranslated
from rdeic.training.config import TrainConfig
from rdeic.training.contract import Paced, Stage, StageLoss
from rdeic.training.ema import Ema
from rdeic.training.losses import added, averaged, detached
from rdeic.training.memory import named_when_exhausted
from rdeic.training.noise import Noise
from rdeic.training.processes import ALONE, Processes
from rdeic.training.report import Scalars
from rdeic.training.rival import Rival

BETAS = (0.9, 0.999)
AUTOCAST = {"fp32": None, "bf16": torch.bfloat16, "fp16": torch.float16}


class Step(NamedTuple):
    """What one optimiser step leaves for the log, still on the device."""

    loss: StageLoss  # detached; of this process's share, what concerns the whole batch included
    grad_norm: Tensor  # before clipping, scalar; of the whole batch
    learning_rate: float  # that it took


class Trainer:
    """One stage under way, in one of several processes or alone."""

    step: int  # optimiser steps done
    best: float  # badness of the best model so far

    def __init__(self, stage: Stage, config: TrainConfig, processes: Processes = ALONE) -> None:
        self.stage, self.config, self.processes = stage, config, processes
        self.step, self.best = 0, math.inf
        self.clock = Clock(config, processes)
        self.device = next(stage.model.parameters()).device
        stage.model.requires_grad_(False).train()
        stage.model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        if config.checkpoint_activations:
            checkpoint_blocks(stage.model)
        if config.compile:
            compile_networks(stage.networks())
        self.parameters = stage.trainable()
        for parameter in self.parameters:
            parameter.requires_grad_(True)
        if not self.parameters:
            raise TrainingError("this stage has nothing to train")
        own = {id(parameter) for parameter in self.parameters}
        self.frozen = [parameter for parameter in stage.model.parameters() if id(parameter) not in own]
        self.ema = Ema(self.parameters, config.ema_decay)
        self.optimiser = torch.optim.AdamW(self._groups(), betas=BETAS, fused=True)
        self.rival = Rival(stage.critics(), config, processes)
        self.scaler = torch.amp.GradScaler(self.device.type, enabled=config.precision == "fp16")

    def _groups(self) -> list[dict[str, Any]]:
        paced = self.stage.paced()
        own = {id(parameter) for kind in paced for parameter in kind.parameters}
        rest = [parameter for parameter in self.parameters if id(parameter) not in own]
        kinds = [kind for part in (Paced(rest, 1.0), *paced) for kind in self._by_decay(part)]
        return [
            {
                "params": params,
                "weight_decay": decay,
                "speed": factor,
                "lr": self.config.learning_rate * factor,
            }
            for params, factor, decay in kinds
            if params
        ]

    def _by_decay(self, part: Paced) -> tuple[tuple[list[nn.Parameter], float, float], ...]:
        """(parameters, factor, weight decay): matrices and kernels apart from biases and gains."""
        matrices = [p for p in part.parameters if p.ndim > 1 and part.decays]
        others = [p for p in part.parameters if p.ndim <= 1 or not part.decays]
        return (matrices, part.factor, self.config.weight_decay), (others, part.factor, 0.0)

    def advance(self, pictures: Tensor) -> Step:
        """One optimiser step on this process's share of a batch, uint8 (B, 3, H, W).

        Raises TrainingError if memory runs out.
        """
        rate = learning_rate(self.config, self.clock.position(self.step))
        for group in self.optimiser.param_groups:
            group["lr"] = rate * group["speed"]
        with named_when_exhausted():
            loss = self._backward(pictures)
        self.processes.average_gradients(self.parameters)
        self.scaler.unscale_(self.optimiser)
        norm = torch.nn.utils.clip_grad_norm_(self.parameters, self.config.clip_norm, foreach=True)
        self.scaler.step(self.optimiser)
        self.rival.step(rate / self.config.learning_rate, self.scaler)
        self.scaler.update()
        self.optimiser.zero_grad(set_to_none=True)
        self.stage.after_step(self.processes.average)
        self.ema.update(self.step)
        self.step += 1
        self.clock.tick()
        return Step(loss, norm, rate)

    @property
    def done(self) -> bool:
        """Whether the run has had its steps or its time."""
        return self.step >= self.config.steps or self.clock.left <= 0

    def _backward(self, pictures: Tensor) -> StageLoss:
        """Gradients of the share's mean loss, one micro-batch after the other, then of the whole batch's terms."""
        parts = pictures.chunk(self.config.accumulate)
        first, losses = self.processes.rank * len(pictures), list[StageLoss]()
        for part in parts:
            with torch.autocast(self.device.type, AUTOCAST[self.config.precision], enabled=self._half):
                loss = self.stage.loss(to_signed(part, self.device), self._noise(first, len(pictures)))
            whole = loss.total if loss.critic is None else loss.total + loss.critic
            self.scaler.scale(whole / len(parts)).backward()
            losses.append(detached(loss))
            first += len(part)
        share = averaged(losses)
        if share.features is None:
            return share
        together = self.stage.batch_loss(self.processes.gather(share.features))
        self.scaler.scale(together.total).backward()
        return added(share, detached(together))

    @property
    def _half(self) -> bool:
        return self.config.precision != "fp32"

    def _noise(self, first: int, share: int) -> Noise:
        seed = _mixed(self.config.seed, self.step)
        generator = torch.Generator(self.device).manual_seed(seed)
        return Noise(generator, first, share * self.processes.count)

    def validate(self, pictures: Tensor) -> Scalars:
        """Mean metrics of the averaged weights on held-out uint8 pictures (N, 3, H, W), in full precision.

        The processes share the pictures out, and all get the result.
        """
        size = max(self.config.batch // self.processes.count // self.config.accumulate, 1)
        sums: dict[str, float] = {}
        self.stage.model.eval()
        with torch.no_grad(), self.ema.applied(), untranslated(self.config.compile), named_when_exhausted():
            for first in range(0, len(pictures), size)[self.processes.rank :: self.processes.count]:
                chunk = pictures[first : first + size]
                # The same noise every time makes validations comparable.
                noise = Noise(torch.Generator(self.device).manual_seed(0), first, len(pictures))
                for name, value in self.stage.validation(to_signed(chunk, self.device), noise):
                    sums[name] = sums.get(name, 0.0) + value * len(chunk)
        self.stage.model.train()
        shares = self.processes.collect(sums)
        return [(name, sum(part.get(name, 0.0) for part in shares) / len(pictures)) for name in shares[0]]

    def save(self, out: Path) -> None:
        """Writes a checkpoint into `out`, in the first process; the others take over what it holds."""
        buffers = self._buffers()
        self.processes.align([*self.parameters, *buffers.values()])
        if not self.processes.first:
            return
        whole = checkpoint.Checkpoint(
            step=self.step,
            trainable=[parameter.detach() for parameter in self.parameters],
            ema=self.ema.averages,
            optimiser=self._moments(),
            buffers=buffers,
            scaler=self.scaler.state_dict(),
            best=self.best,
            best_by=self.config.keep_best,
            frozen=checkpoint.fingerprint(self.frozen),
            elapsed=self.clock.elapsed,
            stage=self.stage.state(),
            rival=self.rival.state(),
        )
        checkpoint.save(whole, out, self.config.keep_last)

    def restore(self, path: Path) -> None:
        """Goes on from the checkpoint `path`. Raises CheckpointError if it belongs to another network or start."""
        saved = checkpoint.load(path)
        if saved.frozen != checkpoint.fingerprint(self.frozen):
            raise CheckpointError(
                f"{path} belongs to another network or stage, or its run started from other weights; set `model` and "
                "the stage as they were, or choose another folder with -o"
            )
        try:
            self._restore_moments(saved.optimiser)
            with torch.no_grad():
                for kept, value in (
                    *zip(self.parameters, saved.trainable, strict=True),
                    *zip(self.ema.averages, saved.ema, strict=True),
                    *_pairs(self._buffers(), saved.buffers),
                ):
                    kept.copy_(value)
            if saved.stage is not None:
                self.stage.load_state(saved.stage)
            self.rival.load_state(saved.rival or {})
            if self.scaler.is_enabled() and saved.scaler:
                self.scaler.load_state_dict(saved.scaler)
        except (RuntimeError, ValueError, LookupError) as error:
            detail = " ".join(str(error).split())
            raise CheckpointError(f"{path} belongs to another network or stage: {detail}") from error
        self.step, self.clock.elapsed = saved.step, saved.elapsed
        self.best = saved.best if saved.best_by == self.config.keep_best else math.inf

    def _moments(self) -> dict[int, Any]:
        """The optimiser's state by position in `parameters`: how it groups them is no part of a checkpoint."""
        state = self.optimiser.state_dict()["state"]
        return {position: state[index] for index, position in enumerate(self._grouped()) if index in state}

    def _restore_moments(self, moments: dict[int, Any]) -> None:
        """Inverse of `_moments`. Raises ValueError where they are not those of the parameters."""
        for position, kept in moments.items():
            if kept["exp_avg"].shape != self.parameters[position].shape:
                raise ValueError(
                    "its moments are in another order; finish this run with the rdeic that began it"
                )
        # The settings of the groups are the configuration's, which may have changed; only the moments are old.
        groups = self.optimiser.state_dict()["param_groups"]
        state = {
            index: moments[position] for index, position in enumerate(self._grouped()) if position in moments
        }
        self.optimiser.load_state_dict({"state": state, "param_groups": groups})

    def _grouped(self) -> list[int]:
        """Positions in `parameters`, in the optimiser's order."""
        positions = {id(parameter): position for position, parameter in enumerate(self.parameters)}
        return [positions[id(p)] for group in self.optimiser.param_groups for p in group["params"]]

    def _buffers(self) -> dict[str, Tensor]:
        parameters = dict(self.stage.model.named_parameters())
        state = self.stage.model.state_dict()
        return {name: value for name, value in state.items() if name not in parameters}

    @contextlib.contextmanager
    def finished(self, recent: Iterator[Tensor]) -> Iterator[None]:
        """Inside the `with` block the model is what the run would end with now; `recent` as for `Stage.finish`."""
        before = [parameter.detach().clone() for parameter in self.parameters]
        self.stage.model.eval()
        with torch.no_grad(), untranslated(self.config.compile):
            for parameter, average in zip(self.parameters, self.ema.averages, strict=True):
                parameter.copy_(average)
            self.stage.finish(recent)
            yield
            for parameter, value in zip(self.parameters, before, strict=True):
                parameter.copy_(value)
        self.stage.model.train()


def learning_rate(config: TrainConfig, step: float) -> float:
    """Linear warm-up, then half a cosine down to `final_lr_fraction` of the peak; `step` is `Clock.position`."""
    if step < config.warmup_steps:
        return config.learning_rate * (step + 1) / config.warmup_steps
    done = (step - config.warmup_steps) / max(config.steps - config.warmup_steps, 1)
    floor = config.final_lr_fraction
    return config.learning_rate * (floor + (1 - floor) * (1 + math.cos(math.pi * done)) / 2)


def to_signed(pictures: Tensor, device: torch.device) -> Tensor:
    """uint8 (B, 3, H, W) -> float32 in [-1, 1] on `device`, in the same layout; features stay what they are."""
    if device.type == "cuda" and not pictures.is_cuda:
        pictures = pictures.pin_memory()  # from elsewhere in memory the way to the device waits for it
    values = pictures.to(device, non_blocking=True)
    return values.float().div_(127.5).sub_(1) if values.dtype == torch.uint8 else values.float()


def _pairs(own: dict[str, Tensor], saved: dict[str, Tensor]) -> list[tuple[Tensor, Tensor]]:
    if own.keys() != saved.keys():
        raise KeyError(f"buffers {sorted(own.keys() ^ saved.keys())}")
    return [(own[name], saved[name]) for name in own]


def _mixed(seed: int, step: int) -> int:
    # Neighbouring seeds of a generator give related streams; SeedSequence mixes them well.
    return int(np.random.SeedSequence((seed, step)).generate_state(1, np.uint64)[0] >> 1)

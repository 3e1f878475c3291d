"""Files to resume from: everything that changes while training.

Randomness and the position in the data are functions of (seed, step), so the step stands for both.
"""

from __future__ import annotations

import contextlib
import os
import pickle
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from rdeic.errors import CheckpointError, TrainingError
from rdeic.system.files import sync_folder

_NAME = re.compile(r"checkpoint-(\d+)\.pt")


class Checkpoint(NamedTuple):
    """State after `step` optimiser steps."""

    step: int
    trainable: list[Tensor]  # in the stage's order
    ema: list[Tensor]
    optimiser: dict[int, Any]  # its moments, by position of the parameter
    buffers: dict[str, Tensor]  # of the model
    scaler: dict[str, Any]  # of the loss in fp16, otherwise empty
    best: float  # badness of the best model so far; infinite without one
    best_by: str  # the metric of that
    frozen: int  # `fingerprint` of the parameters that are not trained: they come from where the run started
    elapsed: float = 0.0  # seconds of training; files of earlier versions do not say
    stage: dict[str, Tensor] | None = (
        None  # what else of the stage changes; None in files of earlier versions
    )
    rival: dict[str, Any] | None = None  # of the critics


def fingerprint(tensors: Sequence[Tensor]) -> int:
    """A number that differs where the tensors' values do, but for unlikely coincidence; cheap on any device."""
    total = 0
    for position, tensor in enumerate(tensors, start=1):
        words = tensor.detach().flatten().view(torch.int32 if tensor.element_size() % 4 == 0 else torch.int16)
        total += position * (int(words.sum(dtype=torch.int64)) + words.numel())
    return total % (1 << 61)


def save(checkpoint: Checkpoint, out: Path, keep_last: int) -> Path:
    """Writes `out/checkpoint-<step>.pt` atomically, then deletes all but the newest `keep_last`.

    Raises TrainingError if the disk refuses.
    """
    path = path_of(checkpoint.step, out)
    aside = path.with_suffix(".part")
    try:
        out.mkdir(parents=True, exist_ok=True)
        for left_by_a_kill in out.glob("checkpoint-*.part"):
            left_by_a_kill.unlink()
        with aside.open("wb") as file:
            torch.save(checkpoint._asdict(), file)
            file.flush()
            os.fsync(file.fileno())
        aside.replace(path)
        sync_folder(out)  # before older ones go
        for old in steps(out)[:-keep_last]:
            path_of(old, out).unlink()
    except OSError as error:
        with contextlib.suppress(OSError):
            aside.unlink()
        raise TrainingError(
            f"cannot write the checkpoint {path}: {error.strerror or error}; make room or name another folder with -o, "
            "then go on with --resume"
        ) from error
    return path


def path_of(step: int, out: Path) -> Path:
    """Where the checkpoint after `step` steps lies."""
    return out / f"checkpoint-{step}.pt"


def steps(out: Path) -> list[int]:
    """After how many steps there are checkpoints in `out`, ascending."""
    names = (_NAME.fullmatch(path.name) for path in out.glob("checkpoint-*.pt"))
    return sorted(int(name[1]) for name in names if name)


def load(path: Path) -> Checkpoint:
    """Raises CheckpointError if `path` is not a whole checkpoint of this program."""
    try:
        return Checkpoint(**torch.load(path, map_location="cpu", weights_only=True))
    except (OSError, RuntimeError, TypeError, EOFError, pickle.UnpicklingError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise CheckpointError(
            f"cannot resume from {path} ({reason}); delete it to use the one before, or where there is none to start "
            "anew"
        ) from error

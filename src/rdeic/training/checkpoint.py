"""Files to resume from: everything that changes while training."""

from __future__ import annotations

import os
import pickle
import re
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from rdeic.errors import CheckpointError, TrainingError

_NAME = re.compile(r"checkpoint-(\d+)\.pt")


class Checkpoint(NamedTuple):
    """State after `step` optimiser steps."""

    step: int
    model: dict[str, Tensor]  # frozen parameters and buffers included
    trainable: list[Tensor]  # in the stage's order; shares storage with `model` where it is part of it
    ema: list[Tensor]
    optimiser: dict[int, Any]  # its moments, by position of the parameter


def save(checkpoint: Checkpoint, out: Path, keep_last: int) -> Path:
    """Writes `out/checkpoint-<step>.pt` atomically, then deletes all but the newest `keep_last`.

    Raises TrainingError if the disk refuses.
    """
    path = out / f"checkpoint-{checkpoint.step}.pt"
    aside = path.with_suffix(".part")
    try:
        out.mkdir(parents=True, exist_ok=True)
        with aside.open("wb") as file:
            torch.save(checkpoint._asdict(), file)
            file.flush()
            os.fsync(file.fileno())
        aside.replace(path)
        for old in found(out)[:-keep_last]:
            old.unlink()
    except OSError as error:
        aside.unlink(missing_ok=True)
        raise TrainingError(
            f"cannot write the checkpoint {path}: {error.strerror}; free some space"
        ) from error
    return path


def found(out: Path) -> list[Path]:
    """The checkpoints in `out`, oldest first."""
    steps = [
        (int(match[1]), path) for path in out.glob("checkpoint-*.pt") if (match := _NAME.fullmatch(path.name))
    ]
    return [path for _, path in sorted(steps)]


def load(path: Path) -> Checkpoint:
    """Raises CheckpointError if `path` is not a whole checkpoint of this program."""
    try:
        return Checkpoint(**torch.load(path, map_location="cpu", weights_only=True))
    except (OSError, RuntimeError, TypeError, EOFError, pickle.UnpicklingError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise CheckpointError(
            f"cannot resume from {path} ({reason}); delete it to use the one before"
        ) from error

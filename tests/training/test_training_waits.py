"""A training step asks the device nothing: its work is queued, and only the log waits for it."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from rdeic.model.model import Rdeic
from rdeic.training import config as settings
from rdeic.training.crops import Crop
from rdeic.training.flat import FlatPictures, OnDevice
from rdeic.training.stages import build_stage
from rdeic.training.trainer import Trainer
from support.tiny import TINY
from support.training_runs import save_distance

CONFIGS = Path(__file__).parents[2] / "configs" / "mini-gpu"

# What must know values before it can go on (a number, a shape), and what makes tensors of the host's numbers, whose
# way to a device waits as well.
ASKING = ("_local_scalar_dense", "nonzero", "bincount", "masked_select", "equal", "_unique2", "lift_fresh")


class Questions(TorchDispatchMode):
    """Notes each of these operations."""

    def __init__(self) -> None:
        super().__init__()
        self.asked: list[str] = []

    def __torch_dispatch__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        name = str(func).split(".")[1]
        indices = args[1] if name == "index" else ()
        if name in ASKING or any(index is not None and index.dtype == torch.bool for index in indices):
            self.asked.append(name)
        return func(*args, **(kwargs or {}))


@pytest.fixture(scope="module")
def distance(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_distance(tmp_path_factory.mktemp("distance"))


@pytest.mark.parametrize("stage", ["autoencoder", "prior", "independent", "fixed-step"])
def test_no_step_of_any_stage_waits_for_the_device(stage: str, distance: Path) -> None:
    crop = 192 if stage in ("autoencoder", "fixed-step") else 64
    config = dataclasses.replace(
        settings.read(CONFIGS / f"{stage}.toml"), batch=2, accumulate=2, crop=crop, perceptual=str(distance)
    )
    torch.manual_seed(0)
    trainer = Trainer(build_stage(stage, Rdeic(TINY), config), config)
    pictures = torch.randint(0, 256, (2, 3, crop, crop), dtype=torch.uint8)
    trainer.advance(pictures)
    with Questions() as questions:
        step = trainer.advance(pictures)
    assert questions.asked == []
    assert bool(step.loss.total.isfinite())


def test_a_question_would_be_noticed() -> None:
    x = torch.arange(4.0)
    for ask in (lambda: x.sum().item(), lambda: x.nonzero(), lambda: x[x > 1], lambda: torch.tensor([1.0])):
        with Questions() as questions:
            ask()
        assert len(questions.asked) > 0


def test_cutting_crops_waits_for_no_device() -> None:
    picture = np.random.default_rng(0).integers(0, 256, (90, 100, 3), dtype=np.uint8)
    flat = FlatPictures({0: picture}, torch.device("cpu"))
    cuts = [OnDevice(0, Crop(3, 5, side, 64, flip)) for side in (64, 80) for flip in (False, True)]
    with Questions() as questions:
        flat.cut(cuts)
    assert set(questions.asked) <= {"lift_fresh"}  # the places, from the host, through pinned memory

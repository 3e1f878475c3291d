"""The best model of a run, by a metric on held-out pictures."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path

import pytest
import torch
from torch import Tensor

from rdeic.errors import ConfigError
from rdeic.training import loop
from rdeic.training.noise import Noise
from rdeic.training.selection import badness
from support.denoising import CONFIG, Denoising, data, run, weights
from support.image_sets import folder

__all__ = ["data", "folder"]  # fixtures


class Recorded(Denoising):
    """Reports what it is told to on held-out pictures, one value a validation; the first is a trial."""

    def __init__(self, values: list[float], interrupt_at: int = -1, metric: str = "psnr_0.5") -> None:
        super().__init__(interrupt_at=interrupt_at)
        self.values, self.metric = iter([0.0, *values]), metric

    def validation(self, x: Tensor, noise: Noise) -> tuple[tuple[str, float], ...]:
        return ((self.metric, next(self.values)),)


BEST = dataclasses.replace(CONFIG, validate_every=1, keep_best="psnr_0.5", validation_images=1)


def test_the_best_model_is_kept_and_training_goes_on_from_its_own_weights(
    data: loop.Data, tmp_path: Path
) -> None:
    data = data._replace(held_out=data.held_out[:1])
    plain = run(Denoising(), data, CONFIG, tmp_path / "plain")
    best = run(Recorded([20.0, 22.0, 21.0, math.nan, 21.9, 19.0]), data, BEST, tmp_path / "best")
    for name, value in weights(plain).items():
        assert torch.equal(weights(best)[name], value)
    second = run(Denoising(), data, dataclasses.replace(CONFIG, steps=2), tmp_path / "second")
    # The same schedule would be needed to compare weights; the counter tells which step they are of.
    assert weights(best, "best")["seen"] == weights(second)["seen"] == 2


def test_a_resumed_run_remembers_its_best(data: loop.Data, tmp_path: Path) -> None:
    data = data._replace(held_out=data.held_out[:1])
    run(Recorded([22.0, 21.0, 20.0], interrupt_at=3), data, BEST, tmp_path, whole=False)
    run(Recorded([21.5, 21.9, 21.0]), data, BEST, tmp_path, resume=True)
    assert weights(tmp_path, "best")["seen"] == 1


def test_the_best_by_another_metric_starts_anew(data: loop.Data, tmp_path: Path) -> None:
    data = data._replace(held_out=data.held_out[:1])
    run(Recorded([22.0, 23.0, 24.0], interrupt_at=3), data, BEST, tmp_path, whole=False)
    other = dataclasses.replace(BEST, keep_best="ms_ssim_0.5")
    run(Recorded([0.9, 0.8, 0.7], metric="ms_ssim_0.5"), data, other, tmp_path, resume=True)
    assert weights(tmp_path, "best")["seen"] == 4


def test_what_is_better_depends_on_the_metric() -> None:
    assert badness("psnr_0.5", [("psnr_0.5", 30.0)]) < badness("psnr_0.5", [("psnr_0.5", 29.0)])
    assert badness("ms_ssim_1.0", [("ms_ssim_1.0", 0.9)]) < badness("ms_ssim_1.0", [("ms_ssim_1.0", 0.8)])
    assert badness("perceptual_0.5", [("perceptual_0.5", 0.4)]) < badness(
        "perceptual_0.5", [("perceptual_0.5", 0.5)]
    )


def test_a_metric_that_does_not_exist_is_named_before_the_first_step(data: loop.Data, tmp_path: Path) -> None:
    stage = Denoising()
    with pytest.raises(ConfigError, match=r"keep_best = 'psnr'.*choose from mse"):
        run(stage, data, dataclasses.replace(CONFIG, keep_best="psnr"), tmp_path)
    assert stage.steps == 0

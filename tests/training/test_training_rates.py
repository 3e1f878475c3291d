"""lambda_r: between two ends as the paper's, or at rates that hold by themselves."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path

import pytest
import torch

from rdeic.errors import ConfigError
from rdeic.training.config import LossWeights
from rdeic.training.rates import LIMIT, RateControl
from rdeic.training.stages import build_stage
from rdeic.training.trainer import Trainer
from support.stages import config, fresh, pictures

TARGETS = (0.02, 0.08, 0.2)
CPU = torch.device("cpu")


def weights(targets: tuple[float, ...] = TARGETS, speed: float = 0.05) -> LossWeights:
    return dataclasses.replace(config().loss, rate_targets=targets, rate_speed=speed)


def test_without_targets_lambda_is_geometric_between_its_ends() -> None:
    control = RateControl(weights(()), CPU)  # 0.5 to 8
    quality = torch.tensor([0.0, 0.25, 0.5, 1.0])
    assert control(quality).tolist() == pytest.approx([0.5, 1.0, 2.0, 8.0])
    control.note(quality, torch.full((4,), 9.0))
    control.settle(lambda value: value)
    assert control(quality).tolist() == pytest.approx([0.5, 1.0, 2.0, 8.0])


@pytest.mark.parametrize("steepness", [0.4, 1.0])
def test_rates_come_to_what_was_asked_for_and_stay(steepness: float) -> None:
    control = RateControl(weights(), CPU)
    generator = torch.Generator().manual_seed(0)

    def costs(quality: torch.Tensor) -> torch.Tensor:  # a codec whose rate answers to lambda
        return 0.03 * control(quality) ** steepness

    for _ in range(4000):
        quality = torch.rand(8, generator=generator)
        wild = (torch.randn(8, generator=generator) * 0.5).exp() / math.exp(0.125)  # pictures differ
        control.note(quality, costs(quality) * wild)
        control.settle(lambda value: value)
    at_knots = costs(torch.tensor([0.0, 0.5, 1.0])).tolist()
    assert at_knots == pytest.approx(TARGETS, rel=0.15)


def test_a_rate_out_of_reach_does_not_carry_lambda_away() -> None:
    control = RateControl(weights(speed=1.0), CPU)
    for _ in range(500):
        control.note(torch.tensor([0.0, 1.0]), torch.tensor([1e-6, 9.0]))
        control.settle(lambda value: value)
    low, high = control(torch.tensor([0.0, 1.0])).tolist()
    assert low == pytest.approx(0.5 * LIMIT, rel=1e-4) and high == pytest.approx(8.0 / LIMIT, rel=1e-4)


def test_processes_agree_on_the_mean_of_what_they_saw() -> None:
    together, apart = RateControl(weights(), CPU), RateControl(weights(), CPU)
    quality, bpp = torch.tensor([0.1, 0.7]), torch.tensor([0.05, 0.3])
    together.note(quality, bpp / 2)
    together.settle(lambda value: value)
    apart.note(quality[:1], bpp[:1])
    other = RateControl(weights(), CPU)
    other.note(quality[1:], bpp[1:])
    apart.settle(lambda value: (value + other.pending) / 2)
    assert apart.log_lambda.sum() != together.start.sum()
    assert apart.averages[0].tolist() == pytest.approx(together.averages[0].tolist())


def test_a_checkpoint_keeps_where_lambda_stands(tmp_path: Path) -> None:
    settings = dataclasses.replace(config(), loss=weights(speed=0.5))

    def trainer() -> Trainer:
        return Trainer(build_stage("independent", fresh(), settings), settings)

    first, second = trainer(), trainer()
    for _ in range(3):
        first.advance(pictures())
    first.save(tmp_path)
    second.restore(tmp_path / "checkpoint-3.pt")
    moved, kept = first.stage.state(), second.stage.state()
    assert not torch.equal(moved["lambda_r.log_lambda"], moved["lambda_r.start"])
    assert moved.keys() == kept.keys() and all(torch.equal(moved[name], kept[name]) for name in moved)


@pytest.mark.parametrize("targets", [(0.1,), (0.0, 0.1), (0.2, 0.1)])
def test_targets_that_make_no_sense_are_refused(targets: tuple[float, ...]) -> None:
    with pytest.raises(ConfigError, match=r"loss\.rate_targets must be empty, or two or more rates"):
        weights(targets)

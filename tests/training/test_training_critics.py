"""Critics: each side's gradient reaches its own parameters alone, and a resumed run goes on exactly."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from rdeic.errors import ConfigError, TrainingError
from rdeic.training import perceptual
from rdeic.training.config import CriticConfig, TrainConfig
from rdeic.training.critics import Critics
from rdeic.training.stages import build_stage
from rdeic.training.trainer import Trainer, to_signed
from support.stages import config, fresh, noise, pictures
from support.tiny import TINY
from support.training_runs import save_distance

BOTH = CriticConfig(pixel=0.1, feature=0.1, width=8, learning_rate=1e-3, start=0, ramp=0)


@pytest.fixture(scope="module")
def squeezenet(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A perceptual network of random weights."""
    return str(save_distance(tmp_path_factory.mktemp("perceptual")))


def judged(squeezenet: str, critic: CriticConfig = BOTH, perceptual_weight: float = 0.1) -> TrainConfig:
    loss = dataclasses.replace(config().loss, perceptual=perceptual_weight)
    return dataclasses.replace(config(True), loss=loss, critic=critic, perceptual=squeezenet)


def reached(parameters: list[nn.Parameter]) -> list[bool]:
    return [parameter.grad is not None for parameter in parameters]


@pytest.mark.parametrize("name", ["autoencoder", "fixed-step"])
def test_each_sides_gradient_reaches_only_its_own_parameters(name: str, squeezenet: str) -> None:
    stage = build_stage(name, fresh(), judged(squeezenet))
    trainer = Trainer(stage, judged(squeezenet))
    critics = stage.critics()
    assert critics is not None
    own, others = list(critics.parameters()), trainer.parameters
    x = to_signed(pictures(), torch.device("cpu"))
    found = stage.loss(x, noise(0))
    assert found.critic is not None
    found.total.backward(retain_graph=True)
    assert any(reached(others)) and not any(reached(own))
    for parameter in others:
        parameter.grad = None
    found.critic.backward()
    assert all(reached(own)) and not any(reached(others))
    assert sum(bool(parameter.grad.any()) for parameter in own if parameter.grad is not None) > len(own) / 2


def test_the_critics_want_photographs_above_one_and_restored_pictures_below_minus_one() -> None:
    torch.manual_seed(0)
    critics = Critics(dataclasses.replace(BOTH, feature=0.0), 4, ())
    x, x_hat, latent = torch.rand(2, 3, 64, 64) - 1.0, torch.rand(2, 3, 64, 64), torch.randn(2, 4, 8, 8)
    optimiser = torch.optim.Adam(critics.parameters(), 1e-2)

    def gap() -> Tensor:
        with torch.no_grad():
            return critics.realism(x, (), latent).mean() - critics.realism(x_hat, (), latent).mean()

    before = gap()
    for _ in range(20):
        optimiser.zero_grad()
        critics.own_loss(x, x_hat, (), (), latent).backward()
        optimiser.step()
    assert gap() > before + 0.05  # of the weight 0.1, so half a point of their score


def test_critics_begin_at_their_step_and_their_weight_rises() -> None:
    ramp = dataclasses.replace(BOTH, start=10, ramp=4)
    assert [ramp.weight(step) for step in (0, 10, 11, 12, 14, 99)] == [0.0, 0.0, 0.25, 0.5, 1.0, 1.0]
    at_once = dataclasses.replace(BOTH, start=10, ramp=0)
    assert [at_once.weight(step) for step in (9, 10)] == [0.0, 1.0]


def test_before_their_start_critics_cost_nothing_and_change_nothing(squeezenet: str) -> None:
    late = dataclasses.replace(BOTH, start=2)
    with_critics = Trainer(
        build_stage("autoencoder", fresh(), judged(squeezenet, late)), judged(squeezenet, late)
    )
    nobody = judged(squeezenet, dataclasses.replace(BOTH, pixel=0.0, feature=0.0))
    alone = Trainer(build_stage("autoencoder", fresh(), nobody), nobody)
    for step in range(3):
        names = [name for name, _ in with_critics.advance(pictures()).loss.terms]
        alone.advance(pictures())
        same = all(torch.equal(a, b) for a, b in zip(with_critics.parameters, alone.parameters, strict=True))
        assert (("critic" in names), same) == ((step == 2), (step < 2))


def test_a_resumed_run_with_critics_ends_with_the_same_weights(squeezenet: str, tmp_path: Path) -> None:
    settings = judged(squeezenet, dataclasses.replace(BOTH, start=1, ramp=3))

    def trainer() -> Trainer:
        return Trainer(build_stage("fixed-step", fresh(), settings), settings)

    whole, first, second = trainer(), trainer(), trainer()
    for _ in range(4):
        whole.advance(pictures())
    for _ in range(2):
        first.advance(pictures())
    first.save(tmp_path)
    second.restore(tmp_path / "checkpoint-2.pt")
    for _ in range(2):
        second.advance(pictures())
    pairs = [*zip(whole.parameters, second.parameters, strict=True)]
    critics = whole.stage.critics(), second.stage.critics()
    assert critics[0] is not None and critics[1] is not None
    states = critics[0].state_dict(), critics[1].state_dict()
    pairs += [(states[0][name], states[1][name]) for name in states[0]]
    assert all(torch.equal(a, b) for a, b in pairs)


def test_critics_stay_out_of_the_model(squeezenet: str) -> None:
    settings = judged(squeezenet)
    stage = build_stage("autoencoder", fresh(), settings)
    assert stage.model.state_dict().keys() == fresh().state_dict().keys()


def test_a_critic_of_features_needs_the_network_that_makes_them() -> None:
    nameless = dataclasses.replace(config(), critic=dataclasses.replace(BOTH, pixel=0.0))
    with pytest.raises(TrainingError, match="`perceptual` names no distance"):
        build_stage("autoencoder", fresh(), nameless)


def test_critic_settings_that_make_no_sense_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"critic\.pixel must be at least 0"):
        dataclasses.replace(BOTH, pixel=-1.0)
    with pytest.raises(ConfigError, match=r"critic\.learning_rate must be above 0"):
        dataclasses.replace(BOTH, learning_rate=0.0)


def test_tiny_has_the_latent_that_the_critics_are_given() -> None:
    critics = Critics(BOTH, TINY.autoencoder.latent_channels, perceptual.COMPARED_CHANNELS)
    latent = torch.zeros(1, TINY.autoencoder.latent_channels, 8, 8)
    features = perceptual.SqueezeNetDistance().features(torch.zeros(1, 3, 64, 64))
    assert [feature.shape[1] for feature in features] == list(perceptual.COMPARED_CHANNELS)
    assert critics.realism(torch.zeros(1, 3, 64, 64), features, latent).shape == (1,)

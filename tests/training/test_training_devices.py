"""Training on a device that is not the CPU: every stage's loss, gradients, validation and end are made there."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from rdeic.model.model import Rdeic
from rdeic.training.config import CriticConfig, TrainConfig
from rdeic.training.contract import Stage, StageLoss
from rdeic.training.noise import Noise
from rdeic.training.stages import build_stage
from rdeic.training.trainer import Trainer, to_signed
from support.second_device import CPU, DEVICE, Generator, second_device
from support.stages import config, pictures
from support.tiny import TINY
from support.training_runs import save_distance

# Stage and framework; the two that the relay alone has, once.
CASES = (
    ("autoencoder", "relay"),
    ("prior", "relay"),
    ("prior", "pure-noise"),
    ("independent", "relay"),
    ("independent", "pure-noise"),
    ("independent", "none"),
    ("fixed-step", "relay"),
)
VALIDATED = tuple(CASES[index] for index in (0, 1, 4, 6))  # what the others do as well
SIDE = 192  # pixels: MS-SSIM needs more than 160


@pytest.fixture(scope="module")
def squeezenet(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_distance(tmp_path_factory.mktemp("weights"))


@pytest.fixture(autouse=True)
def there() -> Iterator[torch.device]:
    with second_device() as device:
        yield device


def settings(framework: str, squeezenet: Path, side: int = SIDE) -> TrainConfig:
    """All terms of all losses, as far as crops of that size have them; another codebook than the model's."""
    base = config(train_decoder=True)
    return dataclasses.replace(
        base,
        crop=side,
        perceptual=str(squeezenet),
        loss=dataclasses.replace(
            base.loss,
            perceptual=1.0,
            ms_ssim=float(side >= SIDE),
            z_c_shown=0.5,
            latent_noise=0.1,
            anchor=0.1,
            rate_targets=(0.1, 0.4),
            rate_speed=0.1,
        ),
        critic=CriticConfig(pixel=0.1, feature=0.1, width=8, learning_rate=1e-3, start=0, ramp=0),
        method=dataclasses.replace(base.method, framework=framework, codebook=12),
    )


def built(name: str, settings: TrainConfig, device: torch.device) -> tuple[Stage, Rdeic]:
    torch.manual_seed(0)
    model = Rdeic(TINY)
    for (
        weight
    ) in model.control.parameters():  # its connections start at zero, and nothing would be behind them
        torch.nn.init.normal_(weight, std=0.05)
    model.to(device).train()
    stage = build_stage(name, model, settings)
    for parameter in stage.trainable():
        parameter.requires_grad_(True)
    return stage, model


def noise(device: torch.device) -> Noise:
    return Noise(Generator(device).manual_seed(1), 0, 2)


def losses(stage: Stage, side: int, device: torch.device) -> list[StageLoss]:
    """Of the pictures and of the batch where there is one, with gradients."""
    found = [stage.loss(to_signed(pictures(side), device), noise(device))]
    if found[0].features is not None:
        found.append(stage.batch_loss(found[0].features))
    for loss in found:
        loss.total.backward(retain_graph=True)
        if loss.critic is not None:
            loss.critic.backward()
    stage.after_step(lambda value: value)
    return found


@pytest.mark.parametrize(("name", "framework"), CASES)
def test_losses_and_gradients_are_those_of_the_cpu(name: str, framework: str, squeezenet: Path) -> None:
    side = SIDE if name == "fixed-step" else 64
    chosen = settings(framework, squeezenet, side)
    (here, _), (far, model) = built(name, chosen, CPU), built(name, chosen, DEVICE)
    for one, other in zip(losses(here, side, CPU), losses(far, side, DEVICE), strict=True):
        made = [one.total, *(value for _, value in one.terms)]
        made_there = [other.total, *(value for _, value in other.terms)]
        assert {value.device for value in made_there} == {DEVICE}
        torch.testing.assert_close([value.detach().cpu() for value in made_there], made)
    assert {value.device for value in model.state_dict(keep_vars=True).values()} == {DEVICE}
    for parameter, expected in zip(far.trainable(), here.trainable(), strict=True):
        assert (parameter.grad is None) == (expected.grad is None)
        if parameter.grad is not None and expected.grad is not None:
            # Not the same to the bit: on the CPU group norms have a backward pass of their own.
            distance = (parameter.grad.cpu() - expected.grad).norm()
            assert distance <= 2e-3 * expected.grad.norm() + 1e-3


@pytest.mark.parametrize(("name", "framework"), VALIDATED)
@torch.no_grad()
def test_validation_and_the_end_are_those_of_the_cpu(name: str, framework: str, squeezenet: Path) -> None:
    chosen = settings(framework, squeezenet)
    (here, model), (far, model_there) = built(name, chosen, CPU), built(name, chosen, DEVICE)
    found = []
    for stage, device in ((here, CPU), (far, DEVICE)):
        stage.model.eval()
        x = to_signed(pictures(SIDE), device)
        found.append(dict(stage.validation(x, noise(device))))
        stage.finish(iter([x, x.flip(3)]))
    assert found[1] == pytest.approx(found[0], rel=1e-3)
    ended, ended_there = model.state_dict(), model_there.state_dict()
    for key, value in ended.items():
        torch.testing.assert_close(ended_there[key].cpu(), value, rtol=1e-4, atol=1e-5)


def test_a_run_of_the_cpu_goes_on_there(
    squeezenet: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch, "Generator", Generator)
    chosen = settings("relay", squeezenet, 64)
    trainers = [Trainer(built("fixed-step", chosen, device)[0], chosen) for device in (CPU, DEVICE)]
    batch = pictures(64)
    trainers[0].advance(batch)
    trainers[0].save(tmp_path)
    trainers[1].restore(tmp_path / "checkpoint-1.pt")
    steps = [trainer.advance(batch) for trainer in trainers]
    assert {
        value.device for value in (steps[1].loss.total, steps[1].grad_norm, *trainers[1].ema.averages)
    } == {DEVICE}
    totals = [float(step.loss.total) for step in steps]
    norms = [float(step.grad_norm) for step in steps]
    assert (totals[1], norms[1]) == (pytest.approx(totals[0], rel=1e-4), pytest.approx(norms[0], rel=1e-3))
    for one, other in zip(*(trainer.parameters for trainer in trainers), strict=True):
        torch.testing.assert_close(other.detach().cpu(), one.detach(), rtol=0, atol=2 * chosen.learning_rate)
    scores = [dict(trainer.validate(pictures(SIDE)[:1])) for trainer in trainers]
    assert scores[1] == pytest.approx(scores[0], rel=0.05)

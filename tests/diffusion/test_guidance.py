"""Guidance and starts: which passes are run, from where."""

from __future__ import annotations

import dataclasses
import itertools

import pytest
import torch
from torch import Tensor, nn

from rdeic.diffusion import relay
from rdeic.diffusion.schedule import (
    BASELINE,
    RELAY_DDIM,
    RELAY_DDPM,
    Sampler,
    spaced_steps,
)
from rdeic.errors import ConfigError
from rdeic.model.model import Rdeic
from rdeic.types import CompressedFeatures
from support.relay import AB_N, START
from support.tiny import TINY


class Watched:
    """A tiny model whose control network has something to say, and a log of its passes."""

    def __init__(self) -> None:
        torch.manual_seed(0)
        self.model = Rdeic(TINY).eval().requires_grad_(False)
        for weights in self.model.control.parameters():
            weights.add_(torch.randn(weights.shape) * 0.1)
        self.inputs: list[tuple[Tensor, int]] = []  # of the noise estimator
        self.plain = self.controlled = 0
        self.model.unet.register_forward_pre_hook(self._saw_unet)
        self.model.control.register_forward_pre_hook(self._saw_control)

    def _saw_unet(self, module: nn.Module, args: tuple[Tensor, ...]) -> None:
        self.inputs.append((args[0], int(args[1][0])))
        self.plain += len(args) < 4

    def _saw_control(self, module: nn.Module, args: tuple[Tensor, ...]) -> None:
        self.controlled += 1

    def restore(
        self, features: CompressedFeatures, steps: int, detail: float = 1.0, sampler: Sampler = RELAY_DDPM
    ) -> Tensor:
        generator = torch.Generator().manual_seed(1)
        drawn = (torch.randn(features.z_c.shape, generator=generator) for _ in itertools.count())
        return self.model.restore(features, drawn, steps, detail, sampler)


@pytest.fixture
def watched() -> Watched:
    return Watched()


@pytest.fixture(scope="module")
def features() -> CompressedFeatures:
    torch.manual_seed(1)
    return CompressedFeatures(z_c=torch.randn(2, 4, 8, 8), guide=torch.randn(2, 16, 8, 8))


def test_guidance_at_1_is_the_identity_and_costs_nothing(
    watched: Watched, features: CompressedFeatures
) -> None:
    t = torch.tensor([299, 40])
    direct = watched.model.unet(
        features.z_c, t, None, watched.model.control(features.z_c, features.guide, t, None)
    )
    watched.plain = watched.controlled = 0
    assert torch.equal(watched.model.predict_noise(features.z_c, t, features.guide, 1.0), direct)
    watched.restore(features, 3)
    assert (watched.plain, watched.controlled) == (0, 1 + 3)


def test_guidance_at_0_is_the_plain_estimator_and_never_runs_the_control_network(
    watched: Watched, features: CompressedFeatures
) -> None:
    t = torch.tensor([299, 40])
    alone = watched.model.unet(features.z_c, t, None)
    assert torch.equal(watched.model.predict_noise(features.z_c, t, features.guide, 0.0), alone)
    watched.plain = 0
    watched.restore(features, 3, detail=0.0)
    assert (watched.plain, watched.controlled) == (3, 0)


@pytest.mark.parametrize("detail", [0.5, 1.5, 10.0])
def test_guidance_scales_what_control_adds(
    watched: Watched, features: CompressedFeatures, detail: float
) -> None:
    t = torch.tensor([299, 40])
    eps_sd, eps_theta, mixed = (
        watched.model.predict_noise(features.z_c, t, features.guide, d) for d in (0.0, 1.0, detail)
    )
    assert float((eps_theta - eps_sd).abs().max()) > 0.01
    torch.testing.assert_close(mixed, eps_sd + detail * (eps_theta - eps_sd), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("sampler", [RELAY_DDPM, RELAY_DDIM])
@pytest.mark.parametrize("steps", [1, 2, 5])
def test_relay_starts_at_index_n_minus_1_from_noisy_z_c(
    watched: Watched, features: CompressedFeatures, sampler: Sampler, steps: int
) -> None:
    watched.restore(features, steps, sampler=sampler)
    eps = torch.randn(features.z_c.shape, generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(watched.inputs[0][0], relay.diffuse(features.z_c, eps, AB_N))
    assert tuple(t for _, t in watched.inputs) == spaced_steps(START, steps)


def test_the_baseline_starts_from_pure_noise_at_the_last_index(
    watched: Watched, features: CompressedFeatures
) -> None:
    picture = watched.restore(features, 50, sampler=BASELINE)
    eps = torch.randn(features.z_c.shape, generator=torch.Generator().manual_seed(1))
    assert torch.equal(watched.inputs[0][0], eps)
    visited = [t for _, t in watched.inputs]
    assert (len(visited), visited[0], visited[-1]) == (50, 999, 0)
    assert visited == sorted(visited, reverse=True)
    assert picture.shape == (2, 3, 64, 64)
    assert bool(picture.isfinite().all())
    assert watched.controlled == 50


def test_the_baseline_is_steered_by_the_guide_but_not_started_from_z_c(
    watched: Watched, features: CompressedFeatures
) -> None:
    picture = watched.restore(features, 3, sampler=BASELINE)
    assert torch.equal(watched.restore(features._replace(z_c=-features.z_c), 3, sampler=BASELINE), picture)
    other_guide = watched.restore(features._replace(guide=-features.guide), 3, sampler=BASELINE)
    assert not torch.equal(other_guide, picture)


def test_the_number_of_steps_is_bounded_by_where_the_sampler_starts(
    watched: Watched, features: CompressedFeatures
) -> None:
    with pytest.raises(ConfigError, match=r"choose 1 to 300$"):
        watched.restore(features, 301)
    with pytest.raises(ConfigError, match=r"choose 1 to 1000$"):
        watched.restore(features, 1001, sampler=BASELINE)


def test_the_relay_start_is_the_models(features: CompressedFeatures) -> None:
    torch.manual_seed(0)
    shorter = dataclasses.replace(TINY, diffusion=dataclasses.replace(TINY.diffusion, relay_start=120))
    model = Rdeic(shorter).eval().requires_grad_(False)
    seen: list[int] = []
    model.unet.register_forward_pre_hook(lambda _, args: seen.append(int(args[1][0])))
    model.restore(features, iter([features.z_c] * 3), 3, 1.0)
    assert seen == [119, 60, 0]

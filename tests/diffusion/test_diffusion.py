"""Relay residual diffusion: the paper's algebra and the published system's numbers."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator

import pytest
import torch
from torch import Tensor

from rdeic.diffusion import relay
from rdeic.diffusion.sampler import sample
from rdeic.diffusion.schedule import (
    Rule,
    SpacedStep,
    ddim_mix,
    ddpm_mix,
    spaced_schedule,
    spaced_steps,
)
from rdeic.errors import ConfigError
from support.relay import AB_N, ALPHA_BAR, START

RULES = pytest.mark.parametrize("rule", [ddpm_mix, ddim_mix])
COUNTS = pytest.mark.parametrize("count", [1, 2, 5, 50])


def schedule(count: int) -> list[SpacedStep]:
    return spaced_schedule(ALPHA_BAR, spaced_steps(START, count))


def normal(seed: int) -> Tensor:
    return torch.randn(2, 4, 6, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def noises() -> Iterator[Tensor]:
    return (normal(seed) for seed in itertools.count(100))


# Equations


def test_noise_levels_are_stable_diffusions() -> None:
    assert ALPHA_BAR.shape == (1000,)
    assert pytest.approx(0.59218312, abs=5e-9) == AB_N
    assert math.sqrt(AB_N) == pytest.approx(0.76953435, abs=5e-9)
    assert math.sqrt(1 - AB_N) == pytest.approx(0.63860542, abs=5e-9)
    assert relay.relay_lambda(AB_N) == pytest.approx(1.20502322, abs=5e-9)


def test_the_residual_has_full_weight_at_the_start_and_fades_to_nothing() -> None:
    weights = [relay.eta(float(ab), AB_N) for ab in ALPHA_BAR[:START]]
    assert weights[-1] == pytest.approx(1.0, abs=1e-14)
    assert weights == sorted(weights)
    assert 0 < weights[0] < 0.04
    assert relay.eta(1.0, AB_N) == 0.0


def test_equation_10_is_equation_2() -> None:
    z0, z_c, eps = normal(0), normal(1), normal(2)
    for n in (0, 7, 150, START - 1):
        ab = float(ALPHA_BAR[n])
        eq2 = math.sqrt(ab) * (z0 + relay.eta(ab, AB_N) * (z_c - z0)) + math.sqrt(1 - ab) * eps
        eq10 = relay.diffuse(z0, relay.relay_noise(eps, z_c, z0, AB_N), ab)
        torch.testing.assert_close(eq10, eq2, rtol=0, atol=1e-12)
    at_start = relay.diffuse(z_c, eps, AB_N)  # Eq. 2 at N: the residual turns z0 into z_c
    torch.testing.assert_close(eq10, at_start, rtol=0, atol=1e-12)


def test_noise_levels_may_differ_within_a_batch() -> None:
    z0, eps = normal(0), normal(1)
    levels = torch.tensor([float(ALPHA_BAR[3]), float(ALPHA_BAR[200])], dtype=torch.float64).view(-1, 1, 1, 1)
    z_n = relay.diffuse(z0, eps, levels)
    for i, n in enumerate((3, 200)):
        alone = relay.diffuse(z0[i], eps[i], float(ALPHA_BAR[n]))
        torch.testing.assert_close(z_n[i], alone, rtol=0, atol=1e-14)
    torch.testing.assert_close(relay.predict_z0(z_n, eps, levels), z0, rtol=0, atol=1e-12)


@pytest.mark.parametrize("count", [2, 5, 50, 300])
def test_equation_7_holds_for_ddim(count: int) -> None:
    for step in schedule(count):
        k, m, sigma = ddim_mix(step)
        ab, prev = step.alpha_bar, step.alpha_bar_prev
        assert k + m * math.sqrt(ab) == pytest.approx(math.sqrt(prev), abs=1e-14)
        faded = math.sqrt(prev) * relay.eta(prev, AB_N)
        assert m * math.sqrt(ab) * relay.eta(ab, AB_N) == pytest.approx(faded, abs=1e-14)
        assert sigma == 0
        assert m**2 * (1 - ab) == pytest.approx(1 - prev, abs=1e-14)


@pytest.mark.parametrize("count", [2, 5, 50, 300])
def test_ddpm_keeps_signal_and_noise_of_equation_7(count: int) -> None:
    for step in schedule(count):
        k, m, sigma = ddpm_mix(step)
        ab, prev = step.alpha_bar, step.alpha_bar_prev
        assert k + m * math.sqrt(ab) == pytest.approx(math.sqrt(prev), abs=1e-12)
        assert m**2 * (1 - ab) + sigma**2 == pytest.approx(1 - prev, abs=1e-12)


# Steps and coefficients, as in the published system


@pytest.mark.parametrize(
    ("count", "expected"),
    [
        (1, (299,)),
        (2, (299, 0)),
        (3, (299, 150, 0)),
        (4, (299, 199, 100, 0)),
        (5, (299, 224, 150, 75, 0)),
        (10, (299, 266, 233, 199, 166, 133, 100, 66, 33, 0)),
        (300, tuple(range(299, -1, -1))),
    ],
)
def test_spaced_steps(count: int, expected: tuple[int, ...]) -> None:
    assert spaced_steps(START, count) == expected


def test_fifty_spaced_steps() -> None:
    published = """
        0 6 12 18 24 31 37 43 49 55 61 67 73 79 85 92 98 104 110 116 122 128 134 140 146 153 159 165 171 177 183 189
        195 201 207 214 220 226 232 238 244 250 256 262 268 275 281 287 293 299
    """
    assert spaced_steps(START, 50) == tuple(map(int, reversed(published.split())))


@pytest.mark.parametrize("count", [-1, 0, 301])
def test_an_impossible_number_of_steps_is_refused(count: int) -> None:
    with pytest.raises(ConfigError, match=f"^{count} denoising steps asked for; choose 1 to 300$"):
        spaced_steps(START, count)


def test_ddpm_coefficients() -> None:
    first = schedule(2)[0]
    assert first.beta == pytest.approx(0.407313094, abs=1e-9)
    assert ddpm_mix(first) == pytest.approx((0.998340116, 0.001604599, 0.029136746), abs=1e-9)
    published = [
        (0.358602456, 0.633526273, 0.346982471),
        (0.432895143, 0.563684683, 0.286226856),
        (0.581672462, 0.417242812, 0.214315068),
        (0.989222668, 0.010769032, 0.029003394),
        (1.0, 0.0, 0.0),
    ]
    for step, expected in zip(schedule(5), published, strict=True):
        assert ddpm_mix(step) == pytest.approx(expected, abs=1e-9)


@RULES
def test_the_last_step_is_the_estimate_itself(rule: Rule) -> None:
    for count in (1, 2, 50):
        assert rule(schedule(count)[-1]) == pytest.approx((1, 0, 0), abs=1e-15)


# Sampling


@RULES
@COUNTS
def test_a_perfect_estimator_leads_to_z0_from_any_start(rule: Rule, count: int) -> None:
    z0 = normal(0)

    def perfect(z: Tensor, t: int) -> Tensor:
        ab = float(ALPHA_BAR[t])
        return (z - math.sqrt(ab) * z0) / math.sqrt(1 - ab)

    for start in (
        normal(1),
        torch.zeros_like(z0),
        relay.diffuse(normal(2), normal(3), AB_N),
        1e3 * normal(4),
    ):
        found = sample(perfect, start, schedule(count), rule, noises())
        torch.testing.assert_close(found, z0, rtol=0, atol=1e-9)


@COUNTS
def test_ddim_stays_on_the_path_of_equation_2(count: int) -> None:
    z0, z_c, eps = normal(0), normal(1), normal(2)
    visited = []

    def learned(z: Tensor, t: int) -> Tensor:  # what Eq. 11 trains the estimator to say
        ab = float(ALPHA_BAR[t])
        expected = math.sqrt(ab) * (z0 + relay.eta(ab, AB_N) * (z_c - z0)) + math.sqrt(1 - ab) * eps
        torch.testing.assert_close(z, expected, rtol=0, atol=1e-10)
        visited.append(t)
        return relay.relay_noise(eps, z_c, z0, AB_N)

    found = sample(learned, relay.diffuse(z_c, eps, AB_N), schedule(count), ddim_mix, iter(()))
    torch.testing.assert_close(found, z0, rtol=0, atol=1e-10)
    assert visited == list(spaced_steps(START, count))


@COUNTS
def test_noise_is_drawn_for_every_ddpm_step_but_the_last(count: int) -> None:
    drawn = itertools.count()

    def counted() -> Iterator[Tensor]:
        for noise in noises():
            next(drawn)
            yield noise

    sample(lambda z, t: z, normal(0), schedule(count), ddpm_mix, counted())
    assert next(drawn) == count - 1

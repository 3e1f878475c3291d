"""Stable Diffusion's noise schedule and the spaced steps taken through it. numpy, float64."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from rdeic.config import DiffusionConfig
from rdeic.errors import ConfigError


def alpha_bars(config: DiffusionConfig) -> NDArray[np.float64]:
    """alpha_bar at indices 0..T-1, decreasing: the cumulative product of 1 - beta, sqrt(beta) linear."""
    betas = np.linspace(np.sqrt(config.beta_start), np.sqrt(config.beta_end), config.train_steps) ** 2
    return np.cumprod(1.0 - betas, dtype=np.float64)


def spaced_steps(start: int, count: int) -> tuple[int, ...]:
    """`count` indices from start - 1 down to 0, both ends included; a single step is at start - 1.

    Raises ConfigError unless 1 <= count <= start.
    """
    if not 1 <= count <= start:
        raise ConfigError(f"{count} denoising steps asked for; choose 1 to {start}")
    if count == 1:
        return (start - 1,)
    stride = (start - 1) / (count - 1)
    return tuple(reversed([round(stride * i) for i in range(count)]))


class SpacedStep(NamedTuple):
    """One step from index t to the next lower one (alpha_bar_prev = 1 past the last)."""

    t: int
    alpha_bar: float
    alpha_bar_prev: float

    @property
    def beta(self) -> float:
        """1 - alpha_bar_n / alpha_bar_{n-1}: variance of the noise that the step removes."""
        return 1.0 - self.alpha_bar / self.alpha_bar_prev


def spaced_schedule(alpha_bar: NDArray[np.float64], steps: tuple[int, ...]) -> list[SpacedStep]:
    """The steps at descending indices `steps`, with the noise level each ends at."""
    levels = [float(alpha_bar[t]) for t in steps] + [1.0]
    return [SpacedStep(t, levels[i], levels[i + 1]) for i, t in enumerate(steps)]


class Mix(NamedTuple):
    """z_{n-1} = z0 * z0_hat + zn * z_n + sigma * noise (Eq. 5: k_n, m_n, sigma_n)."""

    z0: float
    zn: float
    sigma: float


def ddpm_mix(step: SpacedStep) -> Mix:
    """Posterior of the spaced DDPM with the small variance; at alpha_bar_prev = 1 it is z0_hat itself."""
    ab, prev, beta = step.alpha_bar, step.alpha_bar_prev, step.beta
    return Mix(
        z0=beta * math.sqrt(prev) / (1.0 - ab),
        zn=(1.0 - prev) * math.sqrt(1.0 - beta) / (1.0 - ab),
        sigma=math.sqrt(beta * (1.0 - prev) / (1.0 - ab)),
    )


def ddim_mix(step: SpacedStep) -> Mix:
    """Eq. 5 with sigma_n = 0: the solution of Eq. 7."""
    m = math.sqrt((1.0 - step.alpha_bar_prev) / (1.0 - step.alpha_bar))
    return Mix(z0=math.sqrt(step.alpha_bar_prev) - m * math.sqrt(step.alpha_bar), zn=m, sigma=0.0)


Rule = Callable[[SpacedStep], Mix]


class Sampler(NamedTuple):
    """How z0_hat is reached: the rule of each step, and where the steps begin."""

    rule: Rule
    relay: bool  # from z_c at index N - 1; False: from pure noise at index T - 1


RELAY_DDPM = Sampler(ddpm_mix, relay=True)  # the paper's default
RELAY_DDIM = Sampler(ddim_mix, relay=True)
BASELINE = Sampler(
    ddpm_mix, relay=False
)  # what the paper compares with: vanilla diffusion, steered but not started

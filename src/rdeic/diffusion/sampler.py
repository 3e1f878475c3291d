"""Samplers: from z_N to z0 in L steps with any noise estimator."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from torch import Tensor

from rdeic.diffusion.relay import predict_z0
from rdeic.diffusion.schedule import Rule, SpacedStep

Denoiser = Callable[[Tensor, int], Tensor]  # (z_n, timestep index) -> noise estimate


def sample(
    denoise: Denoiser, z: Tensor, steps: Sequence[SpacedStep], rule: Rule, noises: Iterator[Tensor]
) -> Tensor:
    """z (B, C, h, w) at steps[0] -> z0_hat, by Eq. 5 at every step.

    `noises` yields standard normal tensors shaped like z, and is asked only where sigma is not zero.
    """
    for step in steps:
        z0_hat = predict_z0(z, denoise(z, step.t), step.alpha_bar)
        k, m, sigma = rule(step)
        z = k * z0_hat + m * z
        if sigma:
            z = z + sigma * next(noises)
    return z

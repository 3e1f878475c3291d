"""Relay residual diffusion, Eqs. 1-12. `alpha_bar` is a float, or a tensor that broadcasts (B, 1, 1, 1)."""

from __future__ import annotations

import math

import torch
from torch import Tensor


def _sqrt(x: float | Tensor) -> float | Tensor:
    return x.sqrt() if isinstance(x, Tensor) else math.sqrt(x)


def diffuse(z: Tensor, eps: Tensor, alpha_bar: float | Tensor) -> Tensor:
    """z_n of Eq. 1, (B, C, h, w): sqrt(ab) z + sqrt(1 - ab) eps.

    With z_c for z it is the relay start z_N; with eps~ for eps it is Eq. 10.
    """
    return _sqrt(alpha_bar) * z + _sqrt(1.0 - alpha_bar) * eps


def relay_lambda(alpha_bar_start: float) -> float:
    """lambda = sqrt(ab_N) / sqrt(1 - ab_N), which makes eta_N = 1 (Eq. 8)."""
    return math.sqrt(alpha_bar_start / (1.0 - alpha_bar_start))


def eta(alpha_bar: float, alpha_bar_start: float) -> float:
    """Weight of the residual at a step (Eq. 8): 1 at the start N, towards 0 at the end."""
    return relay_lambda(alpha_bar_start) * math.sqrt((1.0 - alpha_bar) / alpha_bar)


def relay_noise(eps: Tensor, z_c: Tensor, z0: Tensor, alpha_bar_start: float) -> Tensor:
    """eps~ = lambda * e + eps with the residual e = z_c - z0 (Eq. 10): what the noise estimator learns."""
    return relay_lambda(alpha_bar_start) * (z_c - z0) + eps


def predict_z0(z_n: Tensor, eps: Tensor, alpha_bar: float | Tensor) -> Tensor:
    """z0_hat from a noise estimate: Eq. 10 solved for z0."""
    return (z_n - _sqrt(1.0 - alpha_bar) * eps) / _sqrt(alpha_bar)


def guide_detail(eps_sd: Tensor, eps_theta: Tensor, detail: float) -> Tensor:
    """Eq. 15: lambda_s = `detail` scales the high-frequency control component."""
    return torch.lerp(eps_sd, eps_theta, detail)

"""Estimated rate of y under the Gaussian entropy model, differentiable."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from rdeic.types import EntropyParams

MIN_SIGMA = 0.11  # the smallest scale of the coding table
MIN_LIKELIHOOD = 1e-9


class _LowerBound(torch.autograd.Function):
    """max(x, bound), except that gradients which raise x pass even below the bound."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, bound: float) -> Tensor:
        ctx.save_for_backward(x)
        ctx.bound = bound
        return x.clamp(min=bound)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:
        (x,) = ctx.saved_tensors
        (grad,) = grads
        return grad * ((x >= ctx.bound) | (grad < 0)), None


def _phi(x: Tensor) -> Tensor:
    return 0.5 * torch.erfc(x * -math.sqrt(0.5))


def likelihood(y: Tensor, params: EntropyParams) -> Tensor:
    """P(y) of every element under N(mu, sigma) integrated over a unit interval, at least 1e-9."""
    sigma: Tensor = _LowerBound.apply(params.sigma.float(), MIN_SIGMA)  # type: ignore[no-untyped-call]
    v = (y.float() - params.mu.float()).abs()
    probability = _phi((0.5 - v) / sigma) - _phi((-0.5 - v) / sigma)
    bounded: Tensor = _LowerBound.apply(probability, MIN_LIKELIHOOD)  # type: ignore[no-untyped-call]
    return bounded


def bits(y: Tensor, params: EntropyParams) -> Tensor:
    """(B, M, h, w) -> R(y) in bits per picture, (B,)."""
    return -likelihood(y, params).log2().sum(dim=(1, 2, 3))


def round_straight_through(x: Tensor) -> Tensor:
    """round(x), with the gradient of the identity."""
    return x + (x.round() - x).detach()

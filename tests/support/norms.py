"""Group norms to compare: inputs, the library's result in double precision, how far another may be from it."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

GROUPS, EPS = 8, 1e-6
# Of an output y, in units of 1 + |y|, from inputs that are exact: the last rounding, and one before SiLU.
TOLERANCES = {torch.float32: 1e-5, torch.float16: 1e-3, torch.bfloat16: 8e-3}


def case(
    dtype: torch.dtype, shape: tuple[int, int, int, int] = (2, 24, 17, 9), mean: float = 0.0
) -> tuple[Tensor, Tensor, Tensor]:
    """x, weight, bias."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(shape, generator=generator) * torch.linspace(0.5, 2.0, shape[1])[:, None, None] + mean
    weight, bias = torch.linspace(-1.0, 1.0, shape[1]), torch.linspace(0.5, -0.5, shape[1])
    return x.to(dtype, memory_format=torch.channels_last), weight.to(dtype), bias.to(dtype)


def expected(x: Tensor, weight: Tensor, bias: Tensor, silu: bool) -> Tensor:
    y = F.group_norm(x.double(), GROUPS, weight.double(), bias.double(), EPS)
    return F.silu(y) if silu else y


def worst(found: Tensor, wanted: Tensor) -> float:
    return float(((found.double() - wanted).abs() / (1.0 + wanted.abs())).max())

"""Exact networks: an entropy model with its copy, and parts to make more of."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from rdeic.model.entropy_model import EntropyModel
from rdeic.nn.exact import exact_copy
from rdeic.nn.grid import snap
from support.tiny import lively_entropy_model


@pytest.fixture(scope="module")
def entropy() -> EntropyModel:
    return lively_entropy_model(0)


@pytest.fixture(scope="module")
def exact(entropy: EntropyModel) -> EntropyModel:
    return exact_copy(entropy)


def uniform(shape: tuple[int, ...], bound: float, seed: int) -> Tensor:
    """Activations on the grid."""
    generator = torch.Generator().manual_seed(seed)
    return snap((2 * torch.rand(shape, generator=generator, dtype=torch.float64) - 1) * bound)


def conv(weight: Tensor, bias: float = 0.0) -> nn.Conv2d:
    layer = nn.Conv2d(weight.shape[1], weight.shape[0], weight.shape[2], padding=weight.shape[2] // 2)
    layer.weight.data = weight.float()
    nn.init.constant_(layer.bias, bias)  # type: ignore[arg-type]
    return layer

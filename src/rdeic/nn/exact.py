"""Exact arithmetic for the networks between the hyper indices and the probabilities.

A decoder must arrive at the encoder's probabilities bit for bit, whatever the device, thread count or library. So at
coding time those networks compute with the dyadic numbers of `grid`.
"""

from __future__ import annotations

import copy
import functools
import math
from typing import TypeVar

import torch
from torch import Tensor, nn

from rdeic.nn.codebook import Codebook
from rdeic.nn.exact_conv import exact_conv
from rdeic.nn.grid import ACTIVATION_BITS, WEIGHT_BITS, snap
from rdeic.nn.quality import QualityTable

GELU_RANGE = 8  # beyond it GELU is the identity or zero to within the grid

Net = TypeVar("Net", bound=nn.Module)


class ExactLeakyReLU(nn.Module):
    """LeakyReLU of activations on the grid and within its range, as every convolution leaves them."""

    def __init__(self, slope: float) -> None:
        super().__init__()
        self.slope = round(slope * 2.0**WEIGHT_BITS) * 2.0**-WEIGHT_BITS
        assert 0 <= self.slope <= 1  # or the maximum would not choose the branch

    def forward(self, x: Tensor) -> Tensor:
        """Activations on the grid -> the same shape, on the grid; x below 0 times the slope, rounded to the nearest."""
        below = (x * (self.slope * 2.0**ACTIVATION_BITS)).round_().mul_(2.0**-ACTIVATION_BITS)
        return torch.maximum(x, below)


@functools.cache
def gelu_table() -> tuple[int, ...]:
    """relu(x) - GELU(x) = |x| Q(|x|) at every step of |x| over [0, 8], in steps: those of the activation grid, 2^-10.

    No entry lies near a rounding tie (tested).
    """
    points = range((GELU_RANGE << ACTIVATION_BITS) + 1)
    exact = (i * 0.5 * math.erfc(i * 2.0**-ACTIVATION_BITS * math.sqrt(0.5)) for i in points)
    return tuple(round(v) for v in exact)


@functools.cache
def _gelu_values() -> Tensor:
    """`gelu_table` as activations, shared by all that are on the CPU: nothing writes to it."""
    return torch.tensor(gelu_table(), dtype=torch.float64) * 2.0**-ACTIVATION_BITS


class ExactGELU(nn.Module):
    """GELU by table lookup, so that no device's erf decides a bit."""

    table: Tensor

    def __init__(self, device: torch.device) -> None:
        super().__init__()
        self.register_buffer("table", _gelu_values().to(device), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """Activations on the grid -> the same shape, on the grid."""
        position = x.abs().mul_(2.0**ACTIVATION_BITS).clamp_(max=GELU_RANGE << ACTIVATION_BITS)
        below = self.table.index_select(0, position.int().flatten()).view_as(x)
        return x.relu().sub_(below)


class ExactQualityTable(nn.Module):
    """`QualityTable` in exact arithmetic: knots and weights on the grid."""

    knots: Tensor

    def __init__(self, table: QualityTable) -> None:
        super().__init__()
        self.register_buffer("knots", snap(table.knots.detach().double()))

    def forward(self, quality: Tensor) -> Tensor:
        """quality (B,) in [0, 1], a quality byte / 255 -> (B, C, 1, 1) float64 on the grid."""
        position = quality.double() * (self.knots.shape[0] - 1)
        low = position.floor().clamp(0, self.knots.shape[0] - 2)
        weight = snap(position - low)[:, None]
        below, above = self.knots[low.long()], self.knots[low.long() + 1]
        return snap(below + (above - below) * weight)[:, :, None, None]


def exact_copy(net: Net, device: torch.device | None = None) -> Net:
    """A copy of `net` for coding: the same structure, every layer in exact arithmetic, float64.

    It is on `device`, which must know float64; None means where `net` is. Deterministic: equal weights give equal
    copies everywhere. Raises CheckpointError for weights out of range.
    """
    home = next(net.parameters()).device if device is None else device
    # In this order: where `net` is, there may be no float64.
    exact = copy.deepcopy(net).to(home).double().eval().requires_grad_(False)
    _convert(exact, home)
    return exact


def _convert(module: nn.Module, device: torch.device) -> None:
    for name, child in module.named_children():
        replacement = _exact_layer(child, device)
        if replacement is None:
            _convert(child, device)
        else:
            setattr(module, name, replacement)


def _exact_layer(layer: nn.Module, device: torch.device) -> nn.Module | None:
    match layer:
        case nn.Conv2d():
            return exact_conv(layer)
        case nn.LeakyReLU():
            return ExactLeakyReLU(layer.negative_slope)
        case nn.GELU():
            return ExactGELU(device)
        case QualityTable():
            return ExactQualityTable(layer)
        case Codebook():
            layer.entries.data = snap(layer.entries.data)
            return layer
        case _:
            return None

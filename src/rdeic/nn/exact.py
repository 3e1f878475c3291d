"""Exact arithmetic for the networks between the hyper indices and the probabilities.

A decoder must arrive at the encoder's probabilities bit for bit, whatever the device, thread count or library. So at
coding time those networks compute with dyadic numbers carried in float64: weights are multiples of 2^-14,
activations multiples of 2^-10 within +-2^11. Every product and every partial sum is then a multiple of 2^-24 below
2^29 in magnitude, i.e. an integer below 2^53 times a power of two: float64 holds it exactly, and the order of
summation cannot matter. The only rounding is the explicit one back onto the grid.

Convolutions are sums of matrix products, one for each tap, never a library convolution, which might choose an
algorithm (Winograd, FFT) that leaves the grid.
"""

from __future__ import annotations

import copy
import math
from typing import TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from rdeic.errors import CheckpointError
from rdeic.nn.codebook import Codebook
from rdeic.nn.quality import QualityTable

ACTIVATION_BITS = 10
WEIGHT_BITS = 14
LIMIT = 2.0**11  # of an activation's magnitude
GELU_RANGE = 8  # beyond it GELU is the identity or zero to within the grid

Net = TypeVar("Net", bound=nn.Module)


def snap(x: Tensor) -> Tensor:
    """The nearest activation: multiples of 2^-10 (ties to even) within +-2^11."""
    return (x * 2.0**ACTIVATION_BITS).round_().mul_(2.0**-ACTIVATION_BITS).clamp_(-LIMIT, LIMIT)


def _snap_weights(x: Tensor) -> Tensor:
    return (x.detach().double() * 2.0**WEIGHT_BITS).round() * 2.0**-WEIGHT_BITS


class ExactConv2d(nn.Module):
    weight: Tensor
    bias: Tensor

    def __init__(self, conv: nn.Conv2d) -> None:
        super().__init__()
        assert conv.bias is not None and conv.groups == 1 and conv.stride == (1, 1)
        assert conv.kernel_size[0] == conv.kernel_size[1] == 2 * int(conv.padding[0]) + 1
        self.kernel, self.padding = conv.kernel_size[0], int(conv.padding[0])
        weight = _snap_weights(conv.weight)
        self.register_buffer("weight", weight.flatten(2).permute(2, 0, 1).contiguous())  # (k * k, out, in)
        self.register_buffer("bias", _snap_weights(conv.bias))
        largest = float(weight.abs().sum((1, 2, 3)).max() * LIMIT + self.bias.abs().max())
        if not largest < 2.0 ** (53 - ACTIVATION_BITS - WEIGHT_BITS):
            raise CheckpointError(
                f"a coding network's weights are too large for exact arithmetic ({largest:.3g})"
            )

    def forward(self, x: Tensor) -> Tensor:
        height, width = x.shape[2:]
        row, count = width + 2 * self.padding, height * (width + 2 * self.padding)
        x = x.clamp(-LIMIT, LIMIT)  # sums of activations may have left the range
        if self.padding:  # a row more than the windows need, for the last shift
            x = F.pad(x, (self.padding, self.padding, self.padding, self.padding + 1))
        # A tap is a shift of the flattened rows; what wraps around their ends is cut off below.
        flat = x.flatten(2)
        total = torch.matmul(self.weight[0], flat[:, :, :count])
        for tap in range(1, self.kernel**2):
            shift = tap // self.kernel * row + tap % self.kernel
            weight = self.weight[tap].expand(len(x), -1, -1)
            total.baddbmm_(weight, flat[:, :, shift : shift + count])
        return snap(total.add_(self.bias[:, None])).unflatten(2, (height, row))[..., :width]


class ExactLeakyReLU(nn.Module):
    def __init__(self, slope: float) -> None:
        super().__init__()
        self.slope = round(slope * 2.0**WEIGHT_BITS) * 2.0**-WEIGHT_BITS

    def forward(self, x: Tensor) -> Tensor:
        return snap(torch.where(x < 0, x * self.slope, x))


def gelu_table() -> Tensor:
    """GELU in steps of 2^-10 over [-8, 8), on the activation grid; no entry lies near a rounding tie (tested)."""
    points = range(-GELU_RANGE << ACTIVATION_BITS, GELU_RANGE << ACTIVATION_BITS)
    exact = (i * 0.5 * (1.0 + math.erf(i * 2.0**-ACTIVATION_BITS * math.sqrt(0.5))) for i in points)
    return torch.tensor([round(v) for v in exact], dtype=torch.float64) * 2.0**-ACTIVATION_BITS


class ExactGELU(nn.Module):
    table: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("table", gelu_table(), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        offset = GELU_RANGE << ACTIVATION_BITS
        position = (x * 2.0**ACTIVATION_BITS).long() + offset
        inside = self.table[position.clamp(0, 2 * offset - 1)]
        return torch.where(x >= GELU_RANGE, x, inside)


class ExactQualityTable(nn.Module):
    knots: Tensor

    def __init__(self, table: QualityTable) -> None:
        super().__init__()
        self.register_buffer("knots", snap(table.knots.detach().double()))

    def forward(self, quality: Tensor) -> Tensor:
        position = quality.double() * (self.knots.shape[0] - 1)
        low = position.floor().clamp(0, self.knots.shape[0] - 2)
        weight = snap(position - low)[:, None]
        below, above = self.knots[low.long()], self.knots[low.long() + 1]
        return snap(below + (above - below) * weight)[:, :, None, None]


def exact_copy(net: Net) -> Net:
    """A copy of `net` for coding: the same structure, every layer in exact arithmetic, float64.

    Deterministic: equal weights give equal copies everywhere. Raises CheckpointError for weights out of range.
    """
    exact = copy.deepcopy(net).double().eval().requires_grad_(False)
    _convert(exact)
    return exact


def _convert(module: nn.Module) -> None:
    for name, child in module.named_children():
        replacement = _exact_layer(child)
        if replacement is None:
            _convert(child)
        else:
            setattr(module, name, replacement)


def _exact_layer(layer: nn.Module) -> nn.Module | None:
    match layer:
        case nn.Conv2d():
            return ExactConv2d(layer)
        case nn.LeakyReLU():
            return ExactLeakyReLU(layer.negative_slope)
        case nn.GELU():
            return ExactGELU()
        case QualityTable():
            return ExactQualityTable(layer)
        case Codebook():
            layer.entries.data = snap(layer.entries.data)
            return layer
        case _:
            return None

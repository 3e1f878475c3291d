"""Convolutions in exact arithmetic: sums of matrix products, one for each tap.

Never a library convolution, which might choose an algorithm (Winograd, FFT) that leaves the grid; our own Winograd,
`ExactPairsConv2d`, stays on it.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from rdeic.errors import CheckpointError
from rdeic.nn.context import CheckerboardConv2d
from rdeic.nn.grid import ACTIVATION_BITS, LIMIT, fits, from_steps, snap_weights


def exact_conv(conv: nn.Conv2d) -> nn.Module:
    """The fastest that is exact. Raises CheckpointError for weights too large for any."""
    if conv.kernel_size[0] > 1 and not isinstance(conv, CheckerboardConv2d):
        pairs = ExactPairsConv2d(conv)
        if pairs.fits:
            return pairs
    return ExactConv2d(conv)


class ExactConv2d(nn.Module):
    """A convolution as one matrix product for each tap of its kernel."""

    weight: Tensor
    bias: Tensor

    def __init__(self, conv: nn.Conv2d) -> None:
        super().__init__()
        weight, bias = _on_grid(conv)
        largest = weight.abs().sum((1, 2, 3)).max() * LIMIT + bias.abs().max()
        if not fits(largest):
            raise CheckpointError(
                f"a coding network's weights are too large for exact arithmetic ({float(largest):.3g})"
            )
        self.padding = int(conv.padding[0])
        self.taps = _taps(conv)
        # (taps, out, in) and (out, 1), so scaled that sums come out in steps of the activations' grid
        weight = torch.stack([weight[:, :, row, column] for row, column in self.taps])
        self.register_buffer("weight", weight * 2.0**ACTIVATION_BITS)
        self.register_buffer("bias", bias[:, None] * 2.0**ACTIVATION_BITS)

    def forward(self, x: Tensor) -> Tensor:
        """(B, in, H, W) on the grid, float64 -> (B, out, H, W), on the grid and within +-2^11."""
        batch, _, height, width = x.shape
        row, count = width + 2 * self.padding, height * (width + 2 * self.padding)
        # A tap is a shift of the flattened rows; what wraps around their ends is cut off below.
        flat = _padded(x, self.padding, height + 2 * self.padding + 1).flatten(2)
        shifts = (down * row + right for down, right in self.taps)
        windows = [flat[:, :, shift : shift + count] for shift in shifts]
        total = _products(self.bias[None], self.weight[:, None], windows, batch)
        return from_steps(total).unflatten(2, (height, row))[..., :width]


class ExactPairsConv2d(nn.Module):
    """Two rows at a time, with 4 products instead of 6 for 3 taps of a column, 7 instead of 10 for 5.

    Down the columns this is Winograd's F(2, 3), and for the last two of 5 taps F(2, 2). Their transforms only add and
    halve, so products have one bit more after the point, and nothing is lost: the bits are those of ExactConv2d.
    """

    weight: Tensor
    bias: Tensor

    def __init__(self, conv: nn.Conv2d) -> None:
        super().__init__()
        weight, bias = _on_grid(conv)
        self.padding = int(conv.padding[0])
        combined = _combine_taps(weight)  # (planes, out, in, columns)
        planes = len(combined)
        # Of the planes, up to 5 are added up; each is of differences or sums of two activations.
        largest = combined.abs().sum((2, 3)).max() * (2 * LIMIT * planes) + bias.abs().max()
        self.fits = fits(largest, extra_bits=1)
        self.register_buffer("weight", combined.permute(3, 0, 1, 2).contiguous() * 2.0**ACTIVATION_BITS)
        self.register_buffer("bias", bias.new_zeros(planes, len(bias), 1))
        self.bias[1] = bias[:, None] * 2.0**ACTIVATION_BITS  # of the plane that goes into both rows

    def forward(self, x: Tensor) -> Tensor:
        """(B, in, H, W) on the grid, float64 -> (B, out, H, W), on the grid and within +-2^11."""
        batch, _, height, width = x.shape
        pairs, row = -(-height // 2), width + 2 * self.padding
        count = pairs * row
        planes = _combine_rows(_padded(x, self.padding, 2 * (pairs + self.padding + 1)), pairs, self.padding)
        windows = [planes[:, :, shift : shift + count] for shift in range(2 * self.padding + 1)]
        total = _products(self.bias, self.weight, windows, batch)
        upper, lower = _separate(total.unflatten(0, (-1, batch)))
        rows = torch.stack([upper.unflatten(2, (pairs, row)), lower.unflatten(2, (pairs, row))], dim=3)
        return from_steps(rows).flatten(2, 3)[:, :, :height, :width]


def _on_grid(conv: nn.Conv2d) -> tuple[Tensor, Tensor]:
    assert conv.bias is not None and conv.groups == 1 and conv.stride == (1, 1)
    assert conv.kernel_size[0] == conv.kernel_size[1] == 2 * int(conv.padding[0]) + 1
    return snap_weights(conv.weight), snap_weights(conv.bias)


def _taps(conv: nn.Conv2d) -> list[tuple[int, int]]:
    """(row, column) of the weights that take part."""
    kernel = range(conv.kernel_size[0])
    checkered = isinstance(conv, CheckerboardConv2d)
    return [(row, column) for row in kernel for column in kernel if not checkered or (row + column) % 2]


def _padded(x: Tensor, padding: int, rows: int) -> Tensor:
    """x within the range, which sums of activations may have left, amid zeros; `rows` in all."""
    if not padding:
        return x.clamp(-LIMIT, LIMIT)
    height, width = x.shape[2:]
    padded = x.new_zeros(*x.shape[:2], rows, width + 2 * padding)
    padded[:, :, padding : padding + height, padding : padding + width] = x
    return padded.clamp_(-LIMIT, LIMIT)


def _products(bias: Tensor, weights: Tensor, windows: list[Tensor], batch: int) -> Tensor:
    """Sum of weights[i] @ windows[i], plus bias.

    bias (planes, out, 1), weights (taps, planes, out, in), each window (planes * batch, in, count), batch fastest.
    """
    shared = [w.repeat_interleave(batch, 0) if batch > 1 else w for w in (bias, *weights)]
    total = torch.baddbmm(shared[0], shared[1], windows[0])
    for weight, window in zip(shared[2:], windows[1:], strict=True):
        total.baddbmm_(weight, window)
    return total


def _combine_taps(weight: Tensor) -> Tensor:
    """(out, in, 3 or 5, columns) -> what multiplies each plane, (4 or 7, out, in, columns)."""
    first, second, third, *rest = weight.unbind(2)
    outer, middle = (first + third) / 2, second / 2
    planes = [first, outer + middle, outer - middle, third]
    if rest:
        fourth, fifth = rest
        planes += [fourth, fourth + fifth, fifth]
    return torch.stack(planes)


def _combine_rows(x: Tensor, pairs: int, padding: int) -> Tensor:
    """(B, C, rows, w) -> (4 or 7 planes * B, C, pairs * w + 2 * padding), the last few zero."""
    row = x.shape[3]
    even, odd = x[:, :, 0::2], x[:, :, 1::2]
    d = [(odd if i % 2 else even)[:, :, i // 2 : i // 2 + pairs] for i in range(2 * padding + 2)]
    planes = x.new_zeros(4 if padding == 1 else 7, *x.shape[:2], pairs * row + 2 * padding)
    out = planes[..., : pairs * row].unflatten(3, (pairs, row))
    torch.sub(d[0], d[2], out=out[0])
    torch.add(d[1], d[2], out=out[1])
    torch.sub(d[2], d[1], out=out[2])
    torch.sub(d[1], d[3], out=out[3])
    if padding == 2:
        torch.sub(d[3], d[4], out=out[4])
        out[5].copy_(d[4])
        torch.sub(d[4], d[5], out=out[6])
    return planes.flatten(0, 1)


def _separate(products: Tensor) -> tuple[Tensor, Tensor]:
    """(4 or 7, B, out, count) -> the upper and the lower row of each pair."""
    first, second, third, fourth, *rest = products
    upper, lower = first.add_(second).add_(third), second - third - fourth
    if rest:
        upper.add_(rest[0]).add_(rest[1])
        lower.add_(rest[1]).sub_(rest[2])
    return upper, lower

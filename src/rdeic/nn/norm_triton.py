"""Group normalisation and SiLU of channels-last activations as three Triton kernels.

    _sums    x -> sums and sums of squares of each channel, over a chunk of positions      reads x
    _affine  -> scale and offset of each channel, so that y = scale x + offset
    _apply   x -> y, through SiLU where wanted                                              reads x, writes y

Everything between x and y is float32, in an order that never changes. Sums are of differences from the picture's first
position, so that squares of a large mean do not drown a small variance. Imported only where it runs: Triton comes with
torch for CUDA, and without it `norm.py` has another way.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

COLUMNS = 64  # channels of a tile: 128 bytes of a row
_SUM_ROWS, _ROWS = 64, 32  # positions of a tile; a tile that is added up has more warps
_MOST_CHUNKS, _CHUNKS = 256, 32  # of a picture, of a tile
_LEAST_PER_CHUNK = 128  # positions


@triton.jit
def _sums(x, sums, positions, channels, per_chunk, rows: tl.constexpr, columns: tl.constexpr):
    chunk, picture = tl.program_id(0), tl.program_id(2)
    column = tl.program_id(1) * columns + tl.arange(0, columns)
    inside = column < channels
    x += picture.to(tl.int64) * positions * channels
    first = tl.load(x + column, mask=inside, other=0.0).to(tl.float32)
    total = tl.zeros((rows, columns), tl.float32)
    power = tl.zeros((rows, columns), tl.float32)
    for start in range(0, per_chunk, rows):
        within = start + tl.arange(0, rows)
        row = chunk * per_chunk + within
        there = ((within < per_chunk) & (row < positions))[:, None] & inside[None, :]
        at = row.to(tl.int64)[:, None] * channels + column[None, :]
        difference = tl.load(x + at, mask=there, other=0.0).to(tl.float32) - first[None, :]
        difference = tl.where(there, difference, 0.0)
        total += difference
        power += difference * difference
    sums += (picture * tl.num_programs(0) + chunk) * 2 * channels + column
    tl.store(sums, tl.sum(total, axis=0), mask=inside)
    tl.store(sums + channels, tl.sum(power, axis=0), mask=inside)


@triton.jit
def _affine(
    x,
    sums,
    weight,
    bias,
    affine,
    positions,
    channels,
    group,
    chunks,
    eps,
    tall: tl.constexpr,
    wide: tl.constexpr,
):
    """`group` channels to a group, `wide`: at least as many; `tall` chunks at a time."""
    picture = tl.program_id(1)
    within = tl.arange(0, wide)
    inside = within < group
    column = tl.program_id(0) * group + within
    first = tl.load(x + picture.to(tl.int64) * positions * channels + column, mask=inside, other=0.0)
    sums += picture * chunks * 2 * channels
    totals = tl.zeros((tall, wide), tl.float32)
    powers = tl.zeros((tall, wide), tl.float32)
    for start in range(0, chunks, tall):
        chunk = start + tl.arange(0, tall)
        there = (chunk < chunks)[:, None] & inside[None, :]
        at = chunk[:, None] * (2 * channels) + column[None, :]
        totals += tl.load(sums + at, mask=there, other=0.0)
        powers += tl.load(sums + at + channels, mask=there, other=0.0)
    total, power = tl.sum(totals, axis=0), tl.sum(powers, axis=0)
    shift = total / positions
    variances = power / positions - shift * shift
    means = tl.where(inside, first.to(tl.float32) + shift, 0.0)
    mean = tl.sum(means, axis=0) / group
    away = means - mean
    variance = tl.sum(tl.where(inside, variances + away * away, 0.0), axis=0) / group
    gamma = tl.load(weight + column, mask=inside, other=0.0).to(tl.float32)
    beta = tl.load(bias + column, mask=inside, other=0.0).to(tl.float32)
    scale = gamma / tl.sqrt(tl.maximum(variance, 0.0) + eps)
    offset = beta - mean * scale
    affine += picture * 2 * channels + column
    tl.store(affine, scale, mask=inside)
    tl.store(affine + channels, offset, mask=inside)


@triton.jit
def _apply(
    x,
    affine,
    y,
    positions,
    channels,
    silu: tl.constexpr,
    rows: tl.constexpr,
    columns: tl.constexpr,
):
    picture = tl.program_id(2)
    row = tl.program_id(0) * rows + tl.arange(0, rows)
    column = tl.program_id(1) * columns + tl.arange(0, columns)
    inside = column < channels
    there = (row < positions)[:, None] & inside[None, :]
    affine += picture * 2 * channels + column
    scale = tl.load(affine, mask=inside, other=0.0)
    offset = tl.load(affine + channels, mask=inside, other=0.0)
    at = (picture.to(tl.int64) * positions + row.to(tl.int64))[:, None] * channels + column[None, :]
    value = tl.load(x + at, mask=there, other=0.0).to(tl.float32) * scale[None, :] + offset[None, :]
    if silu:
        value = value * (1.0 / (1.0 + tl.exp(-value)))
    tl.store(y + at, value.to(y.dtype.element_ty), mask=there)


def group_norm(x: Tensor, groups: int, weight: Tensor, bias: Tensor, eps: float, silu: bool) -> Tensor:
    """x (B, C, H, W), channels-last -> the same, normalised. No gradients."""
    batch, channels, height, width = x.shape
    positions, group = height * width, channels // groups
    per_chunk = max(_LEAST_PER_CHUNK, triton.cdiv(positions, _MOST_CHUNKS))
    chunks, columns = triton.cdiv(positions, per_chunk), triton.cdiv(channels, COLUMNS)
    sums = torch.empty(batch, chunks, 2, channels, device=x.device, dtype=torch.float32)
    affine = torch.empty(batch, 2, channels, device=x.device, dtype=torch.float32)
    y = torch.empty_like(x)
    wide = triton.next_power_of_2(group)
    with torch.cuda.device_of(x):  # where Triton launches, whatever its arguments
        _sums[(chunks, columns, batch)](
            x, sums, positions, channels, per_chunk, _SUM_ROWS, COLUMNS, num_warps=8
        )
        _affine[(groups, batch)](
            x, sums, weight, bias, affine, positions, channels, group, chunks, eps, _CHUNKS, wide
        )
        _apply[(triton.cdiv(positions, _ROWS), columns, batch)](
            x, affine, y, positions, channels, silu, _ROWS, COLUMNS
        )
    return y

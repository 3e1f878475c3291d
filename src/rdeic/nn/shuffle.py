"""Pixel shuffle and its inverse that leave activations channels-last on every device.

The library's do so on CPUs only, and copy even where there is nothing to do.
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor


def pixel_shuffle(x: Tensor, factor: int) -> Tensor:
    """(B, C * factor^2, H, W) -> (B, C, H * factor, W * factor)."""
    if factor == 1:
        return x
    return F.pixel_shuffle(x, factor) if x.device.type == "cpu" else shuffle_by_views(x, factor)


def pixel_unshuffle(x: Tensor, factor: int) -> Tensor:
    """(B, C, H * factor, W * factor) -> (B, C * factor^2, H, W)."""
    if factor == 1:
        return x
    return F.pixel_unshuffle(x, factor) if x.device.type == "cpu" else unshuffle_by_views(x, factor)


def shuffle_by_views(x: Tensor, factor: int) -> Tensor:
    """`pixel_shuffle` in one copy; what comes out is channels-last."""
    blocks = x.unflatten(1, (-1, factor, factor))  # (B, C, row, column, H, W)
    rows = blocks.permute(0, 4, 2, 5, 3, 1).flatten(3, 4).flatten(1, 2)  # (B, H * factor, W * factor, C)
    return rows.permute(0, 3, 1, 2)


def unshuffle_by_views(x: Tensor, factor: int) -> Tensor:
    """`pixel_unshuffle` in one copy; what comes out is channels-last."""
    blocks = x.unflatten(3, (-1, factor)).unflatten(2, (-1, factor))  # (B, C, H, row, W, column)
    return blocks.permute(0, 2, 4, 1, 3, 5).flatten(3).permute(0, 3, 1, 2)

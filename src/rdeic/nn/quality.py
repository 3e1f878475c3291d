"""One network for all rates: tables of per-channel values, interpolated over the quality."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class QualityTable(nn.Module):
    """`levels` knots of `channels` values each, linear in between."""

    def __init__(self, first: Tensor, last: Tensor, levels: int) -> None:
        """Knots start on the straight line from `first` to `last`, both (channels,)."""
        super().__init__()
        ramp = torch.linspace(0.0, 1.0, levels)[:, None]
        self.knots = nn.Parameter(first + (last - first) * ramp)  # (levels, channels)

    def forward(self, quality: Tensor) -> Tensor:
        """quality (B,) in [0, 1] -> (B, channels, 1, 1)."""
        position = quality * (self.knots.shape[0] - 1)
        low = position.floor().clamp(0, self.knots.shape[0] - 2)
        weight = (position - low)[:, None]
        below, above = self.knots[low.long()], self.knots[low.long() + 1]
        return (below + (above - below) * weight)[:, :, None, None]

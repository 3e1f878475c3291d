"""One network for all rates: tables of per-channel values, interpolated over the quality."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class QualityTable(nn.Module):
    """`levels` knots of `channels` values each, linear in between."""

    def __init__(self, channels: int, first: float, last: float, levels: int) -> None:
        """Knots start on the straight line from `first` to `last`, the same in all channels."""
        super().__init__()
        self.knots = nn.Parameter(torch.empty(levels, channels))
        # Arithmetic on the meta device, where a model is made that weights are read into, imports torch's compiler:
        # a second. Filling row by row is none.
        for level, row in enumerate(self.knots.data):
            row.fill_(first + (last - first) * level / (levels - 1))

    def forward(self, quality: Tensor) -> Tensor:
        """quality (B,) in [0, 1] -> (B, channels, 1, 1)."""
        position = quality * (self.knots.shape[0] - 1)
        low = position.floor().clamp(0, self.knots.shape[0] - 2)
        weight = (position - low)[:, None]
        below, above = self.knots[low.long()], self.knots[low.long() + 1]
        return (below + (above - below) * weight)[:, :, None, None]

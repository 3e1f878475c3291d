"""Space-channel context model C_m: uneven channel slices, each coded in two checkerboard passes.

slice i:   o x o x      x anchor (row + column odd): coded first, from the hyper feature and the slices before
           x o x o      o non-anchor (even): coded second, also from the anchors of its own slice
           o x o x
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from rdeic.config import CompressionConfig
from rdeic.types import EntropyParams


def _parameter_net(in_channels: int, out_channels: int) -> nn.Sequential:
    first, second = out_channels * 5 // 3, out_channels * 4 // 3
    return nn.Sequential(
        nn.Conv2d(in_channels, first, 1),
        nn.GELU(),
        nn.Conv2d(first, second, 1),
        nn.GELU(),
        nn.Conv2d(second, out_channels, 1),
    )


def _channel_net(in_channels: int, widths: tuple[int, int], out_channels: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(in_channels, widths[0], 5, padding=2),
        nn.GELU(),
        nn.Conv2d(widths[0], widths[1], 5, padding=2),
        nn.GELU(),
        nn.Conv2d(widths[1], out_channels, 5, padding=2),
    )


class SliceContext(nn.Module):
    """Entropy parameters of one slice of c channels, given `before` channels already decoded."""

    def __init__(self, config: CompressionConfig, channels: int, before: int) -> None:
        super().__init__()
        hyper = 2 * config.y_channels
        known = hyper + (2 * channels if before else 0)
        self.local = nn.Conv2d(channels, 2 * channels, 5, padding=2)
        self.channel = _channel_net(before, config.context_widths, 2 * channels) if before else None
        self.anchor_params = _parameter_net(known, 2 * channels)
        self.non_anchor_params = _parameter_net(known + 2 * channels, 2 * channels)

    def known(self, hyper: Tensor, y_hat_before: Tensor | None) -> Tensor:
        """What both passes may use: the channel context of the slices before, and the hyper feature."""
        if self.channel is None or y_hat_before is None:
            return hyper
        return torch.cat([self.channel(y_hat_before), hyper], dim=1)

    def anchor(self, known: Tensor) -> EntropyParams:
        return _split(self.anchor_params(known))

    def non_anchor(self, known: Tensor, y_hat_anchor: Tensor) -> EntropyParams:
        """`y_hat_anchor` (B, c, h, w) is zero off the anchors."""
        return _split(self.non_anchor_params(torch.cat([self.local(y_hat_anchor), known], dim=1)))


def _split(params: Tensor) -> EntropyParams:
    sigma, mu = params.chunk(2, dim=1)  # scales come first in the paper's weights
    return EntropyParams(mu=mu, sigma=sigma)


def context_model(config: CompressionConfig) -> nn.ModuleList:
    """One SliceContext per slice, first coded first."""
    before = [sum(config.slices[:i]) for i in range(len(config.slices))]
    return nn.ModuleList(SliceContext(config, c, b) for c, b in zip(config.slices, before, strict=True))


def anchor_mask(height: int, width: int, device: torch.device) -> Tensor:
    """(height, width) bool, true where row + column is odd."""
    rows = torch.arange(height, device=device)[:, None]
    columns = torch.arange(width, device=device)[None, :]
    return (rows + columns) % 2 == 1

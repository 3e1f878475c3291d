"""Space-channel context model C_m: uneven channel slices, each coded in two checkerboard passes.

slice i:   o x o x      x anchor (row + column odd): coded first, from the hyper feature and the slices before
           x o x o      o non-anchor (even): coded second, also from the anchors of its own slice
           o x o x
"""

from __future__ import annotations

from typing import NamedTuple

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


class Half(NamedTuple):
    """Half of a checkerboard, as rows of positions: what a pass computes, it computes for these alone."""

    places: Tensor  # (P,) indices into the flattened positions, in rising order
    size: tuple[int, int]  # h, w of the whole

    def take(self, x: Tensor) -> Tensor:
        """(B, C, h, w) -> (B, C, 1, P)."""
        return x.flatten(2).index_select(2, self.places)[:, :, None]

    def spread(self, x: Tensor) -> Tensor:
        """Inverse of `take`, with zeros at the other positions."""
        flat = x.new_zeros(*x.shape[:2], self.size[0] * self.size[1])
        return flat.index_copy(2, self.places, x[:, :, 0]).unflatten(2, self.size)


class Checkerboard(NamedTuple):
    """Both halves of a grid of positions; anchors are coded first."""

    anchors: Half
    non_anchors: Half


def checkerboard(height: int, width: int, device: torch.device) -> Checkerboard:
    """Anchors are where row + column is odd.

    Counted out, not searched for with `nonzero`, which would wait for the device.
    """
    if width % 2:  # then the flattened positions take turns
        odd, even = (torch.arange(first, height * width, 2, device=device) for first in (1, 0))
    else:
        rows = torch.arange(height, device=device)[:, None]
        pairs = rows * width + torch.arange(0, width, 2, device=device)
        odd, even = ((pairs + (rows + shift) % 2).flatten() for shift in (1, 0))
    return Checkerboard(Half(odd, (height, width)), Half(even, (height, width)))


class CheckerboardConv2d(nn.Conv2d):
    """A convolution from anchors, with zeros in between, to non-anchors.

    Weights at an even distance from the centre have no effect. What it gives at the anchors is not used.
    """


class SliceContext(nn.Module):
    """Entropy parameters of one slice of c channels, given `before` channels already decoded."""

    def __init__(self, config: CompressionConfig, channels: int, before: int) -> None:
        super().__init__()
        hyper = 2 * config.y_channels
        known = hyper + (2 * channels if before else 0)
        self.local = CheckerboardConv2d(channels, 2 * channels, 5, padding=2)
        self.channel = _channel_net(before, config.context_widths, 2 * channels) if before else None
        self.anchor_params = _parameter_net(known, 2 * channels)
        self.non_anchor_params = _parameter_net(known + 2 * channels, 2 * channels)

    def channel_context(self, y_hat_before: list[Tensor]) -> Tensor | None:
        """What the slices before (B, ., h, w) tell of this one: (B, 2c, h, w); of the first, nothing."""
        return None if self.channel is None else self.channel(torch.cat(y_hat_before, dim=1))

    def anchor(self, hyper: Tensor, channel: Tensor | None) -> EntropyParams:
        """hyper (B, 2M, 1, P) and channel context (B, 2c, 1, P) at the anchors."""
        return _split(self.anchor_params(_join(channel, hyper)))

    def non_anchor(self, hyper: Tensor, channel: Tensor | None, local: Tensor) -> EntropyParams:
        """The same at the non-anchors; `local` (B, 2c, 1, P) is `self.local` of y_hat's anchors, taken there."""
        return _split(self.non_anchor_params(_join(local, channel, hyper)))


def _join(*parts: Tensor | None) -> Tensor:
    return torch.cat([part for part in parts if part is not None], dim=1)


def _split(params: Tensor) -> EntropyParams:
    sigma, mu = params.chunk(2, dim=1)  # scales come first in the paper's weights
    return EntropyParams(mu=mu, sigma=sigma)


def context_model(config: CompressionConfig) -> nn.ModuleList:
    """One SliceContext per slice, first coded first."""
    before = [sum(config.slices[:i]) for i in range(len(config.slices))]
    return nn.ModuleList(SliceContext(config, c, b) for c, b in zip(config.slices, before, strict=True))

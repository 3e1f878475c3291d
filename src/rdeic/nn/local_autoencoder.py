"""E and D of mini: convolutions, no statistics of the picture and no attention, wide where a position is cheap.

picture --fold 2--> 1/2 -> 1/4 -> 1/8 = feature --conv_out--> moments of z0                                    E
z0 --fold 2--> trunk at 1/16 -> 1/8 (z0 once more) -> 1/4 -> 1/2 --unfold 2--> picture --3x3, 3x3--> picture    D

A multiply-add per pixel buys s^2 weights of a kernel at resolution 1/s, so most of D is its trunk. Norms are over the
channels of one position, and only where positions are few: at 1/2 and 1/4 they would double a block's time or more,
and without any a run diverged at a learning rate of 6e-4. So a part of a picture, decoded with enough around it, is the
same as cut from the whole. The last two layers see full resolution, so that no grid of the unfolding stays.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch.nn.functional as F
from torch import Tensor, nn

from rdeic.config import LocalAutoencoderConfig
from rdeic.nn.blocks import conv3x3

SLOPE = 0.1  # of LeakyReLU
NORMED_FROM = 2  # level: 1/8 of the picture's resolution


class ChannelNorm(nn.LayerNorm):
    """Zero mean and unit variance over the channels of each position."""

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> the same."""
        return super().forward(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


class LocalBlock(nn.Module):
    """Two convolutions beside the identity, which it is at first."""

    def __init__(self, channels: int, hidden: int, normed: bool) -> None:
        super().__init__()
        self.norm = ChannelNorm(channels) if normed else nn.Identity()
        self.conv1 = conv3x3(channels, hidden)
        self.conv2 = conv3x3(hidden, channels)
        nn.init.zeros_(self.conv2.weight)
        nn.init.zeros_(self.conv2.bias)  # type: ignore[arg-type]

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> the same."""
        return x + self.conv2(F.leaky_relu(self.conv1(self.norm(x)), SLOPE))


def _blocks(widths: tuple[int, ...], counts: tuple[int, ...], level: int) -> Iterator[nn.Module]:
    width = widths[level]
    return (LocalBlock(width, width, normed=level >= NORMED_FROM) for _ in range(counts[level]))


class Unfold(nn.Module):
    """Twice the resolution: a position's new channels become 2x2 positions."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(in_channels, 4 * out_channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        """(B, in, H, W) -> (B, out, 2H, 2W)."""
        return F.pixel_shuffle(self.conv(x), 2)


class LocalEncoder(nn.Module):
    """E of mini up to the last feature; `conv_out` makes the moments of it."""

    def __init__(self, config: LocalAutoencoderConfig) -> None:
        super().__init__()
        widths, counts = config.encoder_widths, config.encoder_blocks
        layers: list[nn.Module] = [conv3x3(12, widths[0]), *_blocks(widths, counts, 0)]
        for level in range(1, len(widths)):
            layers.append(nn.Conv2d(widths[level - 1], widths[level], 2, stride=2))
            layers += _blocks(widths, counts, level)
        self.layers = nn.Sequential(*layers)
        self.conv_out = conv3x3(widths[-1], 2 * config.latent_channels)

    def forward(self, x: Tensor) -> Tensor:
        """(B, 3, H, W) in [-1, 1] -> the feature before `conv_out`, (B, C, H/s, W/s)."""
        own = next(self.layers.parameters()).dtype
        h: Tensor = self.layers(F.pixel_unshuffle(x.to(own), 2))
        return h if own == x.dtype else h.to(x.dtype)  # autocast chooses by itself

    def feature_layers(self) -> list[nn.Module]:
        """The layers that `forward` runs: all but `conv_out`."""
        return [self.layers]


class LocalDecoder(nn.Module):
    """D of mini: a wide trunk at 1/16 of the resolution, then narrower levels up to full resolution."""

    def __init__(self, config: LocalAutoencoderConfig) -> None:
        super().__init__()
        widths, counts = config.decoder_widths, config.decoder_blocks
        self.trunk = nn.Sequential(
            conv3x3(4 * config.latent_channels, widths[-1]), *_blocks(widths, counts, len(widths) - 1)
        )
        self.unfold = Unfold(widths[-1], widths[-2])
        self.conv_in = conv3x3(config.latent_channels, widths[-2])
        layers = [*_blocks(widths, counts, len(widths) - 2)]
        for level in reversed(range(len(widths) - 2)):
            layers += [Unfold(widths[level + 1], widths[level]), *_blocks(widths, counts, level)]
        self.layers = nn.Sequential(*layers)
        self.conv_out = conv3x3(widths[0], 12)
        self.refine = LocalBlock(3, config.refine_channels, normed=False)

    def forward(self, z: Tensor) -> Tensor:
        """(B, latent_channels, h, w), h and w even -> (B, 3, h*s, w*s), nominally in [-1, 1]."""
        h = self.unfold(self.trunk(F.pixel_unshuffle(z, 2))) + self.conv_in(z)
        return self.refine(F.pixel_shuffle(self.conv_out(self.layers(h)), 2))

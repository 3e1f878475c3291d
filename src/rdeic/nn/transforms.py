"""Analysis and synthesis transforms g_a, g_s and their hyper counterparts h_a, h_s.

    feature f (C, H/8) --g_a--> y (M, H/16) --h_a--> hyper-latent (N, H/64) --codebook, h_s--> hyper (2M, H/16)
    y_hat (M, H/16) --g_s--> guide (N, H/8) --3x3--> z_c (latent_channels, H/8)

Slopes differ between the first and the second activation of the resampling blocks, as in the paper's system.
"""

from __future__ import annotations

from torch import Tensor, nn

from rdeic.config import CompressionConfig
from rdeic.nn.blocks import conv3x3


class ResidualBlock(nn.Module):
    """Two 3x3 convolutions beside a skip, at one resolution."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.conv1 = conv3x3(in_channels, out_channels)
        self.act1 = nn.LeakyReLU(0.01)
        self.conv2 = conv3x3(out_channels, out_channels)
        self.act2 = nn.LeakyReLU(0.01)
        self.skip = nn.Conv2d(in_channels, out_channels, 1) if in_channels != out_channels else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        """(B, in, H, W) -> (B, out, H, W)."""
        return self.act2(self.conv2(self.act1(self.conv1(x)))) + self.skip(x)


class StridedBlock(nn.Module):
    """Half the resolution by a strided convolution, beside a strided skip."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv1 = conv3x3(channels, channels, stride=2)
        self.act1 = nn.LeakyReLU(0.01)
        self.conv2 = conv3x3(channels, channels)
        self.act2 = nn.LeakyReLU(0.1)
        self.skip = nn.Conv2d(channels, channels, 1, stride=2)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, C, ceil(H/2), ceil(W/2))."""
        return self.act2(self.conv2(self.act1(self.conv1(x)))) + self.skip(x)


def subpixel_conv(in_channels: int, out_channels: int) -> nn.Sequential:
    """Twice the resolution by a 1x1 convolution and a pixel shuffle."""
    return nn.Sequential(nn.Conv2d(in_channels, 4 * out_channels, 1), nn.PixelShuffle(2))


class UpsampleBlock(nn.Module):
    """Twice the resolution by pixel shuffle, beside a skip of the same kind."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.up = subpixel_conv(in_channels, out_channels)
        self.act1 = nn.LeakyReLU(0.01)
        self.conv = conv3x3(out_channels, out_channels)
        self.act2 = nn.LeakyReLU(0.1)
        self.skip = subpixel_conv(in_channels, out_channels)

    def forward(self, x: Tensor) -> Tensor:
        """(B, in, H, W) -> (B, out, 2H, 2W)."""
        return self.act2(self.conv(self.act1(self.up(x)))) + self.skip(x)


def _residual_blocks(count: int, channels: int) -> list[nn.Module]:
    return [ResidualBlock(channels, channels) for _ in range(count)]


def analysis(config: CompressionConfig, feature_channels: int) -> nn.Sequential:
    """g_a: (B, feature_channels, h, w) -> y (B, M, h/2, w/2)."""
    n, blocks = config.width, config.blocks
    return nn.Sequential(
        ResidualBlock(feature_channels, n),
        *_residual_blocks(blocks, n),
        StridedBlock(n),
        *_residual_blocks(blocks, n),
        conv3x3(n, config.y_channels),
    )


def hyper_analysis(config: CompressionConfig) -> nn.Sequential:
    """h_a: y (B, M, h, w) -> hyper-latent (B, N, h/4, w/4)."""
    n = config.width
    return nn.Sequential(
        ResidualBlock(config.y_channels, n), ResidualBlock(n, n), StridedBlock(n), StridedBlock(n)
    )


def hyper_synthesis(config: CompressionConfig) -> nn.Sequential:
    """h_s: quantised hyper-latent (B, N, h/4, w/4) -> hyper (B, 2M, h, w)."""
    m = config.y_channels
    return nn.Sequential(
        UpsampleBlock(config.width, m),
        UpsampleBlock(m, m),
        ResidualBlock(m, 3 * m // 2),
        ResidualBlock(3 * m // 2, 2 * m),
    )


def synthesis(config: CompressionConfig) -> nn.Sequential:
    """g_s: y_hat (B, M, h, w) -> guide (B, N, 2h, 2w)."""
    n, blocks = config.width, config.blocks
    return nn.Sequential(
        conv3x3(config.y_channels, n),
        *_residual_blocks(blocks, n),
        UpsampleBlock(n, n),
        *_residual_blocks(blocks + 1, n),
    )

"""KL autoencoder E, D (frozen in the paper), which also hands out its last encoder feature.

picture (3, H, W) in [-1, 1] --E--> feature (C, H/s, W/s) --> moments --> latent z0 (latent_channels, H/s, W/s)
latent z0 --D--> picture
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from rdeic.config import AutoencoderConfig, LocalAutoencoderConfig
from rdeic.nn.blocks import (
    AUTOENCODER_EPS,
    NearestUpsample,
    PaddedDownsample,
    PixelAttention,
    ResBlock,
    SubpixelUpsample,
    conv3x3,
    group_norm,
)
from rdeic.nn.local_autoencoder import LocalDecoder, LocalEncoder
from rdeic.nn.shuffle import pixel_shuffle, pixel_unshuffle
from rdeic.types import Encoded


class Middle(nn.Module):
    """Residual block, attention over positions where configured, residual block, at the coarsest resolution."""

    def __init__(self, channels: int, attention: bool) -> None:
        super().__init__()
        self.block1 = ResBlock(channels, channels, AUTOENCODER_EPS)
        self.attention = PixelAttention(channels) if attention else nn.Identity()
        self.block2 = ResBlock(channels, channels, AUTOENCODER_EPS)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, h, w) -> the same shape."""
        return self.block2(self.attention(self.block1(x)))


class Encoder(nn.Module):
    """E up to the last feature, as in Stable Diffusion's autoencoder; `conv_out` makes the moments of it."""

    def __init__(self, config: AutoencoderConfig) -> None:
        super().__init__()
        widths = config.widths
        self.patch = config.patch
        self.conv_in = conv3x3(3 * config.patch**2, widths[0])
        self.levels = nn.ModuleList()
        previous = widths[0]
        for level, width in enumerate(widths):
            sizes = [previous] + [width] * (config.blocks_per_level - 1)
            blocks = [ResBlock(size, width, AUTOENCODER_EPS) for size in sizes]
            last = level == len(widths) - 1
            self.levels.append(nn.Sequential(*blocks, *([] if last else [PaddedDownsample(width)])))
            previous = width
        self.middle = Middle(widths[-1], config.mid_attention)
        self.norm_out = group_norm(widths[-1], AUTOENCODER_EPS, silu=True)
        self.conv_out = conv3x3(widths[-1], 2 * config.latent_channels)

    def forward(self, x: Tensor) -> Tensor:
        """(B, 3, H, W) in [-1, 1] -> the feature before `conv_out`, (B, C, H/s, W/s)."""
        own = self.conv_in.weight.dtype
        h: Tensor = self.conv_in(pixel_unshuffle(x.to(own), self.patch))
        for level in self.levels:
            h = level(h)
        h = self.norm_out(self.middle(h))
        return h if own == x.dtype else h.to(x.dtype)  # autocast chooses by itself

    def feature_layers(self) -> list[nn.Module]:
        """The layers that `forward` runs: all but `conv_out`."""
        return [self.conv_in, self.levels, self.middle, self.norm_out]


class Decoder(nn.Module):
    """D, as in Stable Diffusion's autoencoder."""

    def __init__(self, config: AutoencoderConfig) -> None:
        super().__init__()
        widths = config.widths
        self.patch = config.patch
        self.conv_in = conv3x3(config.latent_channels, widths[-1])
        self.middle = Middle(widths[-1], config.mid_attention)
        self.levels = nn.ModuleList()  # coarsest first
        previous = widths[-1]
        for level in reversed(range(len(widths))):
            width = widths[level]
            sizes = [previous] + [width] * config.blocks_per_level
            blocks: list[nn.Module] = [ResBlock(size, width, AUTOENCODER_EPS) for size in sizes]
            previous = width
            if level and config.subpixel:
                blocks.append(SubpixelUpsample(width, widths[level - 1]))
                previous = widths[level - 1]
            elif level:
                blocks.append(NearestUpsample(width))
            self.levels.append(nn.Sequential(*blocks))
        self.norm_out = group_norm(widths[0], AUTOENCODER_EPS, silu=True)
        self.conv_out = conv3x3(widths[0], 3 * config.patch**2)

    def forward(self, z: Tensor) -> Tensor:
        """(B, latent_channels, h, w) -> (B, 3, h*s, w*s), nominally in [-1, 1]."""
        h: Tensor = self.middle(self.conv_in(z))
        for level in self.levels:
            h = level(h)
        return pixel_shuffle(self.conv_out(self.norm_out(h)), self.patch)


def _networks(
    config: AutoencoderConfig | LocalAutoencoderConfig,
) -> tuple[Encoder | LocalEncoder, Decoder | LocalDecoder]:
    if isinstance(config, LocalAutoencoderConfig):
        return LocalEncoder(config), LocalDecoder(config)
    return Encoder(config), Decoder(config)


class Autoencoder(nn.Module):
    """E and D with the latent scale folded in, so that callers only ever see z0."""

    def __init__(self, config: AutoencoderConfig | LocalAutoencoderConfig) -> None:
        super().__init__()
        self.scale = config.latent_scale
        encoder, decoder = _networks(config)
        self.encoder = encoder
        self.quant_conv = nn.Conv2d(2 * config.latent_channels, 2 * config.latent_channels, 1)
        self.post_quant_conv = nn.Conv2d(config.latent_channels, config.latent_channels, 1)
        self.decoder = decoder

    def feature(self, x: Tensor) -> Tensor:
        """raw pixels (B, 3, H, W) in [-1, 1] -> scaled encoder feature f (B, C, H/s, W/s), the input of g_a."""
        return self.scale * self.encoder(x)

    def encode(self, x: Tensor) -> Encoded:
        """raw pixels -> feature and posterior; see `posterior` for the moments' ranges."""
        h = self.encoder(x)
        mean, logvar = self.quant_conv(self.encoder.conv_out(h)).chunk(2, dim=1)
        return Encoded(feature=self.scale * h, mean=mean, logvar=logvar.clamp(-30.0, 20.0))

    def sample(self, encoded: Encoded, noise: Tensor) -> Tensor:
        """raw latents: z0 = scale * (mean + std * noise), the training target of the paper's code."""
        return self.scale * (encoded.mean + torch.exp(0.5 * encoded.logvar) * noise)

    def decode(self, z0: Tensor) -> Tensor:
        """raw latents (B, latent_channels, h, w) -> raw pixels (B, 3, h*s, w*s), not clamped, in z0's precision."""
        z = (z0 / self.scale).to(self.post_quant_conv.weight.dtype)
        return self.decoder(self.post_quant_conv(z)).to(z0.dtype)

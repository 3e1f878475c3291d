"""The noise estimator eps_sd: Stable Diffusion's U-Net, steered from outside through `ControlResiduals`.

h = conv_in(z_n) ... inputs ...  each output + encoder residual, kept as a skip
h = middle(h) + middle residual
h = outputs(cat[h + decoder residual, skip]) ... conv_out -> eps
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from rdeic.config import UNetConfig
from rdeic.nn.blocks import (
    UNET_EPS,
    NearestUpsample,
    ResBlock,
    Transformer,
    conv3x3,
    group_norm,
    timestep_embedding,
)
from rdeic.nn.shuffle import pixel_shuffle, pixel_unshuffle
from rdeic.types import ControlResiduals


class UNetBlock(nn.Module):
    """A residual block, then where configured a transformer, then where configured an upsampling."""

    def __init__(
        self, res: ResBlock, transformer: Transformer | None, up: NearestUpsample | None = None
    ) -> None:
        super().__init__()
        self.res = res
        self.transformer = transformer
        self.up = up

    def forward(self, h: Tensor, embedding: Tensor, context: Tensor | None) -> Tensor:
        """h (B, in, H, W), embedding (B, E), context (B, M, C') or None -> (B, out, H, W), or twice its sides."""
        h = self.res(h, embedding)
        if self.transformer is not None:
            h = self.transformer(h, context)
        return h if self.up is None else self.up(h)


class Plain(nn.Module):
    """A convolution with the calling convention of `UNetBlock`: the first layer and the downsamplings."""

    def __init__(self, conv: nn.Conv2d) -> None:
        super().__init__()
        self.conv = conv

    def forward(self, h: Tensor, embedding: Tensor, context: Tensor | None) -> Tensor:
        """h (B, in, H, W) -> (B, out, H, W), or half its sides; embedding and context are not used."""
        return self.conv(h)


class UNetMiddle(nn.Module):
    """Residual block, transformer, residual block, at the coarsest resolution."""

    def __init__(self, channels: int, config: UNetConfig, embedding: int) -> None:
        super().__init__()
        self.res1 = ResBlock(channels, channels, UNET_EPS, embedding)
        self.transformer = Transformer(channels, config.head_channels, config.context_channels)
        self.res2 = ResBlock(channels, channels, UNET_EPS, embedding)

    def forward(self, h: Tensor, embedding: Tensor, context: Tensor | None) -> Tensor:
        """h (B, C, H, W), embedding (B, E), context (B, M, C') or None -> (B, C, H, W)."""
        return self.res2(self.transformer(self.res1(h, embedding), context), embedding)


class UNetEncoder(nn.Module):
    """Time embedding, input blocks and middle: the half that the control network repeats at a smaller width."""

    def __init__(self, config: UNetConfig, in_channels: int, time_channels: int) -> None:
        super().__init__()
        self.patch = config.patch
        self.time_channels = time_channels
        embedding = 4 * time_channels
        self.time_embed = nn.Sequential(
            nn.Linear(time_channels, embedding), nn.SiLU(), nn.Linear(embedding, embedding)
        )
        self.inputs = nn.ModuleList()
        self.input_channels: list[int] = []
        self._add(Plain(conv3x3(in_channels * config.patch**2, config.widths[0])), config.widths[0])
        for level, width in enumerate(config.widths):
            for _ in range(config.blocks_per_level):
                res = ResBlock(self.input_channels[-1], width, UNET_EPS, embedding)
                self._add(UNetBlock(res, transformer_at(config, level, width)), width)
            if level < len(config.widths) - 1:
                self._add(Plain(conv3x3(width, width, stride=2)), width)
        self.middle = UNetMiddle(config.widths[-1], config, embedding)

    def _add(self, block: nn.Module, channels: int) -> None:
        self.inputs.append(block)
        self.input_channels.append(channels)

    def embed(self, t: Tensor) -> Tensor:
        """timestep indices (B,) -> (B, E), computed in the precision of `time_embed`, given in that of the blocks."""
        features = timestep_embedding(t, self.time_channels)
        embedding = self.time_embed(features.to(next(self.time_embed.parameters()).dtype))
        return embedding.to(self.middle.res1.conv1.weight.dtype)

    def forward(
        self, x: Tensor, embedding: Tensor, context: Tensor | None, residuals: Sequence[Tensor] | None = None
    ) -> list[Tensor]:
        """x (B, C, h, w) -> the skips of all input blocks, each after its residual was added."""
        h = pixel_unshuffle(x, self.patch)
        skips = []
        for i, block in enumerate(self.inputs):
            h = block(h, embedding, context)
            if residuals is not None:
                h = h + residuals[i]
            skips.append(h)
        return skips


def transformer_at(config: UNetConfig, level: int, width: int) -> Transformer | None:
    """A fresh transformer for a level, 0 being the finest; None where `config` has no attention there."""
    if level not in config.attention_levels:
        return None
    return Transformer(width, config.head_channels, config.context_channels)


class UNet(nn.Module):
    """eps_sd(z_n, n), or eps_theta(z_n, c, n) when control residuals are given."""

    def __init__(self, config: UNetConfig, latent_channels: int) -> None:
        super().__init__()
        self.patch = config.patch
        self.encoder = UNetEncoder(config, latent_channels, config.widths[0])
        skips = list(self.encoder.input_channels)
        self.outputs = nn.ModuleList()
        self.output_channels: list[int] = []  # channels entering each output block, before its skip
        channels = config.widths[-1]
        for level in reversed(range(len(config.widths))):
            width = config.widths[level]
            for i in range(config.blocks_per_level + 1):
                self.output_channels.append(channels)
                res = ResBlock(channels + skips.pop(), width, UNET_EPS, 4 * config.widths[0])
                up = NearestUpsample(width) if level and i == config.blocks_per_level else None
                self.outputs.append(UNetBlock(res, transformer_at(config, level, width), up))
                channels = width
        self.norm_out = group_norm(channels, UNET_EPS, silu=True)
        self.conv_out = conv3x3(channels, latent_channels * config.patch**2)

    def forward(
        self, x: Tensor, t: Tensor, context: Tensor | None, control: ControlResiduals | None = None
    ) -> Tensor:
        """x (B, C, h, w), t (B,) original timestep indices, context (B, M, C') or None -> eps (B, C, h, w)."""
        encoder = self.encoder
        embedding = encoder.embed(t)
        skips = encoder(x, embedding, context, None if control is None else control.encoder)
        h = encoder.middle(skips[-1], embedding, context)
        if control is not None:
            h = h + control.middle
        for i, block in enumerate(self.outputs):
            if control is not None:
                h = h + control.decoder[i]
            h = block(torch.cat([h, skips.pop()], dim=1), embedding, context)
        return pixel_shuffle(self.conv_out(self.norm_out(h)), self.patch)

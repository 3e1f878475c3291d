"""The control network: encoder and middle of the noise estimator at a fraction of its width, feeding all of it.

One-directional: it sees z_n and the guide, never the noise estimator's features, so it runs first and hands over
its residuals. Its connections start at zero, so an untrained control network changes nothing.
"""

from __future__ import annotations

import dataclasses

import torch
from torch import Tensor, nn

from rdeic.config import ControlConfig, UNetConfig
from rdeic.nn.unet import UNet, UNetEncoder
from rdeic.types import ControlResiduals


def _zero_conv(in_channels: int, out_channels: int) -> nn.Conv2d:
    conv = nn.Conv2d(in_channels, out_channels, 1)
    nn.init.zeros_(conv.weight)
    nn.init.zeros_(conv.bias)  # type: ignore[arg-type]
    return conv


class ControlNetwork(nn.Module):
    """z_n, guide and timestep -> residuals for the noise estimator's encoder, middle and decoder (Section IV-A2)."""

    def __init__(self, config: ControlConfig, unet_config: UNetConfig, unet: UNet, in_channels: int) -> None:
        """`in_channels`: those of z_n and the guide together. `unet` only tells the widths of its features."""
        super().__init__()
        narrow = dataclasses.replace(
            unet_config,
            widths=tuple(int(width * config.ratio) for width in unet_config.widths),
            head_channels=config.head_channels,
        )
        self.encoder = UNetEncoder(narrow, in_channels, unet_config.widths[0])
        own, base = self.encoder.input_channels, unet.encoder.input_channels
        self.to_encoder = nn.ModuleList(_zero_conv(c, b) for c, b in zip(own, base, strict=True))
        self.to_middle = _zero_conv(own[-1], base[-1])
        pairs = zip(reversed(own), unet.output_channels, strict=True)
        self.to_decoder = nn.ModuleList(_zero_conv(c, b) for c, b in pairs)

    def forward(self, x: Tensor, guide: Tensor, t: Tensor, context: Tensor | None) -> ControlResiduals:
        """z_n (B, C, h, w), guide (B, N, h, w), t (B,) -> residuals for every block of the noise estimator."""
        encoder = self.encoder
        embedding = encoder.embed(t)
        features = encoder(torch.cat([x, guide], dim=1), embedding, context)
        middle = encoder.middle(features[-1], embedding, context)
        return ControlResiduals(
            encoder=tuple(conv(f) for conv, f in zip(self.to_encoder, features, strict=True)),
            middle=self.to_middle(middle),
            decoder=tuple(conv(f) for conv, f in zip(self.to_decoder, reversed(features), strict=True)),
        )

"""The compression module: what turns E's feature into y, and y_hat into what the diffusion starts from."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from rdeic.config import ModelConfig
from rdeic.model.bands import HYPER_ROWS
from rdeic.model.entropy_model import EntropyModel
from rdeic.model.latent_codec import quantise_all
from rdeic.model.tiles import at, tiles
from rdeic.nn.blocks import conv3x3
from rdeic.nn.quality import QualityTable
from rdeic.nn.rate import bits
from rdeic.nn.reach import reach
from rdeic.nn.transforms import analysis, hyper_analysis, synthesis
from rdeic.types import Compressed, CompressedFeatures


class Compression(nn.Module):
    """Encoder feature -> y -> y_hat -> guide and z_c. `quality` (B,) in [0, 1] steers the continuous-rate tables."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        c = config.compression
        self.g_a = analysis(c, config.autoencoder.feature_channels)
        self.h_a = hyper_analysis(c)
        self.entropy = EntropyModel(c)
        self.g_s = synthesis(c)
        self.to_latent = conv3x3(c.width, config.autoencoder.latent_channels)
        levels = c.quality_levels
        self.log_gain = QualityTable(c.y_channels, -1.0, 1.0, levels) if levels else None
        self.guide_quality = QualityTable(c.y_channels, 0.0, 0.0, levels) if levels else None

    def analyse(self, feature: Tensor) -> Tensor:
        """f (B, C, h, w) -> y (B, M, h/2, w/2) in the precision of f, whatever that of g_a is."""
        own = next(self.g_a.parameters()).dtype
        if own == torch.float32:  # autocast chooses by itself
            return self.g_a(feature)
        return self.g_a(feature.to(own)).to(feature.dtype)

    def gain(self, quality: Tensor) -> Tensor:
        """(B, M, 1, 1), geometrically interpolated between qualities: a larger gain is a finer quantiser."""
        if self.log_gain is None:
            return quality.new_ones(1, sum(self.entropy.slices), 1, 1)
        return self.log_gain(quality).exp()

    def scale_y(self, y: Tensor, quality: Tensor) -> Tensor:
        """y (B, M, h, w) in units of the quantiser's steps at each quality."""
        return y * self.gain(quality)

    def indices_in_bands(self, y: Tensor, gain: Tensor, rows: int) -> Tensor:
        """y (1, M, h, w) before its `gain` -> hyper indices (1, h/4, w/4), `rows` rows of y at a time."""
        halo = HYPER_ROWS * -(-reach(self.h_a, y[:, :, :16, :16]) // HYPER_ROWS)
        found = []
        for band in tiles(y.shape[2], rows, halo):
            hyper = self.h_a(y[:, :, band.outer] * gain)[:, :, at(band.within, HYPER_ROWS)]
            found.append(self.entropy.codebook.nearest(hyper))
        return torch.cat(found, dim=1)

    def features(self, y_hat: Tensor, quality: Tensor) -> CompressedFeatures:
        """Scaled y_hat (B, M, h, w) -> guide and z_c at twice the resolution, in the precision of g_s."""
        if self.log_gain is not None and self.guide_quality is not None:
            y_hat = y_hat * (-self.log_gain(quality)).exp() + self.guide_quality(quality)
        guide = self.g_s(y_hat.to(self.to_latent.weight.dtype))
        return CompressedFeatures(z_c=self.to_latent(guide), guide=guide)

    def forward(self, feature: Tensor, quality: Tensor, noise: Tensor | None) -> Compressed:
        """f (B, C, h, w) -> everything the losses need.

        The rate is that of y + `noise` (uniform in +-1/2, shaped like y), or of y_hat when noise is None; the
        context always sees the rounded values.
        """
        y = self.scale_y(self.analyse(feature), quality).float()
        hyper = self.h_a(y)
        match = self.entropy.codebook(hyper)
        y_hat, params = quantise_all(self.entropy, y, self.entropy.hyper(match.z_q, quality))
        rate = bits(y_hat if noise is None else y + noise, params)
        return Compressed(self.features(y_hat, quality), rate, match.loss, hyper)

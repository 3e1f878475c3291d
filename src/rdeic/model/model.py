"""The complete system: picture -> latent -> compressed features -> bits, and the relay diffusion back.

x --E--> f --g_a--> y --[bits]--> y_hat --g_s--> guide, z_c
z_N = sqrt(ab_N) z_c + sqrt(1 - ab_N) eps --L steps of eps_theta--> z0_hat --D--> x_hat
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from rdeic.diffusion.relay import diffuse, guide_detail
from rdeic.diffusion.sampler import sample
from rdeic.diffusion.schedule import RELAY_DDPM, Sampler, spaced_schedule, spaced_steps
from rdeic.model.bands import HYPER_ROWS
from rdeic.model.latent_codec import Symbols, decode_y, encode_in_bands, encode_symbols, symbols_of
from rdeic.model.networks import Networks
from rdeic.model.tiles import band_rows
from rdeic.nn.graphs import Runner
from rdeic.nn.transfer import to_host
from rdeic.types import CodedLatent, CompressedFeatures, Encoding


class Rdeic(Networks):
    """One model. The public methods work on batches; those that make or read bits, on one picture at a time."""

    # -- picture -> bits

    def analyse(self, x: Tensor) -> Tensor:
        """(1, 3, H, W) in [-1, 1], sides multiples of the hyper stride -> y (1, M, H/16, W/16), before any gain."""
        run = self._runner("analyse", x.shape, x.dtype, pixels=self._pixels(x, 1))
        return run(lambda x: self.compression.analyse(self.autoencoder.feature(x)), x)

    def encode(self, y: Tensor, quality: int) -> CodedLatent:
        """y from `analyse`, quality byte 0..255 -> hyper indices and y stream."""
        return self.encode_with_y_hat(y, quality).coded

    def encode_with_y_hat(self, y: Tensor, quality: int) -> Encoding:
        """`encode`, together with the y_hat that the decoder must find, to compare."""
        exact, compression = self.exact, self.compression
        if rows := band_rows(*y.shape[2:]):
            gain = compression.gain(self.level(quality))
            indices = compression.indices_in_bands(y, gain, rows)
            hyper = exact.hyper_in_bands(indices, self._exact_level(quality), rows)
            encoded = encode_in_bands(exact, y.to(hyper.device), gain.to(hyper.device), hyper, rows)
            return Encoding(CodedLatent(to_host(indices[0]), encoded.stream), encoded.y_hat)

        def compute(y: Tensor, level: Tensor, exact_level: Tensor) -> tuple[Tensor, ...]:
            scaled = compression.scale_y(y, level)
            indices = compression.entropy.codebook.nearest(compression.h_a(scaled))
            hyper = exact.hyper(exact.codebook.lookup(indices.to(exact_level.device)), exact_level)
            return (indices, *symbols_of(exact, scaled.to(hyper.device).double(), hyper))

        run = self._runner("symbols", y.shape, y.dtype, pixels=self._pixels(y, self.config.y_stride))
        indices, *symbols = run(compute, y, self.level(quality), self._exact_level(quality))
        found = Symbols(*symbols)
        return Encoding(CodedLatent(to_host(indices[0]), encode_symbols(exact, found)), found.y_hat)

    # -- bits -> picture

    def decode(self, coded: CodedLatent, quality: int) -> CompressedFeatures:
        """Inverse of `encode` -> guide and z_c. Raises FileFormatError for a stream that does not fit."""
        level = self.level(quality)
        y_hat = self.decode_y_hat(coded, quality).to(level.dtype).to(level.device)
        run = self._runner(
            "features", y_hat.shape, y_hat.dtype, pixels=self._pixels(y_hat, self.config.y_stride)
        )
        z_c, guide = run(self.compression.features, y_hat, level)
        return CompressedFeatures(z_c.to(level.dtype), guide)

    def decode_y_hat(self, coded: CodedLatent, quality: int) -> Tensor:
        """The exact part of `decode`: (1, M, H/16, W/16) float64, bit for bit the encoder's."""
        indices = torch.from_numpy(coded.hyper_indices)[None]
        if rows := band_rows(*(HYPER_ROWS * side for side in indices.shape[1:])):
            hyper = self.exact.hyper_in_bands(indices, self._exact_level(quality), rows)
            return decode_y(self.exact, coded.y_stream, hyper, rows=rows)
        pixels = self._pixels(indices[None], self.config.hyper_stride)

        def runners(number: int, half: str) -> Runner:
            return self._runner("pass", number, half, indices.shape, pixels=pixels)

        return decode_y(self.exact, coded.y_stream, self.exact_hyper(indices, quality), runners)

    def exact_hyper(self, indices: Tensor, quality: int) -> Tensor:
        """Hyper indices (1, H/64, W/64), quality byte 0..255 -> exact hyper feature (1, 2M, H/16, W/16), float64."""
        exact, level = self.exact, self._exact_level(quality)

        def compute(indices: Tensor, level: Tensor) -> Tensor:
            return exact.hyper(exact.codebook.lookup(indices), level)

        pixels = self._pixels(indices[None], self.config.hyper_stride)
        return self._runner("hyper", indices.shape, pixels=pixels)(compute, indices.to(level.device), level)

    def restore(
        self,
        features: CompressedFeatures,
        noises: Iterator[Tensor],
        steps: int,
        detail: float,
        sampler: Sampler | None = RELAY_DDPM,
    ) -> Tensor:
        """`denoise`, then D -> (B, 3, H, W), nominally in [-1, 1]."""
        z0_hat = self.denoise(features, noises, steps, detail, sampler)
        run = self._runner(
            "decode", z0_hat.shape, z0_hat.dtype, pixels=self._pixels(z0_hat, self.config.autoencoder.stride)
        )
        return run(self.autoencoder.decode, z0_hat)

    def denoise(
        self,
        features: CompressedFeatures,
        noises: Iterator[Tensor],
        steps: int,
        detail: float,
        sampler: Sampler | None = RELAY_DDPM,
    ) -> Tensor:
        """Relay diffusion in `steps` steps -> z0_hat, shaped like z_c.

        `noises` yields standard normal tensors shaped like z_c. `detail` is lambda_s of Eq. 15. Without a sampler z_c
        itself stands for z0_hat. Raises ConfigError unless `steps` is 1 to N, or 1 to T for a sampler that starts from
        pure noise.
        """
        if sampler is None:
            return features.z_c
        diffusion = self.config.diffusion
        start = diffusion.relay_start if sampler.relay else diffusion.train_steps
        schedule = spaced_schedule(self.alpha_bar, spaced_steps(start, steps))
        eps = next(noises)
        z_n = diffuse(features.z_c, eps, schedule[0].alpha_bar) if sampler.relay else eps

        run = self._runner(
            "step", detail, z_n.shape, z_n.dtype, pixels=self._pixels(z_n, self.config.autoencoder.stride)
        )

        def estimate(z: Tensor, t: Tensor, guide: Tensor) -> Tensor:
            return self.predict_noise(z, t, guide, detail)

        def denoise(z: Tensor, t: int) -> Tensor:
            return run(estimate, z, torch.full(z.shape[:1], t, device=z.device), features.guide)

        return sample(denoise, z_n, schedule, sampler.rule, noises)

    def predict_noise(self, z_n: Tensor, t: Tensor, guide: Tensor, detail: float = 1.0) -> Tensor:
        """eps_hat of Eq. 15, in z_n's precision: z_n (B, C, h, w), timestep indices t (B,).

        The second pass runs only where it counts.
        """
        z, context = z_n.to(self.precision), self._context(z_n.shape[0])
        if detail == 0.0:
            return self.unet(z, t, context).to(z_n.dtype)
        control = self.control(z, guide.to(self.precision), t, context)
        eps_theta: Tensor = self.unet(z, t, context, control).to(z_n.dtype)
        if detail == 1.0:
            return eps_theta
        return guide_detail(self.unet(z, t, context).to(z_n.dtype), eps_theta, detail)

    def _pixels(self, like: Tensor, stride: int) -> int:
        """Pixels of a picture that has the positions of `like` (B, C, h, w), each `stride` pixels a side."""
        return like[0, 0].numel() * stride**2

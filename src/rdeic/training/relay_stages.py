"""Stages that train compression module and control network: independent (Eq. 13) and fixed-step (Eq. 14)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from rdeic.diffusion.relay import diffuse, predict_z0, relay_noise
from rdeic.diffusion.sampler import sample
from rdeic.diffusion.schedule import ddpm_mix, spaced_schedule, spaced_steps
from rdeic.errors import TrainingError
from rdeic.model import Rdeic
from rdeic.training.config import TrainConfig
from rdeic.training.contract import StageLoss
from rdeic.training.metrics import MS_SSIM_MIN_SIDE, ms_ssim, ms_ssim_each, psnr
from rdeic.training.stage_base import PerceptualStage, normal
from rdeic.types import Compressed, Encoded


class Distortion(NamedTuple):
    """One term that lambda_r weighs."""

    name: str
    weight: float
    value: Tensor  # (B,)


class _RateDistortion(PerceptualStage):
    """What the last two stages share: the compression module, a random quality per picture, lambda_r from it."""

    def __init__(self, model: Rdeic, config: TrainConfig) -> None:
        super().__init__(model, config)
        self.rounded_rate = config.rounded_rate

    def trainable(self) -> list[nn.Parameter]:
        return [*self.model.compression.parameters(), *self.model.control.parameters()]

    def _quality(self, x: Tensor, generator: torch.Generator) -> Tensor:
        """(B,) in [0, 1], both ends included more often than their share."""
        u = torch.rand(x.shape[0], generator=generator, device=x.device)
        return (u * 1.2 - 0.1).clamp(0.0, 1.0)

    def _lambda(self, quality: Tensor) -> Tensor:
        low, high = self.weights.lambda_min, self.weights.lambda_max
        return low * (high / low) ** quality

    def _compress(self, encoded: Encoded, quality: Tensor, generator: torch.Generator) -> Compressed:
        if self.rounded_rate:
            return self.model.compression(encoded.feature, quality, None)
        shape = encoded.feature.shape
        size = (shape[0], self.model.config.compression.y_channels, shape[2] // 2, shape[3] // 2)
        noise = torch.rand(size, generator=generator, device=encoded.feature.device) - 0.5
        return self.model.compression(encoded.feature, quality, noise)

    def objective(
        self, x: Tensor, quality: Tensor, compressed: Compressed, distortions: Sequence[Distortion]
    ) -> StageLoss:
        """bpp + L_cb + lambda_r * (weighted distortions); Eqs. 13 and 14."""
        bpp = compressed.bits / (x.shape[2] * x.shape[3])
        distortion = torch.stack([d.weight * d.value for d in distortions]).sum(0)
        total = (bpp + self._lambda(quality) * distortion).mean() + compressed.codebook_loss
        terms = [("bpp", bpp.mean().detach()), ("codebook", compressed.codebook_loss.detach())]
        return StageLoss(total, (*terms, *((d.name, d.value.mean().detach()) for d in distortions)))

    def validation(self, x: Tensor) -> tuple[tuple[str, float], ...]:
        generator = torch.Generator(x.device).manual_seed(0)
        encoded, z0 = self.encode(x, generator)
        found = []
        for level in (0.0, 0.5, 1.0):
            quality = torch.full(x.shape[:1], level, device=x.device)
            compressed = self.model.compression(encoded.feature, quality, None)
            noises = self._noises(z0, generator)
            x_hat = self.model.restore(
                compressed.features, noises, self.model.config.diffusion.default_steps, 1.0
            )
            bpp = float(compressed.bits.mean()) / (x.shape[2] * x.shape[3])
            found += [
                (f"bpp_{level}", bpp),
                (f"psnr_{level}", psnr(x_hat, x)),
                (f"ms_ssim_{level}", ms_ssim(x_hat, x)),
            ]
            found += [(f"z_c_{level}", float(F.mse_loss(compressed.features.z_c, z0)))]
            found += [(f"perceptual_{level}", float(self.perceptual(x_hat, x).mean()))]
        return tuple(found)

    def _noises(self, like: Tensor, generator: torch.Generator) -> Iterator[Tensor]:
        while True:
            yield normal(like, generator)


def _mse(a: Tensor, b: Tensor) -> Tensor:
    """(B,) mean squared error per picture."""
    return (a.float() - b).pow(2).mean(dim=(1, 2, 3))


class IndependentStage(_RateDistortion):
    """Eq. 13."""

    def loss(self, x: Tensor, generator: torch.Generator) -> StageLoss:
        encoded, z0 = self.encode(x, generator)
        quality = self._quality(x, generator)
        compressed = self._compress(encoded, quality, generator)
        z_c = compressed.features.z_c.float()
        start = self.model.config.diffusion.relay_start
        n = torch.randint(0, start, z0.shape[:1], generator=generator, device=z0.device)
        alpha_bar = self.alpha_bar[n].view(-1, 1, 1, 1)
        eps = relay_noise(normal(z0, generator), z_c, z0, float(self.alpha_bar[start - 1]))
        z_n = diffuse(z0, eps, alpha_bar)  # Eq. 10
        z0_hat = predict_z0(
            z_n, self.model.predict_noise(z_n, n, compressed.features.guide).float(), alpha_bar
        )
        weight = self.weights.latent
        return self.objective(
            x,
            quality,
            compressed,
            [Distortion("z_c", weight, _mse(z_c, z0)), Distortion("z0", weight, _mse(z0_hat, z0))],
        )


class FixedStepStage(_RateDistortion):
    """Eq. 14; beyond the paper, D may learn along, which `train_decoder` switches on."""

    def __init__(self, model: Rdeic, config: TrainConfig) -> None:
        super().__init__(model, config)
        if config.loss.ms_ssim and config.crop <= MS_SSIM_MIN_SIDE:
            raise TrainingError(
                f"loss.ms_ssim needs crops of more than {MS_SSIM_MIN_SIDE} pixels; raise `crop`"
            )
        self.train_decoder = config.train_decoder
        diffusion = model.config.diffusion
        self.steps = spaced_schedule(
            model.alpha_bar, spaced_steps(diffusion.relay_start, diffusion.default_steps)
        )

    def trainable(self) -> list[nn.Parameter]:
        autoencoder = self.model.autoencoder
        decoder = [*autoencoder.post_quant_conv.parameters(), *autoencoder.decoder.parameters()]
        return super().trainable() + (decoder if self.train_decoder else [])

    def loss(self, x: Tensor, generator: torch.Generator) -> StageLoss:
        encoded, z0 = self.encode(x, generator)
        quality = self._quality(x, generator)
        compressed = self._compress(encoded, quality, generator)
        z_c, guide = compressed.features.z_c.float(), compressed.features.guide

        def denoise(z: Tensor, t: int) -> Tensor:
            return self.model.predict_noise(z, torch.full(z.shape[:1], t, device=z.device), guide).float()

        z_n = diffuse(z_c, normal(z_c, generator), self.steps[0].alpha_bar)
        z0_hat = sample(denoise, z_n, self.steps, ddpm_mix, self._noises(z_c, generator))
        x_hat = self.model.autoencoder.decode(z0_hat).float()
        w = self.weights
        return self.objective(
            x,
            quality,
            compressed,
            [
                Distortion("z_c", w.latent, _mse(z_c, z0)),
                Distortion("z0", w.latent, _mse(z0_hat, z0)),
                Distortion("mse", w.mse, _mse(x_hat, x)),
                Distortion("perceptual", w.perceptual, self.perceptual(x_hat, x)),
                Distortion("ms_ssim", w.ms_ssim, self._dissimilarity(x_hat, x)),
            ],
        )

    def _dissimilarity(self, x_hat: Tensor, x: Tensor) -> Tensor:
        """(B,) 1 - MS-SSIM, or zeros where it has no weight."""
        if not self.weights.ms_ssim:
            return x.new_zeros(x.shape[0])
        return 1.0 - ms_ssim_each(x_hat + 1.0, x + 1.0, 2.0)  # on 0..2: its constants take black for zero

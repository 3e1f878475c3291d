"""Stages that train compression module and control network: independent (Eq. 13) and fixed-step (Eq. 14).

Their variants for the ablations of Section V are chosen by `MethodConfig`:

    relay        Eqs. 10 to 12: n < N, the noise estimator learns eps~ = lambda e + eps
    pure-noise   Eq. 1: n < T, it learns eps; the control network's guide is all it knows of the picture
    none         no noise estimator: the compression module alone, on R + L_cb + lambda_r |z_c - z0|^2
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from rdeic.diffusion.relay import diffuse, predict_z0, relay_noise
from rdeic.errors import ConfigError
from rdeic.model.model import Rdeic
from rdeic.training.config import TrainConfig
from rdeic.training.contract import Paced, StageLoss
from rdeic.training.latent_metric import LatentMetric
from rdeic.training.metrics import gradients, ms_ssim, mse_each, psnr
from rdeic.training.noise import Noise
from rdeic.training.rates import RateControl
from rdeic.training.stage_base import PerceptualStage
from rdeic.types import Compressed, CompressedFeatures, Encoded

ANCHORED = 6  # one crop in so many is restored from z0 itself


class Distortion(NamedTuple):
    """One term that lambda_r weighs."""

    name: str
    weight: float
    value: Tensor  # (B,)


class _RateDistortion(PerceptualStage):
    """What the last two stages share: the compression module, a random quality per picture, lambda_r from it."""

    def __init__(self, model: Rdeic, config: TrainConfig) -> None:
        super().__init__(model, config)
        if min(config.loss.lambda_min, config.loss.lambda_max) <= 0:
            raise ConfigError("loss.lambda_min and loss.lambda_max must be above 0 in this stage")
        self.rounded_rate, self.method = config.rounded_rate, config.method
        self.gain_pace = config.gain_lr_factor
        device = self.alpha_bar.device
        self.lambda_r = RateControl(config.loss, device)
        self.metric = LatentMetric(config.loss.z_c_shown, model.config, device)
        self._kept = nn.ModuleDict({"lambda_r": self.lambda_r, "metric": self.metric})

    def trainable(self) -> list[nn.Parameter]:
        control = [] if self.method.framework == "none" else self.model.control.parameters()
        return [*self.model.compression.parameters(), *control]

    def paced(self) -> list[Paced]:
        """The gains: they scale y, and so set the rate."""
        table = self.model.compression.log_gain
        return [] if table is None else [Paced(list(table.parameters()), self.gain_pace, decays=False)]

    def state(self) -> dict[str, Tensor]:
        """The state of the critics, of lambda_r and of z_c's metric."""
        return super().state() | {name: value.clone() for name, value in self._kept.state_dict().items()}

    def load_state(self, state: dict[str, Tensor]) -> None:
        """Inverse of `state`."""
        own = {name: value for name, value in state.items() if name.partition(".")[0] in self._kept}
        super().load_state({name: value for name, value in state.items() if name not in own})
        self._kept.load_state_dict(own)

    def after_step(self, average: Callable[[Tensor], Tensor]) -> None:
        """Lets lambda_r follow the rates of the batches; after the first step fits z_c's metric."""
        super().after_step(average)
        self.lambda_r.settle(average)
        self.metric.settle(average)

    def batch_loss(self, features: Tensor) -> StageLoss:
        """The part of L_cb that compares the hyper-latents of different pictures; revives the codebook."""
        loss = self.model.compression.entropy.codebook.settle(features)
        return StageLoss(loss, (("codebook", loss.detach()),))

    def _quality(self, x: Tensor, noise: Noise) -> Tensor:
        """(B,) in [0, 1], both ends included more often than their share."""
        u = noise.uniform(x.shape[0])
        return (u * 1.2 - 0.1).clamp(0.0, 1.0)

    def _compress(self, encoded: Encoded, quality: Tensor, noise: Noise) -> Compressed:
        if self.rounded_rate:
            return self.model.compression(encoded.feature, quality, None)
        shape = encoded.feature.shape
        size = (shape[0], self.model.config.compression.y_channels, shape[2] // 2, shape[3] // 2)
        return self.model.compression(encoded.feature, quality, noise.uniform(*size) - 0.5)

    def _z_c_error(self, z_c: Tensor, z0: Tensor) -> Distortion:
        self.metric.note(z0, self.model.autoencoder.decode)
        return Distortion("z_c", self.weights.z_c, self.metric(z_c, z0))

    def objective(
        self, quality: Tensor, compressed: Compressed, distortions: Sequence[Distortion]
    ) -> StageLoss:
        """bpp + L_cb + lambda_r * (weighted distortions); Eqs. 13 and 14.

        Where lambda_r spans two orders of magnitude in one batch, the high rates would do all the teaching: `balance`
        gives the low ones their share.
        """
        positions = compressed.features.z_c.shape[2] * compressed.features.z_c.shape[3]
        bpp = compressed.bits / (positions * self.model.config.autoencoder.stride**2)
        distortion = torch.stack([d.weight * d.value for d in distortions]).sum(0)
        lambda_r = self.lambda_r(quality)
        self.lambda_r.note(quality, bpp)
        loss = (bpp + lambda_r * distortion) / lambda_r**self.weights.balance
        total = loss.mean() + compressed.codebook_loss
        terms = [("bpp", bpp.mean().detach()), ("codebook", compressed.codebook_loss.detach())]
        terms += [(d.name, d.value.mean().detach()) for d in distortions]
        return StageLoss(total, tuple(terms), compressed.hyper.detach())

    def validation(self, x: Tensor, noise: Noise) -> tuple[tuple[str, float], ...]:
        encoded, z0 = self.encode(x, noise)
        levels = (0.0, 0.5, 1.0) if self.model.config.compression.quality_levels else (0.0,)
        return tuple(pair for level in levels for pair in self._judged(x, encoded, z0, level, noise))

    def _judged(
        self, x: Tensor, encoded: Encoded, z0: Tensor, level: float, noise: Noise
    ) -> Iterator[tuple[str, float]]:
        quality = torch.full(x.shape[:1], level, device=x.device)
        compressed = self.model.compression(encoded.feature, quality, None)
        x_hat = self.model.restore(
            compressed.features, self._noises(z0, noise), self.method.steps, 1.0, self.method.sampler
        )
        yield f"bpp_{level}", float(compressed.bits.mean()) / (x.shape[2] * x.shape[3])
        yield f"psnr_{level}", psnr(x_hat, x)
        yield f"ms_ssim_{level}", ms_ssim(x_hat, x)
        yield f"z_c_{level}", float(F.mse_loss(compressed.features.z_c, z0))
        yield f"perceptual_{level}", float(self.perceptual(x_hat, x).mean())
        yield f"gradients_{level}", gradients(x_hat, x)

    def _noises(self, like: Tensor, noise: Noise) -> Iterator[Tensor]:
        while True:
            yield noise.normal(like)


class IndependentStage(_RateDistortion):
    """Independent training (Eq. 13): every picture at one random step n; for relay, pure noise or no diffusion."""

    def loss(self, x: Tensor, noise: Noise) -> StageLoss:
        """Eq. 13 on x (B, 3, H, W) in [-1, 1], or cached features: rate, z_c, and the error at one random step n."""
        encoded, z0 = self.encode(x, noise)
        quality = self._quality(x, noise)
        compressed = self._compress(encoded, quality, noise)
        features = compressed.features._replace(z_c=compressed.features.z_c.float())
        weight = self.weights.latent
        distortions = [self._z_c_error(features.z_c, z0)]
        if self.method.framework == "relay":
            distortions.append(Distortion("z0", weight, self._relay_error(z0, features, noise)))
        elif self.method.framework == "pure-noise":
            distortions.append(Distortion("eps", weight, self._noise_error(z0, features, noise)))
        return self.objective(quality, compressed, distortions)

    def _relay_error(self, z0: Tensor, features: CompressedFeatures, noise: Noise) -> Tensor:
        """(B,) |z0_hat - z0|^2 at a random n < N; Eq. 11."""
        start = self.model.config.diffusion.relay_start
        n = noise.integers(start, z0.shape[0])
        alpha_bar = self.alpha_bar[n].view(-1, 1, 1, 1)
        level = float(np.float32(self.model.alpha_bar[start - 1]))  # not read back from the device
        eps = relay_noise(noise.normal(z0), features.z_c, z0, level)
        z_n = diffuse(z0, eps, alpha_bar)  # Eq. 10
        z0_hat = predict_z0(z_n, self.model.predict_noise(z_n, n, features.guide).float(), alpha_bar)
        return mse_each(z0_hat, z0)

    def _noise_error(self, z0: Tensor, features: CompressedFeatures, noise: Noise) -> Tensor:
        """(B,) |eps_hat - eps|^2 / sqrt(alpha_bar) at a random t < T.

        On eps alone, errors near T count for nothing, though sampling begins there; on z0_hat, where they are divided
        by alpha_bar, they would outweigh all others.
        """
        t = noise.integers(len(self.alpha_bar), z0.shape[0])
        alpha_bar = self.alpha_bar[t].view(-1, 1, 1, 1)
        eps = noise.normal(z0)
        z_t = diffuse(z0, eps, alpha_bar)  # Eq. 1
        return mse_each(self.model.predict_noise(z_t, t, features.guide), eps) / alpha_bar.flatten().sqrt()


class FixedStepStage(_RateDistortion):
    """Fixed-step fine-tuning (Eq. 14), through all L steps; beyond the paper, with `train_decoder` D learns along."""

    def __init__(self, model: Rdeic, config: TrainConfig) -> None:
        super().__init__(model, config)
        if config.method.framework != "relay":
            raise ConfigError(
                'the fixed-step stage goes through the relay; set method.framework = "relay", or train independent'
            )
        if config.loss.anchor and not config.train_decoder:
            raise ConfigError("loss.anchor holds a D that learns; set train_decoder = true, or anchor = 0.0")
        autoencoder = model.autoencoder
        decoder = [*autoencoder.post_quant_conv.parameters(), *autoencoder.decoder.parameters()]
        self.decoder = Paced(decoder if config.train_decoder else [], config.decoder_lr_factor)

    def trainable(self) -> list[nn.Parameter]:
        """Compression module and control network; D as well where `train_decoder` is set."""
        return super().trainable() + self.decoder.parameters

    def paced(self) -> list[Paced]:
        """The gains of y, and D."""
        return [*super().paced(), self.decoder]

    def loss(self, x: Tensor, noise: Noise) -> StageLoss:
        """Eq. 14 on x (B, 3, H, W) in [-1, 1]: rate, z_c, and what all L steps and D make of it."""
        encoded, z0 = self.encode(x, noise)
        quality = self._quality(x, noise)
        compressed = self._compress(encoded, quality, noise)
        features = compressed.features._replace(z_c=compressed.features.z_c.float())
        noises = self._noises(z0, noise)
        z0_hat = self.model.denoise(features, noises, self.method.steps, 1.0)  # as the decoder will
        x_hat = self.model.autoencoder.decode(z0_hat).float()
        w, judged = self.weights, self.judge(x_hat, x, features.z_c)
        found = self.objective(
            quality,
            compressed,
            [
                self._z_c_error(features.z_c, z0),
                Distortion("z0", w.latent, mse_each(z0_hat, z0)),
                Distortion("mse", w.mse, mse_each(x_hat, x)),
                Distortion("perceptual", w.perceptual, judged.distance),
                Distortion("ms_ssim", w.ms_ssim, self.dissimilarity(x_hat, x)),
                Distortion("realism", -1.0, judged.realism),
            ],
        )
        if w.anchor:
            found = self._anchored(found, x, z0)
        if judged.critic_loss is None:
            return found
        terms = (*found.terms, ("critic", judged.critic_loss.detach()))
        return found._replace(terms=terms, critic=judged.critic_loss)

    def _anchored(self, found: StageLoss, x: Tensor, z0: Tensor) -> StageLoss:
        """Adds what D makes of z0 itself, lest it forget to be E's inverse: a part of the batch is enough."""
        few = slice(-(-len(x) // ANCHORED))
        error = F.mse_loss(self.model.autoencoder.decode(z0[few]).float(), x[few])
        return found._replace(
            total=found.total + self.weights.anchor * error,
            terms=(*found.terms, ("anchor", error.detach())),
        )

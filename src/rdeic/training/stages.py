"""The four stages of training, each an objective on one model.

    autoencoder   E and D: pixels, perceptual distance, a little KL; at the end latents are whitened
    prior         eps_sd: the vanilla noise estimation of Eq. 1, unconditional; frozen from then on
    independent   compression module and control network, every step on its own (Eq. 13)
    fixed-step    the same through the whole L-step reconstruction (Eq. 14)

"L2 norms" of the paper are means over elements here, as in its published system, so lambda_r compares.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from rdeic.diffusion.relay import diffuse, predict_z0, relay_noise
from rdeic.diffusion.sampler import sample
from rdeic.diffusion.schedule import ddpm_mix, spaced_schedule, spaced_steps
from rdeic.errors import ConfigError, TrainingError
from rdeic.model import Rdeic
from rdeic.training import perceptual
from rdeic.training.config import TrainConfig
from rdeic.training.contract import Stage, StageLoss
from rdeic.training.metrics import ms_ssim, psnr
from rdeic.types import Compressed, Encoded

WHITENING_BATCHES = 64  # the last training batches, whose latents set the mean and deviation


def build_stage(name: str, model: Rdeic, config: TrainConfig) -> Stage:
    """The stage of that name. Raises ConfigError for an unknown one."""
    kinds: dict[str, Callable[[Rdeic, TrainConfig], Stage]] = {
        "autoencoder": AutoencoderStage,
        "prior": PriorStage,
        "independent": IndependentStage,
        "fixed-step": FixedStepStage,
    }
    if name not in kinds:
        raise ConfigError(f"no training stage {name!r}: choose from {', '.join(kinds)}")
    return kinds[name](model, config)


def _normal(like: Tensor, generator: torch.Generator) -> Tensor:
    return torch.randn(like.shape, generator=generator, device=like.device)


class _Base:
    """What all stages share: the model, and no work after a step or at the end."""

    def __init__(self, model: Rdeic, config: TrainConfig) -> None:
        self.model, self.weights = model, config.loss
        self.alpha_bar = torch.from_numpy(model.alpha_bar).float().to(next(model.parameters()).device)

    def after_step(self) -> None:
        """Nothing to do."""

    def finish(self) -> None:
        """Nothing to do."""

    def _encode(self, x: Tensor, generator: torch.Generator) -> tuple[Encoded, Tensor]:
        """The frozen E: feature and a posterior sample z0."""
        with torch.no_grad():
            encoded = self.model.autoencoder.encode(x)
            mean = encoded.mean.float()
            z0 = self.model.autoencoder.sample(
                Encoded(encoded.feature, mean, encoded.logvar.float()), _normal(mean, generator)
            )
        return encoded, z0


class _PerceptualBase(_Base):
    def __init__(self, model: Rdeic, config: TrainConfig) -> None:
        super().__init__(model, config)
        if not config.perceptual and config.loss.perceptual:
            raise TrainingError(
                "loss.perceptual is above 0 but `perceptual` names no distance; set it, or use 0"
            )
        self.distance: nn.Module | None = None
        if config.loss.perceptual:
            self.distance = perceptual.load(config.perceptual).to(self.alpha_bar.device)

    def _perceptual(self, x_hat: Tensor, x: Tensor) -> Tensor:
        """(B,) distance, or zeros without a perceptual term."""
        if self.distance is None:
            return x.new_zeros(x.shape[0])
        return self.distance(x_hat, x)


class AutoencoderStage(_PerceptualBase):
    def __init__(self, model: Rdeic, config: TrainConfig) -> None:
        super().__init__(model, config)
        self.recent: deque[Tensor] = deque(maxlen=WHITENING_BATCHES)

    def trainable(self) -> list[nn.Parameter]:
        return list(self.model.autoencoder.parameters())

    def loss(self, x: Tensor, generator: torch.Generator) -> StageLoss:
        self.recent.append(x)
        encoded = self.model.autoencoder.encode(x)
        mean, logvar = encoded.mean.float(), encoded.logvar.float()
        z0 = self.model.autoencoder.sample(Encoded(encoded.feature, mean, logvar), _normal(mean, generator))
        x_hat = self.model.autoencoder.decode(z0).float()
        mse = F.mse_loss(x_hat, x)
        distance = self._perceptual(x_hat, x).mean()
        kl = 0.5 * (mean.pow(2) + logvar.exp() - 1.0 - logvar).mean()
        total = self.weights.mse * mse + self.weights.perceptual * distance + self.weights.kl * kl
        return StageLoss(
            total, (("mse", mse.detach()), ("perceptual", distance.detach()), ("kl", kl.detach()))
        )

    def validation(self, x: Tensor) -> tuple[tuple[str, float], ...]:
        encoded = self.model.autoencoder.encode(x)
        x_hat = self.model.autoencoder.decode(self.model.autoencoder.scale * encoded.mean)
        spread = encoded.mean.std(dim=(0, 2, 3))
        return (
            ("psnr", psnr(x_hat, x)),
            ("ms_ssim", ms_ssim(x_hat, x)),
            ("perceptual", float(self._perceptual(x_hat, x).mean())),
            ("latent_std_min", float(spread.min())),
            ("latent_std_max", float(spread.max())),
            ("posterior_std", float((0.5 * encoded.logvar).exp().mean())),
        )

    def finish(self) -> None:
        if not self.recent:
            raise TrainingError(
                "the run was already at its last step; raise `steps`, or use its finished weights"
            )
        whiten_latents(self.model, torch.cat(list(self.recent)))


@torch.no_grad()
def whiten_latents(model: Rdeic, pictures: Tensor) -> None:
    """Fold the latents' mean and deviation, per channel over `pictures`, into the layers around them.

    Afterwards z0 has zero mean and unit variance per channel, as the noise schedule expects, with nothing to
    remember beside the weights. pictures: (B, 3, H, W) in [-1, 1].
    """
    autoencoder = model.autoencoder
    mean = torch.cat([autoencoder.encode(chunk).mean for chunk in pictures.split(4)])
    centre, spread = mean.mean(dim=(0, 2, 3)), mean.std(dim=(0, 2, 3))
    count = len(centre)
    quant, post = autoencoder.quant_conv, autoencoder.post_quant_conv
    assert quant.bias is not None and post.bias is not None
    quant.weight[:count] /= spread[:, None, None, None]
    quant.bias[:count] = (quant.bias[:count] - centre) / spread
    quant.bias[count:] -= 2.0 * spread.log()  # the posterior's logvar shrinks with it
    post.bias += post.weight[:, :, 0, 0] @ centre
    post.weight *= spread[None, :, None, None]


class PriorStage(_Base):
    def trainable(self) -> list[nn.Parameter]:
        return list(self.model.unet.parameters())

    def loss(self, x: Tensor, generator: torch.Generator) -> StageLoss:
        _, z0 = self._encode(x, generator)
        # Squaring favours the low noise levels, where relay diffusion works (n < 300), without starving the rest.
        u = torch.rand(z0.shape[0], generator=generator, device=z0.device)
        t = (u.square() * len(self.alpha_bar)).long()
        error = self._error(z0, t, _normal(z0, generator))
        return StageLoss(error, (("eps_mse", error.detach()),))

    def validation(self, x: Tensor) -> tuple[tuple[str, float], ...]:
        generator = torch.Generator(x.device).manual_seed(0)
        _, z0 = self._encode(x, generator)
        noise = _normal(z0, generator)
        at = (20, 100, 299, 700)
        return tuple((f"eps_mse_{t}", float(self._error(z0, torch.full(z0.shape[:1], t), noise))) for t in at)

    def _error(self, z0: Tensor, t: Tensor, noise: Tensor) -> Tensor:
        t = t.to(z0.device)
        z_t = diffuse(z0, noise, self.alpha_bar[t].view(-1, 1, 1, 1))
        return F.mse_loss(self.model.predict_noise(z_t, t, z_t, detail=0.0).float(), noise)


class _RateDistortion(_PerceptualBase):
    """What the last two stages share: the compression module, a random quality per picture, lambda_r from it."""

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
        shape = encoded.feature.shape
        size = (shape[0], self.model.config.compression.y_channels, shape[2] // 2, shape[3] // 2)
        noise = torch.rand(size, generator=generator, device=encoded.feature.device) - 0.5
        return self.model.compression(encoded.feature, quality, noise)

    def _objective(
        self, x: Tensor, quality: Tensor, compressed: Compressed, distortions: dict[str, tuple[float, Tensor]]
    ) -> StageLoss:
        """bpp + L_cb + lambda_r * (weighted distortions, each (B,)); Eqs. 13 and 14."""
        bpp = compressed.bits / (x.shape[2] * x.shape[3])
        distortion = sum((weight * value for weight, value in distortions.values()), torch.zeros_like(bpp))
        total = (bpp + self._lambda(quality) * distortion).mean() + compressed.codebook_loss
        terms = [("bpp", bpp.mean().detach()), ("codebook", compressed.codebook_loss.detach())]
        return StageLoss(
            total, (*terms, *((name, v.mean().detach()) for name, (_, v) in distortions.items()))
        )

    def validation(self, x: Tensor) -> tuple[tuple[str, float], ...]:
        generator = torch.Generator(x.device).manual_seed(0)
        encoded, z0 = self._encode(x, generator)
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
            found += [(f"perceptual_{level}", float(self._perceptual(x_hat, x).mean()))]
        return tuple(found)

    def _noises(self, like: Tensor, generator: torch.Generator) -> Iterator[Tensor]:
        while True:
            yield _normal(like, generator)


def _mse(a: Tensor, b: Tensor) -> Tensor:
    """(B,) mean squared error per picture."""
    return (a.float() - b).pow(2).mean(dim=(1, 2, 3))


class IndependentStage(_RateDistortion):
    """Eq. 13."""

    def loss(self, x: Tensor, generator: torch.Generator) -> StageLoss:
        encoded, z0 = self._encode(x, generator)
        quality = self._quality(x, generator)
        compressed = self._compress(encoded, quality, generator)
        z_c = compressed.features.z_c.float()
        start = self.model.config.diffusion.relay_start
        n = torch.randint(0, start, z0.shape[:1], generator=generator, device=z0.device)
        alpha_bar = self.alpha_bar[n].view(-1, 1, 1, 1)
        eps = relay_noise(_normal(z0, generator), z_c, z0, float(self.alpha_bar[start - 1]))
        z_n = diffuse(z0, eps, alpha_bar)  # Eq. 10
        z0_hat = predict_z0(
            z_n, self.model.predict_noise(z_n, n, compressed.features.guide).float(), alpha_bar
        )
        weight = self.weights.latent
        return self._objective(
            x, quality, compressed, {"z_c": (weight, _mse(z_c, z0)), "z0": (weight, _mse(z0_hat, z0))}
        )


class FixedStepStage(_RateDistortion):
    """Eq. 14; beyond the paper, D may learn along, which `train_decoder` switches on."""

    def __init__(self, model: Rdeic, config: TrainConfig) -> None:
        super().__init__(model, config)
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
        encoded, z0 = self._encode(x, generator)
        quality = self._quality(x, generator)
        compressed = self._compress(encoded, quality, generator)
        z_c, guide = compressed.features.z_c.float(), compressed.features.guide

        def denoise(z: Tensor, t: int) -> Tensor:
            return self.model.predict_noise(z, torch.full(z.shape[:1], t, device=z.device), guide).float()

        z_n = diffuse(z_c, _normal(z_c, generator), self.steps[0].alpha_bar)
        z0_hat = sample(denoise, z_n, self.steps, ddpm_mix, self._noises(z_c, generator))
        x_hat = self.model.autoencoder.decode(z0_hat).float()
        w = self.weights
        return self._objective(
            x,
            quality,
            compressed,
            {
                "z_c": (w.latent, _mse(z_c, z0)),
                "z0": (w.latent, _mse(z0_hat, z0)),
                "mse": (w.mse, _mse(x_hat, x)),
                "perceptual": (w.perceptual, self._perceptual(x_hat, x)),
            },
        )

"""Stages that prepare the latent space: the autoencoder E, D and the unconditional noise estimator eps_sd."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import islice

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from rdeic.diffusion.relay import diffuse
from rdeic.model.model import Rdeic
from rdeic.training.config import TrainConfig
from rdeic.training.contract import StageLoss
from rdeic.training.metrics import ms_ssim, mse_each, psnr
from rdeic.training.noise import Noise
from rdeic.training.stage_base import PerceptualStage, StageBase
from rdeic.types import Encoded

DISTURBANCE = 0.25  # deviations of a latent's channel, for the validation
WHITENING_CROPS = 512  # at least; of the last training batches, whose latents set the mean and deviation


class AutoencoderStage(PerceptualStage):
    """E and D together: pixels, perceptual distance, MS-SSIM, critics and KL, each by its weight in `[loss]`."""

    def __init__(self, model: Rdeic, config: TrainConfig) -> None:
        super().__init__(model, config)
        self.batch = config.batch

    def trainable(self) -> list[nn.Parameter]:
        """All of E and D."""
        return list(self.model.autoencoder.parameters())

    def loss(self, x: Tensor, noise: Noise) -> StageLoss:
        """x (B, 3, H, W) in [-1, 1] against D(z0), z0 a posterior sample, disturbed where `latent_noise` is set."""
        encoded = self.model.autoencoder.encode(x)
        mean, logvar = encoded.mean.float(), encoded.logvar.float()
        z0 = self.model.autoencoder.sample(Encoded(encoded.feature, mean, logvar), noise.normal(mean))
        if self.weights.latent_noise:
            z0 = disturbed(z0, self.weights.latent_noise * noise.uniform(len(z0)), noise.normal(z0))
        x_hat = self.model.autoencoder.decode(z0).float()
        judged, w = self.judge(x_hat, x, z0), self.weights
        kl = 0.5 * (mean.pow(2) + logvar.exp() - 1.0 - logvar).mean()
        weighed = (
            ("mse", w.mse, F.mse_loss(x_hat, x)),
            ("perceptual", w.perceptual, judged.distance.mean()),
            ("ms_ssim", w.ms_ssim, self.dissimilarity(x_hat, x).mean()),
            ("realism", -1.0, judged.realism.mean()),
            ("kl", w.kl, kl),
        )
        total = torch.stack([weight * value for _, weight, value in weighed]).sum()
        terms = [(name, value.detach()) for name, _, value in weighed]
        if judged.critic_loss is not None:
            terms.append(("critic", judged.critic_loss.detach()))
        return StageLoss(total, tuple(terms), critic=judged.critic_loss)

    def validation(self, x: Tensor, noise: Noise) -> tuple[tuple[str, float], ...]:
        """Metrics of D(posterior mean), PSNR in dB, and the spread of the latents."""
        encoded = self.model.autoencoder.encode(x)
        x_hat = self.model.autoencoder.decode(self.model.autoencoder.scale * encoded.mean)
        spread = encoded.mean.std(dim=(0, 2, 3))
        return (
            ("psnr", psnr(x_hat, x)),
            ("psnr_disturbed", psnr(self._of_disturbed(encoded.mean, noise), x)),
            ("ms_ssim", ms_ssim(x_hat, x)),
            ("perceptual", float(self.perceptual(x_hat, x).mean())),
            ("latent_std_min", float(spread.min())),
            ("latent_std_max", float(spread.max())),
            ("posterior_std", float((0.5 * encoded.logvar).exp().mean())),
        )

    def _of_disturbed(self, mean: Tensor, noise: Noise) -> Tensor:
        amount = torch.full_like(mean[:, 0, 0, 0], DISTURBANCE)
        return self.model.autoencoder.decode(
            disturbed(self.model.autoencoder.scale * mean, amount, noise.normal(mean))
        )

    def finish(self, recent: Iterator[Tensor]) -> None:
        """Folds the latents' mean and deviation over at least 512 recent crops into the weights."""
        whiten_latents(self.model, islice(recent, -(-WHITENING_CROPS // self.batch)))


def disturbed(z0: Tensor, amount: Tensor, noise: Tensor) -> Tensor:
    """z0 (B, C, h, w) plus `amount` (B,) times standard normal `noise`, in deviations of each channel in the batch."""
    spread = z0.detach().std(dim=(0, 2, 3), keepdim=True)
    return z0 + amount[:, None, None, None] * spread * noise


@torch.no_grad()
def whiten_latents(model: Rdeic, batches: Iterable[Tensor]) -> None:
    """Fold the latents' mean and deviation, per channel over all pictures, into the layers around them.

    Afterwards z0 has zero mean and unit variance per channel, as the noise schedule expects, with nothing to
    remember beside the weights. batches: each (B, 3, H, W) in [-1, 1].
    """
    autoencoder = model.autoencoder
    centre, spread = _moments(autoencoder.encode(x).mean for batch in batches for x in batch.split(4))
    count = len(centre)
    quant, post = autoencoder.quant_conv, autoencoder.post_quant_conv
    assert quant.bias is not None and post.bias is not None
    quant.weight[:count] /= spread[:, None, None, None]
    quant.bias[:count] = (quant.bias[:count] - centre) / spread
    quant.bias[count:] -= 2.0 * spread.log()  # the posterior's logvar shrinks with it
    post.bias += post.weight[:, :, 0, 0] @ centre
    post.weight *= spread[None, :, None, None]


def _moments(latents: Iterable[Tensor]) -> tuple[Tensor, Tensor]:
    """Mean and deviation per channel, each (C,), of tensors (B, C, h, w)."""
    values, total, squares = 0, torch.zeros(()), torch.zeros(())
    for z in latents:
        z = z.double()
        values += z.numel() // z.shape[1]
        total, squares = total.to(z) + z.sum((0, 2, 3)), squares.to(z) + z.square().sum((0, 2, 3))
    mean = total / values
    variance = (squares - values * mean.square()) / (values - 1)
    return mean.float(), variance.sqrt().float()


class PriorStage(StageBase):
    """Eq. 1's noise at every level; which levels count most, `method.framework` says.

    relay        eps, and the low levels favoured by squaring: relay diffusion works at n < N
    pure-noise   v, |v_hat - v|^2 = |eps_hat - eps|^2 / alpha_bar, at uniform levels: sampling begins at n = T, where
                 z0_hat multiplies an error of eps by 1 / alpha_bar
    """

    def __init__(self, model: Rdeic, config: TrainConfig) -> None:
        super().__init__(model, config)
        self.all_levels = config.method.framework == "pure-noise"

    def trainable(self) -> list[nn.Parameter]:
        """The noise estimator alone."""
        return list(self.model.unet.parameters())

    def loss(self, x: Tensor, noise: Noise) -> StageLoss:
        """Mean of |eps_hat - eps|^2 at a random level for every picture, or its cached features; weights as above."""
        _, z0 = self.encode(x, noise)
        u = noise.uniform(z0.shape[0])
        t = ((u if self.all_levels else u.square()) * len(self.alpha_bar)).long().to(z0.device)
        error = self._error(z0, t, noise.normal(z0))
        loss = error / self.alpha_bar[t] if self.all_levels else error
        return StageLoss(loss.mean(), (("eps_mse", error.mean().detach()),))

    def validation(self, x: Tensor, noise: Noise) -> tuple[tuple[str, float], ...]:
        """|eps_hat - eps|^2 at five levels t of 0..999."""
        _, z0 = self.encode(x, noise)
        eps = noise.normal(z0)
        levels = ((t, torch.full(z0.shape[:1], t, device=z0.device)) for t in (20, 100, 299, 700, 999))
        return tuple((f"eps_mse_{t}", float(self._error(z0, level, eps).mean())) for t, level in levels)

    def _error(self, z0: Tensor, t: Tensor, noise: Tensor) -> Tensor:
        """(B,) |eps_hat - eps|^2 of every picture at its level `t`, (B,)."""
        z_t = diffuse(z0, noise, self.alpha_bar[t].view(-1, 1, 1, 1))
        return mse_each(self.model.predict_noise(z_t, t, z_t, detail=0.0), noise)

"""Networks that learn to tell restored pictures from photographs, and whose judgement D then learns to pass.

    pixel     patches of the picture, given the latent it was made of
    feature   light heads on features of the frozen perceptual network

Both are hinge critics with spectral norm. A stage asks them twice on the same forward pass: with their weights frozen
for what the restored picture is worth, and on detached pictures for their own loss.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm

from rdeic.training.config import CriticConfig

SLOPE = 0.2  # of LeakyReLU
GIVEN = 12  # channels that the latent is brought to
HEAD = 128  # channels of a head


def _conv(in_channels: int, out_channels: int, kernel: int, stride: int = 1) -> nn.Module:
    return spectral_norm(nn.Conv2d(in_channels, out_channels, kernel, stride, (kernel - 1) // 2))


class PixelCritic(nn.Module):
    """A score for every 4x4 pixels or so, each from a patch around it."""

    def __init__(self, latent_channels: int, width: int) -> None:
        super().__init__()
        self.given = nn.Conv2d(latent_channels, GIVEN, 3, padding=1)
        self.layers = nn.ModuleList(
            [
                _conv(3 + GIVEN, width, 4, 2),
                _conv(width, 2 * width, 4, 2),
                _conv(2 * width, 4 * width, 3),
                _conv(4 * width, 4 * width, 3),
            ]
        )
        self.out = _conv(4 * width, 1, 3)

    def forward(self, x: Tensor, latent: Tensor) -> Tensor:
        """x (B, 3, H, W) in [-1, 1], latent (B, C, h, w) -> (B, 1, ~H/4, ~W/4), above 0 for a photograph."""
        h = torch.cat([x, F.interpolate(self.given(latent), size=x.shape[2:], mode="nearest")], dim=1)
        for layer in self.layers:
            h = F.leaky_relu(layer(h), SLOPE)
        return self.out(h)


class FeatureCritic(nn.Module):
    """One head for each feature map, which scores every second position of it."""

    def __init__(self, channels: Sequence[int]) -> None:
        super().__init__()
        self.heads = nn.ModuleList(
            nn.Sequential(
                _conv(count, HEAD, 1),
                nn.LeakyReLU(SLOPE),
                _conv(HEAD, HEAD, 3, 2),
                nn.LeakyReLU(SLOPE),
                _conv(HEAD, 1, 3),
            )
            for count in channels
        )

    def forward(self, features: Sequence[Tensor]) -> list[Tensor]:
        """Maps (B, C, h, w) -> a score map (B, 1, h, w) of each."""
        scores = []
        for feature, head in zip(features, self.heads, strict=True):
            size = feature.float().square().mean((1, 2, 3), keepdim=True)
            scores.append(head(feature * (size + 1e-6).rsqrt().to(feature.dtype)))
        return scores


class Critics(nn.Module):
    """The critics of one stage: pixel, feature, or both."""

    def __init__(self, config: CriticConfig, latent_channels: int, feature_channels: Sequence[int]) -> None:
        super().__init__()
        self.pixel = PixelCritic(latent_channels, config.width) if config.pixel else None
        self.feature = FeatureCritic(feature_channels) if config.feature else None
        self.config = config

    def realism(self, x_hat: Tensor, features: Sequence[Tensor], latent: Tensor) -> Tensor:
        """(B,) weighted score of restored pictures, differentiable by them; the critics' weights stay out of it."""
        with self._frozen():
            total = x_hat.new_zeros(x_hat.shape[0])
            if self.pixel is not None:
                total = total + self.config.pixel * _mean(self.pixel(x_hat, latent))
            if self.feature is not None:
                scores = [_mean(score) for score in self.feature(features)]
                total = total + self.config.feature * torch.stack(scores).mean(0)
            return total

    def own_loss(
        self, x: Tensor, x_hat: Tensor, real: Sequence[Tensor], fake: Sequence[Tensor], latent: Tensor
    ) -> Tensor:
        """Hinge loss, scalar: photographs above 1, restored pictures below -1. `real`, `fake`: their features."""
        total = x.new_zeros(())
        if self.pixel is not None:
            given = latent.detach()
            total = total + _hinge(self.pixel(x, given), self.pixel(x_hat.detach(), given))
        if self.feature is not None:
            true = self.feature([feature.detach() for feature in real])
            made = self.feature([feature.detach() for feature in fake])
            total = total + torch.stack([_hinge(a, b) for a, b in zip(true, made, strict=True)]).mean()
        return total

    @contextlib.contextmanager
    def _frozen(self) -> Iterator[None]:
        self.requires_grad_(False)
        try:
            yield
        finally:
            self.requires_grad_(True)


def _mean(scores: Tensor) -> Tensor:
    return scores.float().mean((1, 2, 3))


def _hinge(real: Tensor, fake: Tensor) -> Tensor:
    return F.relu(1.0 - real.float()).mean() + F.relu(1.0 + fake.float()).mean()

"""What the stages share: the model, the frozen encoder, the perceptual distance."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor, nn

from rdeic.errors import TrainingError
from rdeic.model import Rdeic
from rdeic.training import perceptual
from rdeic.training.config import TrainConfig
from rdeic.training.contract import StageLoss
from rdeic.training.noise import Noise
from rdeic.types import Encoded


class StageBase:
    """What all stages share: the model; no gains, no loss but a mean over pictures, no work after steps."""

    def __init__(self, model: Rdeic, config: TrainConfig) -> None:
        self.model, self.weights = model, config.loss
        self.alpha_bar = torch.from_numpy(model.alpha_bar).float().to(next(model.parameters()).device)

    def networks(self) -> list[nn.Module]:
        """All of the model's; one that is never called is never translated."""
        model = self.model
        return [
            model.autoencoder.encoder,
            model.autoencoder.decoder,
            model.compression,
            model.unet,
            model.control,
        ]

    def gains(self) -> list[nn.Parameter]:
        """None."""
        return []

    def batch_loss(self, features: Tensor) -> StageLoss:
        """Nothing to add."""
        return StageLoss(features.new_zeros(()), ())

    def after_step(self) -> None:
        """Nothing to do."""

    def finish(self, recent: Iterator[Tensor]) -> None:
        """Nothing to do."""

    def encode(self, x: Tensor, noise: Noise) -> tuple[Encoded, Tensor]:
        """The frozen E: feature and a posterior sample z0."""
        with torch.no_grad():
            encoded = self.model.autoencoder.encode(x)
            mean = encoded.mean.float()
            z0 = self.model.autoencoder.sample(
                Encoded(encoded.feature, mean, encoded.logvar.float()), noise.normal(mean)
            )
        return encoded, z0


class PerceptualStage(StageBase):
    def __init__(self, model: Rdeic, config: TrainConfig) -> None:
        super().__init__(model, config)
        if not config.perceptual and config.loss.perceptual:
            raise TrainingError(
                "loss.perceptual is above 0 but `perceptual` names no distance; set it, or use 0"
            )
        self.distance: nn.Module | None = None
        if config.loss.perceptual:
            self.distance = perceptual.load(config.perceptual).to(self.alpha_bar.device)

    def networks(self) -> list[nn.Module]:
        return [*super().networks(), *([] if self.distance is None else [self.distance])]

    def perceptual(self, x_hat: Tensor, x: Tensor) -> Tensor:
        """(B,) distance, or zeros without a perceptual term."""
        if self.distance is None:
            return x.new_zeros(x.shape[0])
        return self.distance(x_hat, x)

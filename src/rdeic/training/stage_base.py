"""What the stages share: the model, the frozen encoder, the perceptual distance, the critics."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple

import torch
from torch import Tensor, nn

from rdeic.errors import ConfigError, TrainingError
from rdeic.model.model import Rdeic
from rdeic.training import perceptual
from rdeic.training.config import TrainConfig
from rdeic.training.contract import Paced, StageLoss
from rdeic.training.critics import Critics
from rdeic.training.features import unpack
from rdeic.training.metrics import MS_SSIM_MIN_SIDE, ms_ssim_each
from rdeic.training.noise import Noise
from rdeic.types import Encoded

PICTURE_CHANNELS = 3


class Judgement(NamedTuple):
    """What distance and critics say of restored pictures."""

    distance: Tensor  # (B,), perceptual
    realism: Tensor  # (B,), the critics' weighted score; 0 before they begin
    critic_loss: Tensor | None  # scalar, the critics' own


class StageBase:
    """What all stages share: the model; one pace, no critics, no loss but a mean over pictures, no work after steps."""

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

    def paced(self) -> list[Paced]:
        """None: all parameters learn at the same rate."""
        return []

    def critics(self) -> nn.Module | None:
        """None: nothing is trained against the model."""
        return None

    def state(self) -> dict[str, Tensor]:
        """Nothing but the weights changes from step to step."""
        return {}

    def load_state(self, state: dict[str, Tensor]) -> None:
        """Nothing to take. Raises LookupError for what is of another stage."""
        if state:
            raise LookupError(f"state of another stage: {', '.join(state)}")

    def batch_loss(self, features: Tensor) -> StageLoss:
        """0: no term of the loss compares pictures with each other."""
        return StageLoss(features.new_zeros(()), ())

    def after_step(self, average: Callable[[Tensor], Tensor]) -> None:
        """Does nothing."""

    def finish(self, recent: Iterator[Tensor]) -> None:
        """Leaves the weights as they are."""

    def encode(self, x: Tensor, noise: Noise) -> tuple[Encoded, Tensor]:
        """The frozen E: features and a posterior sample z0, of pictures or of what `features.pack` made of them."""
        with torch.no_grad():
            encoded = self.model.autoencoder.encode(x) if is_picture(x) else self._unpacked(x)
            mean = encoded.mean.float()
            z0 = self.model.autoencoder.sample(
                Encoded(encoded.feature, mean, encoded.logvar.float()), noise.normal(mean)
            )
        return encoded, z0

    def _unpacked(self, packed: Tensor) -> Encoded:
        return unpack(packed, self.model.config.autoencoder.latent_channels)


def is_picture(x: Tensor) -> bool:
    """Whether x are pictures (B, 3, H, W) rather than features."""
    return x.shape[1] == PICTURE_CHANNELS


class PerceptualStage(StageBase):
    """A stage that sees pictures: with a perceptual distance, and critics where they have a weight."""

    def __init__(self, model: Rdeic, config: TrainConfig) -> None:
        super().__init__(model, config)
        if not config.perceptual and (config.loss.perceptual or config.critic.feature):
            raise TrainingError(
                "loss.perceptual or critic.feature is above 0 but `perceptual` names no distance; set it, or use 0"
            )
        if config.loss.ms_ssim and config.crop <= MS_SSIM_MIN_SIDE:
            raise TrainingError(
                f"loss.ms_ssim needs crops of more than {MS_SSIM_MIN_SIDE} pixels; raise `crop`"
            )
        self.distance: nn.Module | None = None
        if config.loss.perceptual or config.critic.feature:
            self.distance = perceptual.load(config.perceptual).to(self.alpha_bar.device)
        self.critic_config = config.critic
        self._critics = self._make_critics(config)
        self.steps_done = 0  # the critics' schedule goes by it

    def _make_critics(self, config: TrainConfig) -> Critics | None:
        if not (config.critic.pixel or config.critic.feature):
            return None
        if config.critic.feature and not isinstance(self.distance, perceptual.SqueezeNetDistance):
            raise ConfigError(
                "critic.feature needs the features of SqueezeNet: set `perceptual` to its weights"
            )
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(config.seed)
            critics = Critics(
                config.critic, self.model.config.autoencoder.latent_channels, perceptual.COMPARED_CHANNELS
            )
        return critics.to(self.alpha_bar.device, memory_format=torch.channels_last)  # type: ignore[call-overload]

    def critics(self) -> nn.Module | None:
        """The critics of `[critic]`; None where both weights are 0."""
        return self._critics

    def state(self) -> dict[str, Tensor]:
        """Steps done, by which the critics begin and rise."""
        return {"steps_done": torch.tensor(self.steps_done)}

    def load_state(self, state: dict[str, Tensor]) -> None:
        """Inverse of `state`."""
        rest = dict(state)
        self.steps_done = int(rest.pop("steps_done"))
        super().load_state(rest)

    def after_step(self, average: Callable[[Tensor], Tensor]) -> None:
        """Counts the step, for the critics' schedule."""
        self.steps_done += 1

    def networks(self) -> list[nn.Module]:
        """Those of the model, and the perceptual distance."""
        return [*super().networks(), *([] if self.distance is None else [self.distance])]

    def perceptual(self, x_hat: Tensor, x: Tensor) -> Tensor:
        """(B,) distance, or zeros without a perceptual term."""
        if self.distance is None:
            return x.new_zeros(x.shape[0])
        return self.distance(x_hat, x)

    def dissimilarity(self, x_hat: Tensor, x: Tensor) -> Tensor:
        """(B,) 1 - MS-SSIM, or zeros where it has no weight."""
        if not self.weights.ms_ssim:
            return x.new_zeros(x.shape[0])
        return 1.0 - ms_ssim_each(x_hat + 1.0, x + 1.0, 2.0)  # on 0..2: its constants take black for zero

    def judge(self, x_hat: Tensor, x: Tensor, latent: Tensor) -> Judgement:
        """What distance and critics say of x_hat (B, 3, H, W), restored from `latent` (B, C, h, w), against x."""
        if self._critics is None or self.steps_done < self.critic_config.start:
            return Judgement(self.perceptual(x_hat, x), x.new_zeros(x.shape[0]), None)
        fake: list[Tensor] = []
        real: list[Tensor] = []
        distance = x.new_zeros(x.shape[0])
        if isinstance(self.distance, perceptual.SqueezeNetDistance):
            fake, real = self.distance.features(x_hat), self.distance.features(x)
            distance = self.distance.distance(fake, real)
        elif self.distance is not None:
            distance = self.distance(x_hat, x)
        realism = self.critic_config.weight(self.steps_done) * self._critics.realism(
            x_hat, fake, latent.detach()
        )
        return Judgement(distance, realism, self._critics.own_loss(x, x_hat, real, fake, latent))

"""The interface between the training loop and a stage."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple, Protocol

from torch import Tensor, nn

from rdeic.training.noise import Noise

Scalars = tuple[tuple[str, Tensor], ...]


class StageLoss(NamedTuple):
    """Loss of a batch, or of a part of it: means over its pictures."""

    total: Tensor  # scalar to minimise
    terms: Scalars  # scalars to log, detached
    features: Tensor | None = (
        None  # (B, ...) detached: what `Stage.batch_loss` needs to know of these pictures
    )
    critic: Tensor | None = None  # scalar for the critics to minimise; reaches their parameters alone


class Paced(NamedTuple):
    """Parameters whose learning rate is `factor` times that of the rest."""

    parameters: list[nn.Parameter]
    factor: float
    decays: bool = True  # its matrices and kernels, by `weight_decay`


class Stage(Protocol):
    """One objective on one model; the loop knows nothing else about either."""

    @property
    def model(self) -> nn.Module:
        """The network that is saved; parameters outside `trainable` stay frozen."""
        ...

    def trainable(self) -> list[nn.Parameter]:
        """The parameters to optimise, in an order that never changes."""
        ...

    def networks(self) -> list[nn.Module]:
        """What `loss` calls as a whole and may be translated: no one inside another."""
        ...

    def paced(self) -> list[Paced]:
        """Those of `trainable` that learn at another pace than the rest."""
        ...

    def critics(self) -> nn.Module | None:
        """Trained beside the model, against it, and saved in checkpoints alone."""
        ...

    def state(self) -> dict[str, Tensor]:
        """What else changes from step to step; a checkpoint keeps it."""
        ...

    def load_state(self, state: dict[str, Tensor]) -> None:
        """Inverse of `state`. Raises RuntimeError or LookupError for another stage's."""
        ...

    def loss(self, x: Tensor, noise: Noise) -> StageLoss:
        """Loss of x (B, 3, H, W) in [-1, 1], part of a batch; all randomness comes from `noise`, on x's device."""
        ...

    def batch_loss(self, features: Tensor) -> StageLoss:
        """What is no mean over pictures, to be added: from the `features` that `loss` gave of the whole batch.

        Called once per step, before the optimiser's, where `loss` gave any. Terms named as those of `loss` add up.
        """
        ...

    def after_step(self, average: Callable[[Tensor], Tensor]) -> None:
        """Called after every optimiser step; `average` takes the mean over processes, and all must call it alike."""
        ...

    def validation(self, x: Tensor, noise: Noise) -> tuple[tuple[str, float], ...]:
        """Metrics of held-out pictures x (B, 3, H, W) in [-1, 1], means over the batch."""
        ...

    def finish(self, recent: Iterator[Tensor]) -> None:
        """Called on the averaged weights before they are saved.

        `recent` are the training pictures of the last step, the last but one, ...: each (B, 3, H, W) in [-1, 1].
        """
        ...

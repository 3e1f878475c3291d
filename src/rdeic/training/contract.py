"""What the loop asks of a training stage."""

from __future__ import annotations

from typing import NamedTuple, Protocol

import torch
from torch import Tensor, nn


class StageLoss(NamedTuple):
    """Loss of one batch."""

    total: Tensor  # scalar to minimise
    terms: tuple[tuple[str, Tensor], ...]  # scalars to log, detached


class Stage(Protocol):
    """One objective on one model; the loop knows nothing else about either."""

    @property
    def model(self) -> nn.Module:
        """The network that is saved; parameters outside `trainable` stay frozen."""
        ...

    def trainable(self) -> list[nn.Parameter]:
        """The parameters to optimise, in an order that never changes."""
        ...

    def loss(self, x: Tensor, generator: torch.Generator) -> StageLoss:
        """Loss of x (B, 3, H, W) in [-1, 1]; all randomness comes from `generator`, on x's device."""
        ...

    def after_step(self) -> None:
        """Called after every optimiser step."""
        ...

    def validation(self, x: Tensor) -> tuple[tuple[str, float], ...]:
        """Metrics of held-out pictures x (B, 3, H, W) in [-1, 1], means over the batch."""
        ...

    def finish(self) -> None:
        """Called once, on the final averaged weights, before they are saved."""
        ...

"""The randomness of training, the same however a batch is split."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor


class Noise(NamedTuple):
    """Random numbers for the pictures `first`, `first + 1`, ... of a batch of `whole`.

    Every draw is made for the whole batch and cut down to the part at hand, so that processes and micro-batches
    together see what one batch would, provided that all of them draw alike.
    """

    generator: torch.Generator
    first: int
    whole: int

    def normal(self, like: Tensor) -> Tensor:
        """Standard normal, shaped like `like` (B, ...), on the generator's device."""
        shape = (self.whole, *like.shape[1:])
        drawn = torch.randn(shape, generator=self.generator, device=self.generator.device)
        return self._own(drawn, len(like))

    def uniform(self, count: int, *shape: int) -> Tensor:
        """(count, *shape), uniform in [0, 1)."""
        device = self.generator.device
        return self._own(torch.rand(self.whole, *shape, generator=self.generator, device=device), count)

    def integers(self, high: int, count: int) -> Tensor:
        """(count,) int64, uniform in 0 .. high - 1."""
        device = self.generator.device
        drawn = torch.randint(0, high, (self.whole,), generator=self.generator, device=device)
        return self._own(drawn, count)

    def _own(self, drawn: Tensor, count: int) -> Tensor:
        return drawn[self.first : self.first + count]

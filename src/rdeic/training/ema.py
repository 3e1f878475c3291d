"""Exponential moving average of the trained weights."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn


class Ema:
    """ema <- decay * ema + (1 - decay) * parameter, with a decay that rises at the start."""

    averages: list[Tensor]  # in the order of the parameters

    def __init__(self, parameters: Sequence[nn.Parameter], decay: float) -> None:
        self._parameters = list(parameters)
        self._decay = decay
        self.averages = [parameter.detach().clone() for parameter in self._parameters]

    @torch.no_grad()
    def update(self, step: int) -> None:
        """Takes in the weights after optimiser step `step`, counted from 0."""
        # A fixed decay would remember the random start for 1 / (1 - decay) steps.
        decay = min(self._decay, (1 + step) / (10 + step))
        torch._foreach_lerp_(self.averages, [parameter.data for parameter in self._parameters], 1 - decay)

    @contextmanager
    def applied(self) -> Iterator[None]:
        """The parameters hold the averages inside the `with` block."""
        self._swap()
        try:
            yield
        finally:
            self._swap()

    def _swap(self) -> None:
        for index, parameter in enumerate(self._parameters):
            parameter.data, self.averages[index] = self.averages[index], parameter.data

"""Holds the bit rates where they were asked for: lambda_r follows what the pictures of the training batches cost."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn

from rdeic.training.config import LossWeights

MEMORY = 0.98  # of the averages: some fifty batches, for pictures differ tenfold in what they cost
LIMIT = 30.0  # times what it began with, or less than a thirtieth: beyond, the target is out of reach


class RateControl(nn.Module):
    """lambda_r as a function of quality: exponential between knots that are equally far apart.

    Without targets the knots are `lambda_min` and `lambda_max`, and stay. With K targets there are K knots, and where
    pictures near a knot cost less than was asked for there, its lambda grows: by `rate_speed` times the logarithm of
    the ratio in every step.
    """

    log_targets: Tensor  # (K,), or (0,) for none
    log_lambda: Tensor  # (K,)
    start: Tensor  # (K,) of log_lambda
    averages: Tensor  # (2, K): bits per pixel found, and wanted, near each knot
    pending: Tensor  # (2, K) of the step under way

    def __init__(self, weights: LossWeights, device: torch.device) -> None:
        super().__init__()
        self.speed, count = weights.rate_speed, len(weights.rate_targets)
        low, high = math.log(weights.lambda_min), math.log(weights.lambda_max)
        start = torch.linspace(low, high, max(count, 2), device=device)
        log_targets = torch.tensor(weights.rate_targets, device=device).log()
        self.register_buffer("log_targets", log_targets, persistent=False)  # the configuration's
        for name, value in (("log_lambda", start.clone()), ("start", start)):
            self.register_buffer(name, value)
        for name in ("averages", "pending"):
            self.register_buffer(name, torch.zeros(2, len(start), device=device))

    def forward(self, quality: Tensor) -> Tensor:
        """quality (B,) in [0, 1] -> lambda_r (B,)."""
        return (self._hats(quality) @ self.log_lambda).exp()

    def note(self, quality: Tensor, bpp: Tensor) -> None:
        """Both (B,): what pictures of that quality cost."""
        if len(self.log_targets):
            hats = self._hats(quality)
            wanted = (hats @ self.log_targets).exp()
            self.pending += torch.stack([bpp.detach().float(), wanted]) @ hats

    def settle(self, average: Callable[[Tensor], Tensor]) -> None:
        """After a step; `average` takes the mean over processes."""
        if not len(self.log_targets):
            return
        self.averages.mul_(MEMORY).add_(average(self.pending), alpha=1.0 - MEMORY)
        self.pending.zero_()
        found, wanted = self.averages.clamp(min=1e-9).log()
        self.log_lambda += self.speed * (wanted - found).clamp(-1.0, 1.0)
        reach = math.log(LIMIT)
        self.log_lambda.copy_(self.log_lambda.clamp(self.start - reach, self.start + reach))

    def _hats(self, quality: Tensor) -> Tensor:
        """(B, K): weights of the knots, linear in between."""
        knots = torch.arange(len(self.log_lambda), device=quality.device)
        return (1.0 - (quality[:, None] * (len(knots) - 1) - knots).abs()).clamp(min=0.0)

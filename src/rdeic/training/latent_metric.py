"""How far a latent is from another, as far as D would show it.

D answers to an error of z0 hundreds of times as strongly in one direction of the channels as in another, so that
|z_c - z0|^2 spends bits on what no picture shows. The best linear approximation L of D, one 3x3 convolution, tells them
apart: |L (z_c - z0)|^2 goes with the squared error of D's picture (`benchmarks/latent_metric.py`), costs next to
nothing beside D, and needs no picture.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from rdeic.config import ModelConfig
from rdeic.training.metrics import mse_each

KERNEL = 3
RIDGE = 1e-5  # of the mean of the normal equations' diagonal
PICTURE_CHANNELS = 3


class LatentMetric(nn.Module):
    """`share` of an error as L shows it, the rest as |z - z0|^2; white errors cost the same in both.

    L is fitted to what D makes of the first batch's z0; before, all counts as |z - z0|^2.
    """

    kernel: Tensor  # (3 s^2, C, 3, 3) of L: a latent position makes s x s pixels; 0 until it is fitted
    pending: Tensor  # normal equations of the first batch, (9 C + 1, 9 C + 1 + 3 s^2)

    def __init__(self, share: float, config: ModelConfig, device: torch.device) -> None:
        super().__init__()
        self.share, self.stride = share, config.autoencoder.stride
        channels, pixels = config.autoencoder.latent_channels, PICTURE_CHANNELS * self.stride**2
        inputs = KERNEL**2 * channels + 1
        self.register_buffer("kernel", torch.zeros(pixels, channels, KERNEL, KERNEL, device=device))
        self.fitted = share == 0.0
        # Not where nothing is fitted: some devices have no float64.
        equations = (
            torch.zeros(inputs, inputs + pixels, dtype=torch.float64, device=device) if share else None
        )
        self.register_buffer("pending", equations, persistent=False)

    def get_extra_state(self) -> Tensor:
        """Whether L is fitted: part of the state."""
        return torch.tensor(self.fitted)

    def set_extra_state(self, state: Tensor) -> None:
        """Inverse of `get_extra_state`."""
        self.fitted = bool(state)

    def forward(self, z: Tensor, z0: Tensor) -> Tensor:
        """(B, C, h, w) twice -> (B,)."""
        plain = mse_each(z, z0)
        if not (self.share and self.fitted):
            return plain
        shown = F.conv2d(z - z0, self.kernel, padding=KERNEL // 2).float()
        return (1.0 - self.share) * plain + self.share * shown.square().mean((1, 2, 3))

    @torch.no_grad()
    def note(self, z0: Tensor, decode: Callable[[Tensor], Tensor]) -> None:
        """Takes z0 (B, C, h, w) of the first batch and what D makes of it."""
        if self.fitted:
            return
        x = F.pixel_unshuffle(decode(z0).float(), self.stride).flatten(2)
        seen = F.unfold(z0.float(), KERNEL, padding=KERNEL // 2)
        rows = torch.cat([seen, torch.ones_like(seen[:, :1]), x], dim=1).permute(0, 2, 1).flatten(0, 1)
        rows = rows.double()
        self.pending += rows[:, : len(self.pending)].t() @ rows

    @torch.no_grad()
    def settle(self, average: Callable[[Tensor], Tensor]) -> None:
        """After the first step: L by least squares; `average` takes the mean over processes."""
        if self.fitted:
            return
        count = len(self.pending)
        equations = average(self.pending)
        gram, moments = equations[:, :count], equations[:, count:]
        gram = gram + RIDGE * gram.diagonal().mean() * torch.eye(count, dtype=gram.dtype, device=gram.device)
        solved = torch.linalg.solve(gram, moments)[:-1].t()  # the last row is D's answer to 0
        solved = solved / (solved.square().sum() / len(solved)).sqrt()
        self.kernel.copy_(solved.reshape(self.kernel.shape))
        self.fitted = True

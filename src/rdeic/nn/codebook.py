"""Vector-quantised hyper-latent: nearest codebook entry, codebook loss of Eq. 13, revival of dead entries."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from rdeic.types import CodebookMatch

BETA = 0.25  # commitment weight, Eq. 13
USAGE_MEMORY = 0.99
TEMPERATURE = 0.07


class Codebook(nn.Module):
    """K entries of width N.

    In training `settle`, once per step, adds a contrastive term that keeps entries apart, and moves entries that are
    hardly used towards the nearest feature at hand (online clustered codebook); the paper's code does both.
    """

    usage: Tensor

    def __init__(self, size: int, channels: int) -> None:
        super().__init__()
        self.entries = nn.Parameter(torch.empty(size, channels).uniform_(-1.0 / size, 1.0 / size))
        self.register_buffer("usage", torch.zeros(size))

    def nearest(self, z: Tensor) -> Tensor:
        """z (B, N, h, w) -> (B, h, w) int64 index of the entry at the smallest Euclidean distance."""
        return self._distances(_rows(z)).argmin(dim=1).view(z.shape[0], *z.shape[2:])

    def lookup(self, indices: Tensor) -> Tensor:
        """indices (B, h, w) -> entries (B, N, h, w)."""
        return F.embedding(indices, self.entries).permute(0, 3, 1, 2)

    def forward(self, z: Tensor) -> CodebookMatch:
        """z (B, N, h, w) -> match; gradients of z_q pass straight through to z."""
        z = z.float()
        indices = self.nearest(z.detach())
        z_q = self.lookup(indices)
        loss = BETA * F.mse_loss(z_q.detach(), z) + F.mse_loss(z_q, z.detach())  # Eq. 13
        return CodebookMatch(z_q=z + (z_q - z).detach(), indices=indices, loss=loss)

    def settle(self, z: Tensor) -> Tensor:
        """z (B, N, h, w) of the whole batch, detached -> the contrastive term, scalar; revives what is hardly used.

        Both mix the pictures of a batch, so they cannot be means over parts of it as `forward` is.
        """
        rows = _rows(z.float())
        distances = self._distances(rows)  # (n, K)
        loss = self._contrastive(distances)
        self._revive(rows, distances.detach())
        return loss

    def _distances(self, rows: Tensor) -> Tensor:
        e = self.entries
        with torch.autocast(rows.device.type, enabled=False):  # half precision would pick other entries
            return rows.pow(2).sum(1, keepdim=True) + e.pow(2).sum(1) - 2.0 * rows @ e.t()

    def _contrastive(self, distances: Tensor) -> Tensor:
        n, k = distances.shape
        ordered = (-distances).sort(dim=0, descending=True).values  # nearest features first, per entry
        positive = ordered[: max(1, n // k)].mean(dim=0, keepdim=True)
        logits = torch.cat([positive, ordered[n - n // 2 :]], dim=0).t() / TEMPERATURE
        return F.cross_entropy(logits, torch.zeros(k, dtype=torch.long, device=logits.device))

    @torch.no_grad()
    def _revive(self, rows: Tensor, distances: Tensor) -> None:
        k = self.entries.shape[0]
        # Not `bincount`, which waits for the device; sums of ones are exact in any order.
        counts = rows.new_zeros(k).index_add_(0, distances.argmin(dim=1), rows.new_ones(len(rows)))
        share = counts / len(rows)
        self.usage.mul_(USAGE_MEMORY).add_(share, alpha=1.0 - USAGE_MEMORY)
        decay = torch.exp(-self.usage * k * 10.0 / (1.0 - USAGE_MEMORY) - 1e-3)[:, None]
        # Through .data: the gradient of this very step still refers to the old version.
        self.entries.data = self.entries.data * (1.0 - decay) + rows[distances.argmin(dim=0)] * decay


def _rows(z: Tensor) -> Tensor:
    return z.permute(0, 2, 3, 1).flatten(0, 2)

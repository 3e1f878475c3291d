"""Building blocks shared by the autoencoder, the noise estimator and the control network.

Layer order, epsilons and head rules are those of Stable Diffusion 2.1, so that its weights load unchanged.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from rdeic.nn.norm import GroupNorm
from rdeic.nn.shuffle import pixel_shuffle

AUTOENCODER_EPS = 1e-6
UNET_EPS = 1e-5
LOG_PERIOD = (
    9.21034049987793  # log(10000) in single precision, which Stable Diffusion's weights were trained with
)


def largest_divisor(channels: int, limit: int) -> int:
    """Largest divisor of `channels` that is at most `limit`; the rule for norm groups and for head widths."""
    return next(n for n in range(min(limit, channels), 0, -1) if channels % n == 0)


def group_norm(channels: int, eps: float, silu: bool = False) -> GroupNorm:
    """GroupNorm of at most 32 groups over `channels`, with SiLU after it where `silu` says so."""
    return GroupNorm(largest_divisor(channels, 32), channels, eps, silu)


def conv3x3(in_channels: int, out_channels: int, stride: int = 1) -> nn.Conv2d:
    """A 3x3 convolution that keeps the resolution, or divides it by `stride`."""
    return nn.Conv2d(in_channels, out_channels, 3, stride=stride, padding=1)


class ResBlock(nn.Module):
    """GroupNorm, SiLU, convolution, twice; a time embedding, where there is one, is added in between."""

    def __init__(self, in_channels: int, out_channels: int, eps: float, embedding: int = 0) -> None:
        super().__init__()
        self.norm1 = group_norm(in_channels, eps, silu=True)
        self.conv1 = conv3x3(in_channels, out_channels)
        self.embed = nn.Linear(embedding, out_channels) if embedding else None
        self.norm2 = group_norm(out_channels, eps, silu=True)
        self.conv2 = conv3x3(out_channels, out_channels)
        self.skip = nn.Conv2d(in_channels, out_channels, 1) if in_channels != out_channels else nn.Identity()

    def forward(self, x: Tensor, embedding: Tensor | None = None) -> Tensor:
        """x (B, in, H, W), embedding (B, E) or None -> (B, out, H, W)."""
        h: Tensor = self.conv1(self.norm1(x))
        if self.embed is not None and embedding is not None:
            h = h + self.embed(F.silu(embedding))[:, :, None, None]
        h = self.conv2(self.norm2(h))
        return h + self.skip(x)


class PixelAttention(nn.Module):
    """Single-head self-attention over positions, as in the middle of Stable Diffusion's autoencoder."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm = group_norm(channels, AUTOENCODER_EPS)
        self.q = nn.Conv2d(channels, channels, 1)
        self.k = nn.Conv2d(channels, channels, 1)
        self.v = nn.Conv2d(channels, channels, 1)
        self.out = nn.Conv2d(channels, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> the same shape; memory and time grow with (H W)^2."""
        batch, channels, height, width = x.shape
        h = self.norm(x)
        q, k, v = (layer(h).flatten(2).transpose(1, 2) for layer in (self.q, self.k, self.v))  # (B, HW, C)
        h = F.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(batch, channels, height, width)
        return x + self.out(h)


class Attention(nn.Module):
    """Multi-head self-attention of token sequences."""

    def __init__(self, channels: int, head_channels: int, source_channels: int | None = None) -> None:
        """`source_channels`: of what keys and values are made from, if that is something else."""
        super().__init__()
        self.heads = channels // largest_divisor(channels, head_channels)
        source = channels if source_channels is None else source_channels
        self.q = nn.Linear(channels, channels, bias=False)
        self.k = nn.Linear(source, channels, bias=False)
        self.v = nn.Linear(source, channels, bias=False)
        self.out = nn.Linear(channels, channels)

    def forward(self, x: Tensor) -> Tensor:
        """x (B, N, C) -> (B, N, C)."""
        return self._attend(x, self._split(self.k(x)), self._split(self.v(x)))

    def _attend(self, x: Tensor, k: Tensor, v: Tensor) -> Tensor:
        h = F.scaled_dot_product_attention(self._split(self.q(x)), k, v)  # (B, heads, N, C / heads)
        return self.out(h.transpose(1, 2).flatten(2))

    def _split(self, x: Tensor) -> Tensor:
        return x.unflatten(2, (self.heads, -1)).transpose(1, 2)


class CrossAttention(Attention):
    """Attention to a text context; of one that never changes, keys and values can be computed once for all."""

    fixed_k: Tensor | None  # (1, heads, M, C / heads); moves with the weights, but is no part of the state
    fixed_v: Tensor | None

    def __init__(self, channels: int, head_channels: int, context_channels: int) -> None:
        super().__init__(channels, head_channels, context_channels)
        self.register_buffer("fixed_k", None, persistent=False)
        self.register_buffer("fixed_v", None, persistent=False)

    def fix_context(self, context: Tensor | None) -> None:
        """Remember `context` (1, M, C') for calls without one; None forgets it. Weights must not change in between."""
        if context is None:
            self.fixed_k = self.fixed_v = None
        else:
            context = context.to(self.k.weight.dtype)
            self.fixed_k, self.fixed_v = self._split(self.k(context)), self._split(self.v(context))

    def forward(self, x: Tensor, context: Tensor | None = None) -> Tensor:
        """x (B, N, C), context (B, M, C') or None for the fixed one -> (B, N, C)."""
        if context is not None:
            return self._attend(x, self._split(self.k(context)), self._split(self.v(context)))
        assert self.fixed_k is not None and self.fixed_v is not None
        shape = (x.shape[0], -1, -1, -1)
        return self._attend(x, self.fixed_k.expand(shape), self.fixed_v.expand(shape))


class GatedFeedForward(nn.Module):
    """Feed-forward layer with GEGLU, of hidden width 4C."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.widen = nn.Linear(channels, 8 * channels)
        self.out = nn.Linear(4 * channels, channels)

    def forward(self, x: Tensor) -> Tensor:
        """x (B, N, C) -> (B, N, C)."""
        value, gate = self.widen(x).chunk(2, dim=-1)
        return self.out(value * F.gelu(gate))


class Transformer(nn.Module):
    """Self-attention, cross-attention over the text context where the model has one, feed-forward."""

    def __init__(self, channels: int, head_channels: int, context_channels: int) -> None:
        super().__init__()
        self.norm = group_norm(channels, AUTOENCODER_EPS)
        self.proj_in = nn.Linear(channels, channels)
        self.norm1 = nn.LayerNorm(channels)
        self.attn1 = Attention(channels, head_channels)
        self.norm2 = nn.LayerNorm(channels) if context_channels else None
        self.attn2 = CrossAttention(channels, head_channels, context_channels) if context_channels else None
        self.norm3 = nn.LayerNorm(channels)
        self.feed_forward = GatedFeedForward(channels)
        self.proj_out = nn.Linear(channels, channels)

    def forward(self, x: Tensor, context: Tensor | None) -> Tensor:
        """x (B, C, H, W), context (B, M, C') or None for none or the fixed one -> (B, C, H, W)."""
        h = self.proj_in(self.norm(x).flatten(2).transpose(1, 2))  # (B, HW, C)
        h = h + self.attn1(self.norm1(h))
        if self.attn2 is not None and self.norm2 is not None:
            h = h + self.attn2(self.norm2(h), context)
        h = h + self.feed_forward(self.norm3(h))
        return x + self.proj_out(h).transpose(1, 2).unflatten(2, x.shape[2:])


class NearestUpsample(nn.Module):
    """Twice the resolution by nearest neighbour, then a convolution."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = conv3x3(channels, channels)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, C, 2H, 2W)."""
        return self.conv(F.interpolate(x, scale_factor=2.0, mode="nearest"))


class SubpixelUpsample(nn.Module):
    """Twice the resolution by pixel shuffle, straight to the next level's width: a third of the cost of the above."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.conv = conv3x3(in_channels, 4 * out_channels)

    def forward(self, x: Tensor) -> Tensor:
        """(B, in, H, W) -> (B, out, 2H, 2W)."""
        return pixel_shuffle(self.conv(x), 2)


class PaddedDownsample(nn.Module):
    """Half the resolution; zero padding on the right and bottom only, as Stable Diffusion's encoder does."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, stride=2)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W), sides even -> (B, C, H/2, W/2)."""
        return self.conv(F.pad(x, (0, 1, 0, 1)))


def timestep_embedding(t: Tensor, channels: int) -> Tensor:
    """t (B,) -> (B, channels) float32: [cos, sin] of t at geometrically spaced frequencies from 1 to 1/10000."""
    half = channels // 2
    frequencies = torch.exp(-torch.arange(half, device=t.device) * (LOG_PERIOD / half))
    angles = t.float()[:, None] * frequencies
    return torch.cat([angles.cos(), angles.sin()], dim=1)

"""Group normalisation, and SiLU after it, quick where the library is slow.

On CPUs that is the backward pass: the library's for channels-last bfloat16 took more than half of a training step of
`mini` on two cores. The gradient is affine in dy and x with per-channel coefficients, so two reductions and one fused
pass suffice.

On GPUs it is the channels-last forward pass: the library copies to NCHW, and the next convolution copies back. Here
activations are read twice and written once, as they lie and in their own precision; sums are float32. What each way
costs is counted in docs/performance.md.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from rdeic.nn import moments

LARGE = 1 << 24  # elements for which a dozen launches more are worth a third fewer passes
_CLOSE = 0.02  # of an output in bfloat16, where outputs are about 1


class GroupNorm(nn.GroupNorm):
    """nn.GroupNorm, same parameters and values; SiLU follows where `silu` says so."""

    fused: bool  # on a GPU, without gradients; False: the library's, to compare with

    def __init__(self, groups: int, channels: int, eps: float = 1e-5, silu: bool = False) -> None:
        super().__init__(groups, channels, eps=eps)
        self.silu = silu
        self.fused = True

    def forward(self, input: Tensor) -> Tensor:
        """x (B, C, H, W) -> shaped, laid out and of the precision as x."""
        if (source := moments.current.get()) is not None:
            return self._by(source(input, self.num_groups), input)
        if torch.is_grad_enabled():
            y = self._with_gradients(input)
            return F.silu(y) if self.silu else y
        if self.fused and (way := _fused_way(input)) is not None:
            return way(input, self.num_groups, self.weight, self.bias, self.eps, self.silu)
        y = super().forward(input)
        return F.silu(y, inplace=True) if self.silu else y

    def _by(self, known: moments.Moments, x: Tensor) -> Tensor:
        size = self.num_channels // self.num_groups
        mean, variance = (value.repeat_interleave(size) for value in known)  # (C,)
        weight, bias = self.weight.float(), self.bias.float()
        if x.device.type == "cpu" and x.dtype != torch.float32:
            # The same map, and rounded once too; `_scaled` converts values one by one, in ten times the time.
            y = F.batch_norm(x, mean, variance, weight, bias, training=False, eps=self.eps)
        else:
            scale = weight * torch.rsqrt(variance + self.eps)
            y = _scaled(x, scale, bias - mean * scale)
        return F.silu(y, inplace=True) if self.silu else y

    def _with_gradients(self, x: Tensor) -> Tensor:
        if x.device.type != "cpu":
            return self._in_precision_of(x)
        y: Tensor = _CpuGroupNorm.apply(x, self.weight, self.bias, self.num_groups, self.eps)  # type: ignore[no-untyped-call]
        return y

    def _in_precision_of(self, x: Tensor) -> Tensor:
        """The library's, which autocast would take to float32 and so twice the bytes; sums are float32 all the same."""
        with torch.autocast(x.device.type, enabled=False):
            weight, bias = self.weight.to(x.dtype), self.bias.to(x.dtype)
            return F.group_norm(x, self.num_groups, weight, bias, self.eps)


def _fused_way(x: Tensor) -> Callable[[Tensor, int, Tensor, Tensor, float, bool], Tensor] | None:
    """What normalises x (B, C, H, W) quickest on its device; None: the library."""
    if x.dim() != 4 or not x.is_contiguous(memory_format=torch.channels_last):
        return None
    if x.device.type == "cuda" and _kernels_work(x.device.index, x.dtype):
        from rdeic.nn import norm_triton

        return norm_triton.group_norm
    large = x.device.type == "cuda" and x.numel() >= LARGE
    return group_norm_by_torch if large or x.device.type == "meta" else None


def group_norm_by_torch(
    x: Tensor, groups: int, weight: Tensor, bias: Tensor, eps: float, silu: bool
) -> Tensor:
    """x (B, C, H, W), channels-last -> the same, normalised; without a kernel of our own, and without gradients.

    Three reading passes and two writing ones instead of two and one, and so many launches that only large activations
    are the better for it.
    """
    scale, offset = _affine(x, groups, weight, bias, eps)
    y = _scaled(x, scale, offset)
    return F.silu(y, inplace=True) if silu else y


def _scaled(x: Tensor, scale: Tensor, offset: Tensor) -> Tensor:
    """scale * x + offset, both (..., C), in float32, rounded once."""
    y = torch.empty_like(x)
    torch.addcmul(offset[..., None, None], x, scale[..., None, None], out=y)
    return y


def _affine(x: Tensor, groups: int, weight: Tensor, bias: Tensor, eps: float) -> tuple[Tensor, Tensor]:
    """Scale and offset (B, C), float32: normalised, x is scale * x + offset."""
    channels, count = x.shape[1], x[0].numel() // groups

    def of_groups(sums: Tensor) -> Tensor:
        means = sums.unflatten(1, (groups, -1)).sum(2) / count
        return means.repeat_interleave(channels // groups, dim=1)  # (B, C)

    mean = of_groups(x.sum((2, 3), dtype=torch.float32))
    # Not `var_mean`, whose results would be rounded to the precision of x.
    power = of_groups(torch.linalg.vector_norm(x, dim=(2, 3), dtype=torch.float32).square())
    scale = weight.float() * torch.rsqrt((power - mean * mean).clamp_min(0.0) + eps)
    return scale, bias.float() - mean * scale


@functools.cache
def _kernels_work(device: int, dtype: torch.dtype) -> bool:
    """Whether Triton is there, can compile for this GPU (it needs a C compiler), and computes the right thing."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(2, 96, 33, 5, generator=generator).to(f"cuda:{device}", dtype)
    x = x.contiguous(memory_format=torch.channels_last)
    weight = torch.linspace(0.5, 1.5, 96, device=x.device, dtype=x.dtype)
    arguments = (32, weight, weight - 1.0, 1e-6, True)
    try:
        from rdeic.nn import norm_triton

        found = norm_triton.group_norm(x, *arguments)
    except Exception:  # whatever a compiler may say: there is another way to go
        return False
    return bool(((found - group_norm_by_torch(x, *arguments)).abs() < _CLOSE).all())


class _CpuGroupNorm(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, groups: int, eps: float) -> Tensor:
        n, c, h, w = x.shape
        gamma, beta = weight.to(x.dtype), bias.to(x.dtype)
        y, mean, rstd = torch.native_group_norm(x, gamma, beta, n, c, h * w, groups, eps)
        ctx.save_for_backward(x, weight, mean, rstd)
        ctx.groups = groups
        return y

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, Tensor, Tensor, None, None]:
        x, weight, mean, rstd = ctx.saved_tensors
        (dy,) = grads
        n, c, h, w = x.shape
        per_group = c // ctx.groups
        mean, rstd = (v.float().repeat_interleave(per_group, dim=1) for v in (mean, rstd))  # (n, c)
        sum_dy = dy.sum(dim=(2, 3), dtype=torch.float32)
        sum_dy_x = (dy * x).sum(dim=(2, 3), dtype=torch.float32)
        sum_dy_xhat = (sum_dy_x - mean * sum_dy) * rstd
        gamma = weight.float()

        def group_mean(v: Tensor) -> Tensor:
            means = v.view(n, ctx.groups, per_group).sum(2) / (per_group * h * w)
            return means.repeat_interleave(per_group, dim=1)

        # dx = rstd * (gamma dy - mean_g(gamma dy) - x_hat mean_g(gamma dy x_hat)), x_hat = (x - mean) rstd
        slope = -rstd * rstd * group_mean(gamma * sum_dy_xhat)
        offset = -rstd * group_mean(gamma * sum_dy) - slope * mean
        scale, slope, offset = (v.to(x.dtype)[:, :, None, None] for v in (gamma * rstd, slope, offset))
        dx = torch.addcmul(torch.addcmul(offset, x, slope), dy, scale)
        return dx, sum_dy_xhat.sum(0).to(weight.dtype), sum_dy.sum(0).to(weight.dtype), None, None

"""Frozen perceptual distances of two batches of pictures in [-1, 1]."""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn import functional

from rdeic.errors import CheckpointError, TrainingError

# SqueezeNet 1.0: name, input, squeezed and output channels of its fire modules.
FIRES = (
    ("fire2", 96, 16, 128),
    ("fire3", 128, 16, 128),
    ("fire4", 128, 32, 256),
    ("fire5", 256, 32, 256),
    ("fire6", 256, 48, 384),
    ("fire7", 384, 48, 384),
    ("fire8", 384, 64, 512),
    ("fire9", 512, 64, 512),
)
COMPARED = ("conv1", "fire3", "fire4", "fire5", "fire7", "fire9")
COMPARED_CHANNELS = (96, 128, 256, 256, 384, 512)
POOLED_AFTER = ("conv1", "fire4", "fire8")
BGR_MEAN = (104.0, 117.0, 123.0)  # of the network's training set, on 0..255
EPSILON = 1e-10


def load(spec: str) -> nn.Module:
    """A frozen distance: two batches (B, 3, H, W) in [-1, 1], at least 32 pixels a side -> (B,), 0 if identical.

    `spec` is "lpips", for the package of that name with AlexNet, or the path of a SqueezeNet 1.0 safetensors
    file. Raises TrainingError if package or weights are missing, CheckpointError if the weights do not fit.
    """
    network = _load_lpips() if spec == "lpips" else _load_squeezenet(Path(spec))
    return network.eval().requires_grad_(False)


class SqueezeNetDistance(nn.Module):
    """Zhang et al. 2018, Eq. 1 with unit weights, on SqueezeNet 1.0.

    d(a, b) = mean over layers of mean over positions of |f_l(a) / |f_l(a)| - f_l(b) / |f_l(b)||^2
    """

    mean: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 96, 7, stride=2)
        for name, channels, squeezed, out in FIRES:
            self.add_module(name, _Fire(channels, squeezed, out))
        self.register_buffer("mean", torch.tensor(BGR_MEAN).view(1, 3, 1, 1), persistent=False)

    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        """a, b (B, 3, H, W) in [-1, 1] -> (B,), 0 for equal pictures. Gradients reach both."""
        # Two passes, not one of twice the batch: the picture that needs no gradient then keeps no activations.
        return self.distance(self.features(a), self.features(b))

    def distance(self, a: Sequence[Tensor], b: Sequence[Tensor]) -> Tensor:
        """(B,) from what `features` gave of two batches."""
        pairs = zip(a, b, strict=True)
        return torch.stack([_distance(u, v).mean((1, 2)) for u, v in pairs]).mean(0)

    def compile(self, backend: str, dynamic: bool) -> None:
        """Its two halves: stages call them one after the other."""
        self.features = torch.compile(self.features, backend=backend, dynamic=dynamic)  # type: ignore[method-assign]
        self.distance = torch.compile(self.distance, backend=backend, dynamic=dynamic)  # type: ignore[method-assign]

    def features(self, x: Tensor) -> list[Tensor]:
        """x (B, 3, H, W) in [-1, 1] -> the compared feature maps, of `COMPARED_CHANNELS`."""
        x = (x.flip(1) + 1) * 127.5 - self.mean
        found = []
        for name in ("conv1", *(fire[0] for fire in FIRES)):
            x = self.conv1(x).relu_() if name == "conv1" else self.get_submodule(name)(x)
            if name in COMPARED:
                found.append(x)
            if name in POOLED_AFTER:
                x = functional.max_pool2d(x, 3, stride=2, ceil_mode=True)
        return found


class _Fire(nn.Module):
    def __init__(self, channels: int, squeezed: int, out: int) -> None:
        super().__init__()
        self.squeeze1x1 = nn.Conv2d(channels, squeezed, 1)
        self.expand1x1 = nn.Conv2d(squeezed, out // 2, 1)
        self.expand3x3 = nn.Conv2d(squeezed, out // 2, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.squeeze1x1(x).relu_()
        return torch.cat([self.expand1x1(x), self.expand3x3(x)], dim=1).relu_()


class _UnitDistance(torch.autograd.Function):
    """|a / |a| - b / |b||^2 over channels: (B, C, H, W) twice -> (B, 1, H, W), in single precision.

    By hand because the plain expression costs three times as much, most of it in its derivative. With u and v the
    unit vectors, w = u - v and s = |w|^2, the gradient is 2 (w - u (u . w)) / |a|, and u . w = s / 2.
    """

    @staticmethod
    def forward(ctx: Any, a: Tensor, b: Tensor) -> Tensor:
        # Half precision would round away the difference of two nearly equal unit vectors.
        ctx.dtypes = a.dtype, b.dtype
        a, b = a.float(), b.float()
        per_a, per_b = _inverse_length(a), _inverse_length(b)
        u = a * per_a
        w = u - b * per_b
        s: Tensor = torch.linalg.vector_norm(w, dim=1, keepdim=True).square()
        ctx.save_for_backward(u, w, s, per_a, per_b)
        return s

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, Tensor | None]:
        u, w, s, per_a, per_b = ctx.saved_tensors
        to_a = to_b = None
        if ctx.needs_input_grad[0]:
            to_a = torch.addcmul(w, u, s, value=-0.5).mul_(2 * grad * per_a).to(ctx.dtypes[0])
        if ctx.needs_input_grad[1]:
            to_b = torch.addcmul(w, u - w, s, value=0.5).mul_(-2 * grad * per_b).to(ctx.dtypes[1])
        return to_a, to_b


class _HalfUnitDistance(torch.autograd.Function):
    """`_UnitDistance` of features in half precision, for devices where memory traffic is what it costs.

    Lengths and sums are of single precision, only u, v and their difference are rounded, as the features themselves
    are: 20 bytes an element instead of 48 there and 10 instead of 26 back, and half as many kept. Equal features still
    have no distance. A CPU, which copies for every change of type, takes twice as long for it.
    """

    @staticmethod
    def forward(ctx: Any, a: Tensor, b: Tensor) -> Tensor:
        per_a, per_b = _inverse_length(a), _inverse_length(b)
        u = torch.mul(a, per_a, out=torch.empty_like(a))
        v = torch.mul(b, per_b, out=torch.empty_like(b))
        w = torch.sub(u, v, out=v)
        s: Tensor = torch.linalg.vector_norm(w, dim=1, keepdim=True, dtype=torch.float32).square()
        ctx.save_for_backward(u, w, s, per_a, per_b)
        return s

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, Tensor | None]:
        u, w, s, per_a, per_b = ctx.saved_tensors
        s = s.to(u.dtype)
        to_a = to_b = None
        if ctx.needs_input_grad[0]:
            slope = torch.addcmul(w, u, s, value=-0.5)
            to_a = torch.mul(slope, 2 * grad * per_a, out=slope)
        if ctx.needs_input_grad[1]:
            slope = torch.addcmul(w, u - w, s, value=0.5)
            to_b = torch.mul(slope, -2 * grad * per_b, out=slope)
        return to_a, to_b


def _distance(a: Tensor, b: Tensor) -> Tensor:
    """Squared distance of the unit vectors over channels: (B, C, H, W) twice -> (B, H, W)."""
    halves = a.dtype == b.dtype and a.dtype in (torch.bfloat16, torch.float16)
    copies = a.device.type == "cpu" or torch.compiler.is_compiling()  # the translator fuses them
    kind = _HalfUnitDistance if halves and not copies else _UnitDistance
    distance: Tensor = kind.apply(a, b)  # type: ignore[no-untyped-call]
    return distance.squeeze(1)


def _inverse_length(x: Tensor) -> Tensor:
    length: Tensor = torch.linalg.vector_norm(x, dim=1, keepdim=True, dtype=torch.float32)  # (B, 1, H, W)
    return (length.square() + EPSILON).rsqrt()


class _Lpips(nn.Module):
    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        distance: Tensor = self.network(a, b)  # (B, 1, 1, 1)
        return distance.flatten()


def _load_squeezenet(path: Path) -> nn.Module:
    network = SqueezeNetDistance()
    try:
        weights = load_file(str(path))
    except (OSError, SafetensorError) as error:
        raise TrainingError(
            f"cannot read the perceptual network {path}: {error}; set `perceptual` anew"
        ) from error
    try:
        # A file may hold the classifier as well, which no distance needs.
        network.load_state_dict({k: v.float() for k, v in weights.items() if not k.startswith("conv10.")})
    except RuntimeError as error:
        detail = " ".join(str(error).split())
        raise CheckpointError(f"{path} does not hold the features of SqueezeNet 1.0: {detail}") from error
    return network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]


def _load_lpips() -> nn.Module:
    try:
        package = importlib.import_module("lpips")
    except ImportError as error:
        raise TrainingError('perceptual = "lpips" needs the package: pip install lpips') from error
    try:
        return _Lpips(package.LPIPS(net="alex", verbose=False))
    except (OSError, RuntimeError) as error:
        raise TrainingError(
            f"cannot get the AlexNet weights of lpips ({error}); connect once, or set `perceptual` to a file"
        ) from error

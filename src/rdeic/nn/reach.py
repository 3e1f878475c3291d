"""How far an output of a convolutional network sees: the largest distance to an input that it depends on."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

Net = TypeVar("Net", bound=nn.Module)


def reach(net: Net, example: Tensor, work: Callable[[Net, Tensor], Any] | None = None) -> int:
    """Positions of `example` (B, C, h, w), rounded up: the sum over all convolutions that `work` runs through.

    Without `work` it is `net` itself. Where branches are side by side the sum is more than there is. Only the shape of
    `example` counts; attention and norms over positions do not: they have no end.
    """
    # Of hooks in the network itself, other threads would know. The copy has the same weights.
    watched = copy.deepcopy(net, {id(one): one for one in (*net.parameters(), *net.buffers())})
    total = 0.0

    def add(layer: nn.Module, inputs: tuple[Tensor, ...], _: Any) -> None:
        nonlocal total
        total += side_reach(layer) * example.shape[3] / inputs[0].shape[3]

    for layer in watched.modules():
        if hasattr(layer, "padding"):
            layer.register_forward_hook(add)
    with torch.no_grad():
        work(watched, example) if work else watched(example)
    return math.ceil(total)


def chain_reach(net: nn.Module) -> int:
    """`reach` of convolutions one after the other that all keep the resolution, exact ones too."""
    return sum(side_reach(layer) for layer in net.modules() if hasattr(layer, "padding"))


def side_reach(layer: nn.Module) -> int:
    """Of one convolution, the longer of both sides."""
    if not isinstance(layer, nn.Conv2d):  # exact ones: odd kernels, and the resolution stays
        return int(layer.padding)  # type: ignore[arg-type]
    before, kernel, stride = int(layer.padding[0]), layer.kernel_size[0], layer.stride[0]
    return max(before, kernel - stride - before)

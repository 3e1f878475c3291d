"""Counts what networks compute and move, as a GPU would, on their shapes."""

from __future__ import annotations

import weakref
from collections import Counter
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import flop_registry

from rdeic.model.model import Rdeic
from rdeic.nn.norm import GroupNorm

CHANNELS_LAST = torch.channels_last
PRODUCTS = ("mm", "addmm", "bmm", "baddbmm", "baddbmm_")
LIBRARY_LAUNCHES, LIBRARY_PASSES = 3, 3  # of a group norm, the copy before it not included
KERNEL_LAUNCHES, KERNEL_PASSES = 3, 3


class Tally(TorchDispatchMode):
    """Counts what is dispatched while it is entered."""

    def __init__(self, kernels: bool) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.kernels = kernels
        self.operations, self.peak = 0.0, 0
        self.bytes, self.launches = Counter[str](), Counter[str]()
        self.norm_input: int | None = None  # bytes, while inside of a norm
        self._alive, self._holders = 0, Counter[int]()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        name = func._schema.name.removeprefix("aten::")
        made = [value for value in tree_leaves(result) if isinstance(value, Tensor)]
        for value in made:
            self._watch(value)
        packet = torch.ops.aten.baddbmm if name == "baddbmm_" else func._overloadpacket
        if packet in flop_registry:
            self.operations += float(flop_registry[packet](*args, **(kwargs or {}), out_val=result))
        if not (func.is_view or name.startswith("empty") or name in ("_unsafe_view", "detach")):
            given = [value for value in tree_leaves((args, kwargs)) if isinstance(value, Tensor)]
            self._launch(name, given, made)
        return result

    def add(self, kind: str, moved: int, launches: int = 1) -> None:
        self.bytes[kind] += moved
        self.launches[kind] += launches

    def _launch(self, name: str, given: list[Tensor], made: list[Tensor]) -> None:
        moved = sum(map(_size, given)) + sum(map(_size, made))
        if self.norm_input is not None:
            if name == "native_group_norm":
                self.add("norm", LIBRARY_PASSES * self.norm_input, LIBRARY_LAUNCHES)
            elif not self.kernels:
                self.add("norm", moved)
        elif name == "convolution":
            self.add("products", sum(map(_size, given[:2])) + _size(made[0]))
            if len(given) == 3:
                self.add("bias", 2 * _size(made[0]))
        else:
            self.add("products" if name in PRODUCTS else "other", moved)

    def _watch(self, value: Tensor) -> None:
        storage = value.untyped_storage()
        key, size = storage._cdata, storage.nbytes()
        if not self._holders[key]:
            self._alive += size
            self.peak = max(self.peak, self._alive)
        self._holders[key] += 1
        weakref.finalize(value, self._release, key, size)

    def _release(self, key: int, size: int) -> None:
        self._holders[key] -= 1
        if not self._holders[key]:
            self._alive -= size


def _size(x: Tensor) -> int:
    return x.numel() * x.element_size()


class FusedAttention(TorchFunctionMode):
    """Attention as one launch, whatever the device would make of it."""

    def __init__(self, tally: Tally) -> None:
        super().__init__()
        self.tally = tally

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is not torch.nn.functional.scaled_dot_product_attention:
            return func(*args, **(kwargs or {}))
        q, k, v = args
        self.tally.add("attention", _size(q) + _size(k) + _size(v) + _size(q))
        self.tally.operations += 4.0 * q.shape[:-1].numel() * k.shape[-2] * q.shape[-1]
        return torch.empty_like(q)


def instrument(model: Rdeic, tally: Tally, fused: bool) -> None:
    """Layers that tell when a norm begins and ends, and convolutions that lay out as cuDNN's do."""

    def begin(_: nn.Module, arguments: tuple[Tensor, ...]) -> None:
        tally.norm_input = _size(arguments[0])

    def end(_: nn.Module, arguments: tuple[Tensor, ...], result: Tensor) -> None:
        if fused and tally.kernels:
            tally.add("norm", KERNEL_PASSES * _size(arguments[0]), KERNEL_LAUNCHES)
        tally.norm_input = None

    def lay_out(_: nn.Module, arguments: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        (x,) = arguments
        if x.is_contiguous(memory_format=CHANNELS_LAST):
            return arguments
        tally.add("norm", 2 * _size(x))
        return (_as_channels_last(x),)

    def laid_out(_: nn.Module, arguments: tuple[Tensor, ...], result: Tensor) -> Tensor:
        return _as_channels_last(result)

    for layer in model.modules():
        if isinstance(layer, GroupNorm):
            layer.fused = fused
            layer.register_forward_pre_hook(begin)
            layer.register_forward_hook(end)
        elif isinstance(layer, nn.Conv2d):
            layer.register_forward_pre_hook(lay_out)
            layer.register_forward_hook(laid_out)


def _as_channels_last(x: Tensor) -> Tensor:
    """What the device would have made in the first place, so not counted."""
    return torch.empty_like(x, memory_format=CHANNELS_LAST)

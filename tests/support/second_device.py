"""A device that every machine has: its tensors compute on the CPU, and refuse what those of a GPU refuse.

torch's own `meta` device is no substitute. Matrix products, look-ups and convolutions mix its tensors with those of the
CPU without a word, and it holds no values, so that nothing can be coded there. Here the values are in CPU tensors that
nobody else sees, and an operation on tensors of both devices raises RuntimeError as CUDA does, which also lets a CPU
tensor of one value pass among others that it is added to or multiplied with.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import pytest
import torch
from torch import Tensor
from torch.utils import _foreach_utils, backend_registration
from torch.utils._python_dispatch import TorchDispatchMode, return_and_correct_aliasing

if not hasattr(backend_registration, "_setup_privateuseone_for_python_backend"):
    pytest.skip("this torch cannot have devices written in Python", allow_module_level=True)

NAME = "second"
MOVE, COPY = torch.ops.aten._to_copy.default, torch.ops.aten.copy_.default
CPU = torch.device("cpu")


class Limits(NamedTuple):
    """What the device cannot do."""

    float64: bool  # whether it knows numbers of that kind
    largest: int  # bytes: a larger tensor does not fit into its memory


class Backend:
    """What torch asks of a device's module, such as `torch.cuda`."""

    def __init__(self) -> None:
        self.held_when_emptied: list[int] = []  # bytes in tensors, each time

    def empty_cache(self) -> None:
        self.held_when_emptied.append(held())

    def is_initialized(self) -> bool:
        return True

    def is_available(self) -> bool:
        return True

    def current_device(self) -> int:
        return 0

    def device_count(self) -> int:
        return 1

    def manual_seed_all(self, seed: int) -> None:
        pass

    def _is_in_bad_fork(self) -> bool:
        return False

    def get_amp_supported_dtype(self) -> list[torch.dtype]:
        return [torch.bfloat16, torch.float16]


BACKEND = Backend()
backend_registration._setup_privateuseone_for_python_backend(NAME, backend_module=BACKEND)
DEVICE = torch.device(NAME, 0)


class There(Tensor):
    """A tensor on the device."""

    values: Tensor  # on the CPU
    __torch_function__ = torch._C._disabled_torch_function_impl

    @staticmethod
    def __new__(cls, values: Tensor) -> There:
        with torch.inference_mode(False):  # or views of weights would be of another kind than the weights
            made: There = Tensor._make_wrapper_subclass(
                cls,
                values.size(),
                strides=values.stride(),
                storage_offset=values.storage_offset(),
                dtype=values.dtype,
                device=DEVICE,
            )
        made.values = values
        _alive.add(made)
        return made

    def __repr__(self, *, tensor_contents: object = None) -> str:
        return f"There({self.values!r})"

    @property
    def data(self) -> Tensor:
        return self.detach()

    @data.setter
    def data(self, value: There) -> None:
        Tensor.data.__set__(self, value)
        self.values = value.values

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return _dispatch(func, args, kwargs or {}, Limits(True, 1 << 62))


_alive: weakref.WeakSet[There] = weakref.WeakSet()
_foreach_utils._foreach_supported_types.append(There)


class Generator(torch.Generator):
    """Of any device, as far as anyone can see: torch has none for devices written in Python."""

    device: torch.device = CPU

    def __new__(cls, device: torch.device | str = CPU) -> Generator:
        made: Generator = super().__new__(cls)
        made.device = torch.device(device)
        return made


class _Mode(TorchDispatchMode):
    """Sees every operation, also those that only make tensors or take them to the device."""

    def __init__(self, limits: Limits) -> None:
        super().__init__()
        self.limits = limits

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        given = (*args, *kwargs.values())
        if not any(isinstance(one, There) for one in _tensors(given)) and not any(
            isinstance(one, torch.device) for one in given
        ):
            return func(*args, **kwargs)
        # Under `inference_mode` operations come whole that are otherwise broken down before they come here.
        with self:
            parts = func.decompose(*args, **kwargs)
        return _dispatch(func, args, kwargs, self.limits) if parts is NotImplemented else parts


def _dispatch(func: Any, args: Any, kwargs: dict[str, Any], limits: Limits) -> Any:
    tensors = [*_tensors(args), *_tensors(kwargs.values())]
    there = any(isinstance(one, There) for one in (tensors[:1] if func is COPY else tensors))
    if kwargs.get("device") is not None:
        there = torch.device(kwargs["device"]).type == NAME
    if func not in (COPY, MOVE):
        _refuse_mixtures(func, tensors)
    inner = {name: _each(_values, value) for name, value in kwargs.items()}
    if there and "device" in kwargs:
        inner["device"] = CPU
    out = func(*_each(_values, args), **inner)
    if not there:
        return out
    return return_and_correct_aliasing(func, args, kwargs, _each(lambda one: _placed(one, limits), out))


def _refuse_mixtures(func: Any, tensors: list[Tensor]) -> None:
    scalars = torch.Tag.pointwise in func.tags
    if any(isinstance(one, There) for one in tensors):
        for one in tensors:
            if not isinstance(one, There) and (one.dim() or not scalars):
                raise RuntimeError(f"Expected all tensors to be on the same device: {func}, {DEVICE} and cpu")


def _tensors(values: Iterable[Any]) -> Iterator[Tensor]:
    for value in values:
        if isinstance(value, Tensor):
            yield value
        elif isinstance(value, list | tuple):
            yield from _tensors(value)


def _each(change: Callable[[Tensor], Tensor], value: Any) -> Any:
    """`value` with its tensors changed."""
    if isinstance(value, Tensor):
        return change(value)
    return type(value)(_each(change, one) for one in value) if isinstance(value, list | tuple) else value


def _values(one: Tensor) -> Tensor:
    return one.values if isinstance(one, There) else one


def _placed(one: Tensor, limits: Limits) -> Tensor:
    if one.dtype == torch.float64 and not limits.float64:
        raise TypeError(f"{DEVICE} has no float64")
    if one.nbytes > limits.largest:
        raise torch.OutOfMemoryError(f"{NAME} out of memory. Tried to allocate {one.nbytes} bytes.")
    return There(one)


def held() -> int:
    """Bytes in the device's tensors."""
    storages = {
        one.values.untyped_storage().data_ptr(): one.values.untyped_storage().nbytes() for one in _alive
    }
    return sum(storages.values())


@contextmanager
def second_device(float64: bool = True, largest: int = 1 << 62) -> Iterator[torch.device]:
    """The device, which works inside the `with` block only, and only for the thread that entered it."""
    lifted = torch._C._only_lift_cpu_tensors()
    torch._C._set_only_lift_cpu_tensors(True)  # torch.tensor(..., device) then goes by way of the CPU
    try:
        # torch starts its threads for backward passes once, for the devices that it knows by then.
        with torch.autograd.set_multithreading_enabled(False), _Mode(Limits(float64, largest)):
            yield DEVICE
    finally:
        torch._C._set_only_lift_cpu_tensors(lifted)

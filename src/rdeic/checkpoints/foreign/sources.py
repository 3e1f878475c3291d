"""Foreign weight files, opened so that a tensor is read when it is fetched and not before."""

from __future__ import annotations

import contextlib
import pickle
import zipfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from rdeic.checkpoints.checkpoints import Shape
from rdeic.errors import CheckpointError


class Weights(NamedTuple):
    """The tensors of one file, read one at a time."""

    where: str
    shapes: Mapping[str, Shape]
    fetch: Callable[[str], Tensor]  # maps the file; valid while it is open


@contextlib.contextmanager
def open_weights(path: Path) -> Iterator[Weights]:
    """A `.safetensors` file, or a `.ckpt`, `.pt`, `.pth` or `.bin` pickle. Raises CheckpointError if it is neither."""
    try:
        with _open_safetensors(path) if path.suffix == ".safetensors" else _open_pickle(path) as weights:
            yield weights
    except (OSError, SafetensorError, RuntimeError, EOFError) as error:
        raise CheckpointError(f"{path}: cannot be read as weights: {error}") from error


@contextlib.contextmanager
def _open_safetensors(path: Path) -> Iterator[Weights]:
    with safe_open(str(path), framework="pt") as file:
        shapes = {name: tuple(file.get_slice(name).get_shape()) for name in file.keys()}  # noqa: SIM118
        yield Weights(str(path), shapes, file.get_tensor)


@contextlib.contextmanager
def _open_pickle(path: Path) -> Iterator[Weights]:
    state = _state_dict(path)
    yield Weights(str(path), {name: tuple(value.shape) for name, value in state.items()}, state.__getitem__)
    state.clear()  # unmaps the file, whoever still holds the object


class _Inert:
    """Stands in for a class of a training framework among a checkpoint's other entries: holds and does nothing."""

    def __new__(cls, *_: object, **__: object) -> _Inert:
        return object.__new__(cls)

    def __init__(self, *_: object, **__: object) -> None:
        pass

    def __setstate__(self, state: object) -> None:
        pass


def _state_dict(path: Path) -> dict[str, Tensor]:
    """The tensors of a pickle, memory-mapped where its format allows. No code in it is run."""
    mapped = zipfile.is_zipfile(path)
    try:
        strange = torch.serialization.get_unsafe_globals_in_checkpoint(path) if mapped else []
        inert = [(_Inert, name) for name in strange]
        with torch.serialization.safe_globals(_distinct(inert)):
            content = torch.load(path, map_location="cpu", weights_only=True, mmap=mapped)
    except (pickle.UnpicklingError, ValueError) as error:  # the latter of TorchScript
        raise CheckpointError(
            f"{path}: holds more than weights ({str(error).splitlines()[0]}); "
            "have whoever you trust with it save its state_dict as .safetensors"
        ) from error
    state = content.get("state_dict", content) if isinstance(content, dict) else content
    if not isinstance(state, dict) or not state:
        raise CheckpointError(f"{path}: holds no tensors by name")
    strays = [str(name) for name, value in state.items() if not isinstance(value, Tensor)]
    if strays:
        raise CheckpointError(f"{path}: {strays[0]} among its weights is no tensor")
    return dict(state)


def _distinct(inert: list[tuple[type[_Inert], str]]) -> list[Any]:
    """A class of its own for every name, as the table of permitted names asks for."""
    return [(type(name.rpartition(".")[2], (kind,), {}), name) for kind, name in inert]

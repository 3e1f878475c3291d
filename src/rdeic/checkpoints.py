"""Model folders: `config.json` and weights in one file or several, loaded strictly."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save
from torch import Tensor

from rdeic import registry
from rdeic.config import to_json
from rdeic.errors import CheckpointError
from rdeic.files import atomic_write
from rdeic.model import Rdeic

Shape = tuple[int, ...]

_LISTED = 8  # keys named in an error before the rest is counted


def save_model(model: Rdeic, folder: Path, dtype: torch.dtype = torch.float32) -> None:
    """Write a model folder; floating-point weights are stored as `dtype`."""
    folder.mkdir(parents=True, exist_ok=True)
    state = {key: _stored(value, dtype) for key, value in model.state_dict().items()}
    atomic_write(folder / registry.WEIGHTS_FILE, save(state))  # `save_file` would make it private, mode 0600
    atomic_write(folder / registry.CONFIG_FILE, to_json(model.config).encode())


def _stored(value: Tensor, dtype: torch.dtype) -> Tensor:
    value = value.detach().cpu()
    return (value.to(dtype) if value.is_floating_point() else value).contiguous()


def load_model(folder: Path, device: torch.device | str, sibling: Rdeic | None = None) -> tuple[Rdeic, bytes]:
    """The model in `folder`, float32 and ready to code, and its fingerprint.

    `sibling` is another rate of the same model on the same device: what lies outside `folder` is shared with it.

    Raises ConfigError for a folder that is no model, CheckpointError for weights that do not fit its configuration.
    """
    model = _assembled(folder, sibling)
    model.to(device, memory_format=torch.channels_last).prepare()  # type: ignore[call-overload]
    return model, registry.fingerprint(folder)


def _assembled(folder: Path, sibling: Rdeic | None) -> Rdeic:
    """The model as stored. A function of its own, so that moving it elsewhere does not hold two copies in memory."""
    with torch.device("meta"):
        model = Rdeic(registry.describe(folder).config)
    state: dict[str, Tensor] = {}
    for path in registry.weight_files(folder):
        if sibling is None or path.parent.resolve() == folder.resolve():
            state |= _read(path)
        else:
            state |= _like(path, sibling)
    require_fit(shapes_of(model.state_dict()), shapes_of(state), str(folder))
    model.load_state_dict(state, assign=True)
    return model


def _read(path: Path) -> dict[str, Tensor]:
    """The tensors of one file, floating-point ones as float32."""
    try:
        state = load_file(str(path))
    except (SafetensorError, OSError) as error:
        raise CheckpointError(f"{path}: cannot be read as weights: {error}") from error
    return {key: value.float() if value.is_floating_point() else value for key, value in state.items()}


def _like(path: Path, sibling: Rdeic) -> dict[str, Tensor]:
    """What is in the file `path`, taken from a model that has read it."""
    known = sibling.state_dict()
    try:
        with safe_open(str(path), framework="pt") as file:
            return {key: known[key] for key in file.keys() if key in known}  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        raise CheckpointError(f"{path}: cannot be read as weights: {error}") from error


def shapes_of(state: Mapping[str, Tensor]) -> dict[str, Shape]:
    """What `require_fit` compares."""
    return {key: tuple(value.shape) for key, value in state.items()}


def require_fit(expected: Mapping[str, Shape], found: Mapping[str, Shape], source: str) -> None:
    """Raise CheckpointError that lists missing, unexpected and misshaped keys, unless there are none."""
    misshaped = [
        f"{key} {found[key]} instead of {expected[key]}"
        for key in sorted(expected.keys() & found.keys())
        if expected[key] != found[key]
    ]
    missing, unexpected = sorted(expected.keys() - found.keys()), sorted(found.keys() - expected.keys())
    faults = [("missing", missing), ("unexpected", unexpected), ("misshaped", misshaped)]
    complaints = [f"{len(keys)} {what}: {_some(keys)}" for what, keys in faults if keys]
    if complaints:
        raise CheckpointError(f"{source} does not fit the network; {'; '.join(complaints)}")


def _some(keys: list[str]) -> str:
    rest = len(keys) - _LISTED
    return ", ".join(keys[:_LISTED]) + (f" and {rest} more" if rest > 0 else "")

"""Model folders: `config.json` and weights in one file or several, loaded strictly."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from rdeic.checkpoints import registry
from rdeic.config import to_json
from rdeic.errors import CheckpointError
from rdeic.model.model import Rdeic
from rdeic.system.files import atomic_write

Shape = tuple[int, ...]

_SAMPLE = "unet.conv_out.weight"  # one of those that `Rdeic.set_precision` is about
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


def load_model(
    folder: Path,
    device: torch.device | str,
    sibling: Rdeic | None = None,
    precision: torch.dtype | None = None,
    analysis: torch.dtype | None = None,
) -> tuple[Rdeic, bytes]:
    """The model in `folder`, ready to code, and its fingerprint.

    `precision` and `analysis` are those of `Rdeic.set_precision`; None means as the weights are stored, but float32 on
    the CPU and for `analysis`. `sibling` is another rate of the same model on the same device: what lies outside
    `folder` is shared with it, and so is its precision.

    Raises ConfigError for a folder that is no model, CheckpointError for weights that do not fit its configuration.
    """
    if sibling is not None:
        precision, analysis = sibling.precision, sibling.analysis_precision
    elif precision is None:
        precision = torch.float32 if torch.device(device).type == "cpu" else stored_precision(folder)
    with torch.device("meta"):
        model = Rdeic(registry.describe(folder).config).set_precision(precision, analysis or torch.float32)
    expected = model.state_dict()
    state: dict[str, Tensor] = {}
    for path in registry.weight_files(folder):
        if sibling is None or path.parent.resolve() == folder.resolve():
            state |= _read(path, expected, torch.device(device))
        else:
            state |= _like(path, sibling)
    require_fit(shapes_of(expected), shapes_of(state), str(folder))
    model.load_state_dict(state, assign=True)
    return model.prepare(), registry.fingerprint(folder)


def check(folder: Path) -> None:
    """Whether `load_model` would find what it needs, by the files' headers alone. Raises what `load_model` raises."""
    with torch.device("meta"):
        expected = Rdeic(registry.describe(folder).config).state_dict()
    found: dict[str, Shape] = {}
    for path in registry.weight_files(folder):
        with _opened(path) as file:  # which compares the file's length with its header
            found |= {key: tuple(file.get_slice(key).get_shape()) for key in file.keys()}  # noqa: SIM118
    require_fit(shapes_of(expected), found, str(folder))


def stored_precision(folder: Path) -> torch.dtype:
    """The precision in which `folder` stores the noise estimator's weights. Raises ConfigError and CheckpointError."""
    for path in registry.weight_files(folder):
        with _opened(path) as file:
            if _SAMPLE in file.keys():  # noqa: SIM118
                dtype: torch.dtype = file.get_tensor(_SAMPLE).dtype
                return dtype
    raise CheckpointError(f"{folder} does not fit the network; 1 missing: {_SAMPLE}")


def _read(path: Path, expected: Mapping[str, Tensor], device: torch.device) -> dict[str, Tensor]:
    """The tensors of one file on `device`, those of `expected` in the precision they have there."""
    with _opened(path) as file:
        return {
            key: _placed(file.get_tensor(key), expected[key].dtype if key in expected else None, device)
            for key in file.keys()  # noqa: SIM118
        }


def _placed(value: Tensor, dtype: torch.dtype | None, device: torch.device) -> Tensor:
    """At once as the model needs it: converting a whole model later would hold it twice."""
    if value.dim() == 4:
        return value.to(device, dtype, memory_format=torch.channels_last)
    return value.to(device, dtype)


def _like(path: Path, sibling: Rdeic) -> dict[str, Tensor]:
    """What is in the file `path`, taken from a model that has read it."""
    known = sibling.state_dict()
    with _opened(path) as file:
        return {key: known[key] for key in file.keys() if key in known}  # noqa: SIM118


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[Any]:
    try:
        with safe_open(str(path), framework="pt") as file:
            yield file
    except (SafetensorError, OSError) as error:
        raise CheckpointError(f"{path}: cannot be read as weights: {error}") from error


def shapes_of(state: Mapping[str, Tensor]) -> dict[str, Shape]:
    """The shape of every tensor, for `require_fit`."""
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

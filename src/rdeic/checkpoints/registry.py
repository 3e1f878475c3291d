"""Which models are installed: folders with `config.json` and weights, in the package and in RDEIC_MODELS. No torch.

The weights are one file, or several and an index (an imported model). A folder may also hold one such model for each
of several rates, in folders of their own that `rates.json` lists; these share files through their indexes.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import json
import os
from pathlib import Path
from typing import Any, NamedTuple

from rdeic import config
from rdeic.config import ModelConfig
from rdeic.container.container import FINGERPRINT_BYTES
from rdeic.errors import ConfigError

CONFIG_FILE = "config.json"
WEIGHTS_FILE = "model.safetensors"
INDEX_FILE = "model.safetensors.index.json"
RATES_FILE = "rates.json"
MODELS_VARIABLE = "RDEIC_MODELS"  # of the environment: the user's folder of model folders
_PACKAGED = Path(__file__).parents[1] / "weights"


class Installed(NamedTuple):
    """One model on this machine."""

    name: str
    folder: Path
    config: ModelConfig
    weight_bytes: int


def folders() -> list[Path]:
    """What looks like a model folder in the package and in the folder that RDEIC_MODELS names, by name."""
    own = os.environ.get(MODELS_VARIABLE)
    places = [_PACKAGED, Path(own)] if own else [_PACKAGED]
    return [path.parent for place in places for path in sorted(place.glob(f"*/{CONFIG_FILE}"))]


def installed() -> list[Installed]:
    """The models in `folders`; what is none, or broken, is passed over (`rdeic models` says why)."""
    found = []
    for folder in folders():
        with contextlib.suppress(ConfigError):
            found.append(describe(folder))
    return found


def find(model: str | Path) -> Path:
    """The folder of an installed model's name, or of the path itself.

    Raises ConfigError, listing what is installed, if there is neither.
    """
    known = folders()
    for folder in (*(one for one in known if one.name == str(model)), Path(model)):
        if (folder / CONFIG_FILE).is_file() and any(
            (folder / name).is_file() for name in (WEIGHTS_FILE, INDEX_FILE, RATES_FILE)
        ):
            return folder
    names = ", ".join(folder.name for folder in known) or "none"
    raise ConfigError(
        f"no model {str(model)!r}: give an installed one ({names}), a folder with {CONFIG_FILE} and weights, "
        f"or set {MODELS_VARIABLE} to the folder that it is in"
    )


def lasting_name(folder: Path) -> str:
    """What `find` finds a model folder by in another process too: the name of a packaged one, or else the path."""
    return folder.name if folder.parent == _PACKAGED else str(folder.resolve())


def rates(folder: Path) -> list[Path]:
    """The model folders of each rate, lowest first; just `folder` where there is one rate. Raises ConfigError."""
    path = folder / RATES_FILE
    if not path.is_file():
        return [folder]
    names = _read_json(path)
    if not isinstance(names, list) or not names or not all(isinstance(name, str) for name in names):
        raise ConfigError(f"{path}: expected a list of folders")
    return [folder / name for name in names]


def own_bytes(rate: Path) -> int:
    """Size of the weights in a rate's own folder, not shared with other rates. Raises ConfigError."""
    own = (path for path in weight_files(rate) if path.parent.resolve() == rate.resolve())
    try:
        return sum(path.stat().st_size for path in own)
    except OSError as error:
        raise ConfigError(f"{rate} is not a model folder: {error}") from error


class Index(NamedTuple):
    """Where the weights of a model lie that has several files."""

    fingerprint: bytes
    files: tuple[Path, ...]


def index(folder: Path) -> Index | None:
    """The index of a model folder; None where the weights are one file. Raises ConfigError if it is broken."""
    path = folder / INDEX_FILE
    if not path.is_file():
        return None
    content = _read_json(path)
    try:
        names = sorted(set(content["weight_map"].values()))
        return Index(
            bytes.fromhex(content["metadata"]["fingerprint"]), tuple(folder / name for name in names)
        )
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise ConfigError(f"{path}: not an index of weights ({error})") from error


def _read_json(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ConfigError(f"{path}: cannot be read: {error}") from error


def weight_files(folder: Path) -> tuple[Path, ...]:
    """The files that hold a model's weights. Raises ConfigError for a broken index."""
    listed = index(folder)
    return (folder / WEIGHTS_FILE,) if listed is None else listed.files


def fingerprint(folder: Path) -> bytes:
    """The 4 bytes by which files name the model: the head of its weights' SHA-256. Raises ConfigError.

    Of one file that is computed; an index states it, and is trusted.
    """
    listed = index(folder)
    if listed is not None:
        return listed.fingerprint
    path = folder / WEIGHTS_FILE
    try:
        status = path.stat()
        return _digest(path.resolve(), (status.st_ino, status.st_size, status.st_mtime_ns))
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror}") from error


@functools.lru_cache(maxsize=64)
def _digest(path: Path, state: tuple[int, int, int]) -> bytes:
    """Of a file, read once for each `state` of it: restoring one picture asks twice."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").digest()[:FINGERPRINT_BYTES]


def describe(folder: Path) -> Installed:
    """What lies in a model folder. Raises ConfigError if it is not one."""
    try:
        text = (folder / CONFIG_FILE).read_text(encoding="utf-8")
        files = {path.resolve() for one in rates(folder) for path in weight_files(one)}
        size = sum(path.stat().st_size for path in files)
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{folder} is not a model folder: {error}") from error
    try:
        return Installed(folder.name, folder, config.from_json(text), size)
    except ConfigError as error:
        raise ConfigError(f"{folder / CONFIG_FILE}: {error}") from error

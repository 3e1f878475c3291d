"""Which models are installed: folders with `config.json` and weights, embedded, in RDEIC_MODELS or in wheels. No torch.

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
from rdeic.checkpoints import model_wheels
from rdeic.checkpoints.model_wheels import Wheel
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


class Place(NamedTuple):
    """A folder of model folders."""

    origin: str  # "embedded", RDEIC_MODELS, or distribution and version of a wheel
    folder: Path


def places() -> list[Place]:
    """The package's own, the one that RDEIC_MODELS names, and those of wheels; where names meet, the first is meant."""
    own = os.environ.get(MODELS_VARIABLE)
    found = [Place("embedded", _PACKAGED)]
    if own:
        found.append(Place(MODELS_VARIABLE, Path(own)))
    wheels = model_wheels.installed()
    return found + [Place(f"{one.distribution} {one.version}", one.folder) for one in wheels if one.folder]


def folders() -> list[Path]:
    """What looks like a model folder in `places`, in their order and by name."""
    return [path.parent for place in places() for path in sorted(place.folder.glob(f"*/{CONFIG_FILE}"))]


def origin(folder: Path) -> str:
    """Of `places`, the one that a model folder lies in; empty for any other folder."""
    return next((place.origin for place in places() if place.folder == folder.parent), "")


def hollow() -> list[Wheel]:
    """Wheels that say they bring models and hold none."""
    wheels = model_wheels.installed()
    return [one for one in wheels if one.folder is None or not any(one.folder.glob(f"*/{CONFIG_FILE}"))]


def installed() -> list[Installed]:
    """The models in `folders`; what is none, or broken, is passed over (`rdeic models` says why)."""
    found = []
    for folder in folders():
        with contextlib.suppress(ConfigError):
            found.append(describe(folder))
    return found


def find(model: str | Path) -> Path:
    """The folder of an installed model's name, or of the path itself.

    A name may have a fingerprint behind it, as in mini-d64bffe1, which tells several of one name apart.

    Raises ConfigError, listing what is installed, if there is neither.
    """
    known = folders()
    for folder in (*(one for one in known if _is_called(one, str(model))), Path(model)):
        if (folder / CONFIG_FILE).is_file() and any(
            (folder / name).is_file() for name in (WEIGHTS_FILE, INDEX_FILE, RATES_FILE)
        ):
            return folder
    names = ", ".join(dict.fromkeys(folder.name for folder in known)) or "none"
    raise ConfigError(
        f"no model {str(model)!r}: give an installed one ({names}), a folder with {CONFIG_FILE} and weights, "
        f"or set {MODELS_VARIABLE} to the folder that it is in"
    )


def _is_called(folder: Path, name: str) -> bool:
    """By its name alone, or with the fingerprint of one of its rates behind it."""
    head, _, tail = name.rpartition("-")
    if head != folder.name:
        return folder.name == name
    with contextlib.suppress(ConfigError):
        return tail in (fingerprint(rate).hex() for rate in rates(folder))
    return False


def in_wheel(folder: Path) -> bool:
    """Whether a model folder is a wheel's, where several may have one name."""
    return any(wheel.folder == folder.parent for wheel in model_wheels.installed())


def lasting_name(folder: Path) -> str:
    """What `find` finds a model folder by in another process too: name, name and fingerprint of a wheel's, or path."""
    if folder.parent == _PACKAGED:
        return folder.name
    if in_wheel(folder):
        return f"{folder.name}-{fingerprint(rates(folder)[0]).hex()}"
    return str(folder.resolve())


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

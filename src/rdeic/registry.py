"""Which models are installed: folders with `config.json` and `model.safetensors`. No torch."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import NamedTuple

from rdeic import config
from rdeic.config import ModelConfig
from rdeic.container import FINGERPRINT_BYTES
from rdeic.errors import ConfigError

CONFIG_FILE = "config.json"
WEIGHTS_FILE = "model.safetensors"
_PACKAGED = Path(__file__).with_name("weights")


class Installed(NamedTuple):
    """One model on this machine."""

    name: str
    folder: Path
    config: ModelConfig
    weight_bytes: int


def installed() -> list[Installed]:
    """The models in the package, by name. Raises ConfigError if one of them has a broken configuration."""
    folders = sorted(path.parent for path in _PACKAGED.glob(f"*/{WEIGHTS_FILE}"))
    return [describe(folder) for folder in folders]


def find(model: str | Path) -> Path:
    """The folder of an installed model's name, or of the path itself.

    Raises ConfigError, listing what is installed, if there is neither.
    """
    for folder in (_PACKAGED / model, Path(model)):
        if (folder / WEIGHTS_FILE).is_file() and (folder / CONFIG_FILE).is_file():
            return folder
    names = ", ".join(path.parent.name for path in sorted(_PACKAGED.glob(f"*/{WEIGHTS_FILE}"))) or "none"
    raise ConfigError(
        f"no model {str(model)!r}: give an installed one ({names}) or a folder with {CONFIG_FILE} and {WEIGHTS_FILE}"
    )


def fingerprint(folder: Path) -> bytes:
    """The 4 bytes by which files name the model: the head of its weight file's SHA-256. Raises ConfigError."""
    try:
        with (folder / WEIGHTS_FILE).open("rb") as stream:
            return hashlib.file_digest(stream, "sha256").digest()[:FINGERPRINT_BYTES]
    except OSError as error:
        raise ConfigError(f"{folder / WEIGHTS_FILE}: cannot be read: {error.strerror}") from error


def describe(folder: Path) -> Installed:
    """What lies in a model folder. Raises ConfigError if it is not one."""
    try:
        text = (folder / CONFIG_FILE).read_text(encoding="utf-8")
        size = (folder / WEIGHTS_FILE).stat().st_size
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{folder} is not a model folder: {error}") from error
    try:
        return Installed(folder.name, folder, config.from_json(text), size)
    except ConfigError as error:
        raise ConfigError(f"{folder / CONFIG_FILE}: {error}") from error

"""Pictures of a folder, prepared as a protocol says."""

from __future__ import annotations

import contextlib
import hashlib
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

from rdeic.container.container import MAX_PIXELS
from rdeic.errors import ConfigError, ImageError
from rdeic.pictures import images
from rdeic.pictures.images import Picture

AS_IS = "as-is"  # Kodak
CROP_768 = "crop-768"  # Tecnick, CLIC2020: the shorter side is resized to 768, and a 768x768 square cut from the centre
PROTOCOLS = (AS_IS, CROP_768)
_SIDE = 768  # pixels


class Entry(NamedTuple):
    """One picture of a data set, not read yet."""

    name: str  # path within the folder, with forward slashes
    path: Path
    digest: str  # of the file


def scan(folder: Path) -> list[Entry]:
    """All pictures below a folder that are not hidden, by name. Raises ConfigError if there are none."""
    paths = sorted(
        path
        for path in folder.rglob("*")
        if path.suffix.lower() in images.readable_suffixes() and path.is_file() and not _hidden(path, folder)
    )
    if not paths:
        raise ConfigError(f"{folder}: no pictures there; name a folder of them")
    try:
        return [
            Entry(path.relative_to(folder).as_posix(), path, hashlib.sha256(path.read_bytes()).hexdigest())
            for path in paths
        ]
    except OSError as error:
        raise ConfigError(f"{error.filename}: cannot be read: {error.strerror}") from error


def _hidden(path: Path, folder: Path) -> bool:
    """Such as what macOS keeps beside each file of a memory card, under the file's name and suffix."""
    return any(part.startswith(".") for part in path.relative_to(folder).parts)


def largest(folder: Path, protocol: str) -> int:
    """Pixels of the largest picture below a folder, as `protocol` wants it. Raises ConfigError if there are none."""
    if protocol == CROP_768:
        return _SIDE**2
    found = [0]
    for entry in scan(folder):
        with (
            contextlib.suppress(ImageError),
            images.open_limited(entry.path.read_bytes(), MAX_PIXELS) as image,
        ):
            found.append(image.width * image.height)
    return max(found)


def read(path: Path, protocol: str) -> Picture:
    """(H, W, 3) uint8 as `protocol` wants it. Raises ImageError for the file, ConfigError for the protocol."""
    if protocol not in PROTOCOLS:
        raise ConfigError(f"no protocol {protocol!r}: choose from {', '.join(PROTOCOLS)}")
    picture = images.read(path)
    return picture if protocol == AS_IS else _crop_768(picture)


def _crop_768(picture: Picture) -> Picture:
    height, width, _ = picture.shape
    # The longer side is rounded down and the filter is bilinear: torchvision's Resize, which the papers used.
    short = min(height, width)
    size = (width * _SIDE // short, height * _SIDE // short)
    resized = Image.fromarray(picture).resize(size, Image.Resampling.BILINEAR)
    left, top = round((size[0] - _SIDE) / 2), round((size[1] - _SIDE) / 2)
    return np.array(resized.crop((left, top, left + _SIDE, top + _SIDE)))

"""The tiny model for `rdeic.pillow`, and a file of it."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageFile

import rdeic.pillow  # registers
from rdeic.codec.codec import Codec
from rdeic.pictures import images


@pytest.fixture(autouse=True)
def installed(tiny_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The tiny model is among the installed ones, and what a test registers ends with it."""
    monkeypatch.setenv("RDEIC_MODELS", str(tiny_folder.parent))
    for registered in (Image.OPEN, Image.SAVE, Image.SAVE_ALL):
        monkeypatch.setitem(registered, "RDEIC", registered[rdeic.pillow.FORMAT])


@pytest.fixture
def blob(tiny: Codec, photo: images.Picture) -> bytes:
    return tiny.compress(photo, quality=40)


@pytest.fixture
def file(blob: bytes, tmp_path: Path) -> Path:
    path = tmp_path / "photo.rdeic"
    path.write_bytes(blob)
    return path


def opened(blob: bytes) -> ImageFile.ImageFile:
    return Image.open(io.BytesIO(blob))


def same(image: Image.Image, other: Image.Image) -> bool:
    return np.array_equal(np.asarray(image), np.asarray(other))

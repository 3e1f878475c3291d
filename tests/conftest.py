"""What tests of several folders share: a tiny model, and a photograph."""

from __future__ import annotations

from pathlib import Path

import pytest

from rdeic.codec import codec
from rdeic.pictures import images
from support.picture_files import photograph
from support.tiny import TINY, save_random_model


@pytest.fixture(scope="session")
def tiny_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_random_model(TINY, tmp_path_factory.mktemp("models") / "tiny", seed=0)


@pytest.fixture(scope="session")
def tiny(tiny_folder: Path) -> codec.Codec:
    return codec.load(tiny_folder, "cpu")


@pytest.fixture(scope="session")
def photo() -> images.Picture:
    """(96, 130, 3): smooth, with some texture, and sides that are no multiples of 64."""
    return photograph(96, 130)

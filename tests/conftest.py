"""What tests of several folders share: a tiny model, and a photograph."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from rdeic.codec import codec
from rdeic.pictures import images
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
    y, x = np.mgrid[:96, :130].astype(np.float64)
    waves = [np.sin(x / 9 + y / 17), np.cos(y / 7 - x / 31), np.sin(x * y / 900)]
    noise = np.random.default_rng(0).normal(0, 6, (96, 130, 3))
    return (np.stack(waves, -1) * 90 + 128 + noise).clip(0, 255).astype(np.uint8)

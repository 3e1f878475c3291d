"""Sets of training pictures."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from rdeic.training.data import Holding, ImageSet, Sampling
from rdeic.training.sources import Source, find

EVERYTHING, NOTHING = Holding(1 << 30, None), Holding(0, None)
ON_DEVICE = Holding(1 << 30, torch.device("cpu"))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twelve small pictures, one of them smaller than a crop, in two nested folders."""
    top = tmp_path_factory.mktemp("pictures")
    (top / "deep").mkdir()
    rng = np.random.default_rng(0)
    for index in range(12):
        size = (90 + index, 100) if index else (40, 50)
        coarse = Image.fromarray(rng.integers(0, 256, (9, 10, 3), dtype=np.uint8))
        name = f"{index}.png" if index % 2 else f"deep/{index}.webp"
        coarse.resize(size[::-1], Image.Resampling.BICUBIC).save(top / name, lossless=True)
    return top


def images(
    found: list[Source],
    batch: int = 3,
    share: range | None = None,
    holding: Holding = EVERYTHING,
    seed: int = 1,
) -> ImageSet:
    return ImageSet(found, Sampling(batch, 64, seed), share or range(batch), holding)


def greys(folder: Path, count: int) -> list[Source]:
    """Pictures of one grey each, 0, 10, 20, ..."""
    for grey in range(count):
        Image.new("RGB", (64, 64), (grey * 10,) * 3).save(folder / f"{grey:02}.png")
    return find([folder])


def seen(batch: Tensor) -> list[int]:
    return [int(grey) // 10 for grey in batch[:, 0, 0, 0]]

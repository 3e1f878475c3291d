"""Square crops of pictures: chosen at random, cut on the host."""

from __future__ import annotations

from typing import NamedTuple, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

RESIZE_SHARE = 0.3  # of the crops are taken from a shrunken picture: other scales, and weaker JPEG artefacts
SMALLEST_SCALE = 0.6

Pixels: TypeAlias = NDArray[np.uint8]  # (H, W, 3)


class Crop(NamedTuple):
    """The square of `side` pixels at (top, left), resized to `size` a side, then mirrored if `flip`."""

    top: int
    left: int
    side: int
    size: int
    flip: bool


def random(height: int, width: int, size: int, rng: np.random.Generator) -> Crop:
    """A crop of a picture of that size; one that is too small gives its largest square, enlarged."""
    scale = rng.uniform(SMALLEST_SCALE, 1.0) if rng.random() < RESIZE_SHARE else 1.0
    side = min(round(size / scale), height, width)
    top, left = int(rng.integers(height - side + 1)), int(rng.integers(width - side + 1))
    return Crop(top, left, side, size, bool(rng.random() < 0.5))


def centre(height: int, width: int, size: int) -> Crop:
    """The crop from the middle of a picture."""
    side = min(size, height, width)
    return Crop((height - side) // 2, (width - side) // 2, side, size, False)


def cut(image: Pixels, crop: Crop) -> Tensor:
    """The crop as a uint8 tensor (3, size, size); `flat.FlatPictures.cut` does the same on a device."""
    pixels = image[crop.top : crop.top + crop.side, crop.left : crop.left + crop.side]
    if crop.side != crop.size:
        shape = (crop.size, crop.size)
        pixels = np.asarray(Image.fromarray(pixels).resize(shape, Image.Resampling.BICUBIC))
    if crop.flip:
        pixels = pixels[:, ::-1]
    return torch.from_numpy(pixels.copy()).permute(2, 0, 1)

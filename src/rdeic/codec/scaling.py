"""Storing a picture smaller than it is: how, and when that looks better. docs/scaling.md has the figures.

Only a wanted size (bpp, bytes) makes the stored picture smaller, never a quality.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from PIL import Image

from rdeic.codec import limits
from rdeic.codec.rate import Scales
from rdeic.config import ModelConfig
from rdeic.container import payload, stored_size
from rdeic.container.container import OVERHEAD
from rdeic.container.stored_size import Size
from rdeic.errors import ImageError
from rdeic.pictures.images import Picture

FACTORS = (1, 2, 3, 4, 5, 6, 8, 10, 12, 16, 20, 24, 32)  # a picture is stored at 1/factor of its sides


@dataclass(frozen=True)
class Rule:
    """How many bits each pixel that is stored must get at the least, or else a smaller scale looks better.

    Measured, for each model anew, by `benchmarks/scaling.py KODAK --enlarge 2 --factors 1,2,3,4,6`, which prints these
    numbers (docs/scaling.md). In `stored_rate`'s bits; 0 where only what cannot be had is stored smaller.
    """

    full: float = 0.0
    half: float = 0.0
    third: float = 0.0
    quarter: float = 0.0  # and beyond

    def least(self, factor: int) -> float:
        """The least rate, bits per coded pixel, at which a picture is stored at 1/`factor` of its sides."""
        return {1: self.full, 2: self.half, 3: self.third}.get(factor, self.quarter)


RULES = {"mini": Rule(full=0.0129, half=0.0142, third=0.0154, quarter=0.0156)}  # by the model's name


def scales(size: Size, target: float, config: ModelConfig, room: int | None = None) -> Scales:
    """The scales to look for a file of `target` bytes at, and the one to begin with.

    The latter depends on nothing but the arguments. `room` are the bytes of memory that coding may take, None if that
    does not count. Raises ImageError if they are enough for none of them.
    """
    factors = [factor for factor in FACTORS if _useful(size, factor, config)]
    held = [factor for factor in factors if _has_room(stored(size, factor), config, room)]
    if not held:
        limits.plan(stored(size, factors[-1]), config, room)
    rule = RULES.get(config.name, Rule())
    likely = (
        place
        for place, factor in enumerate(held)
        if payload.least_bytes(stored(size, factor), config) <= target
        and stored_rate(size, factor, target - _around(factor), config) >= rule.least(factor)
    )
    return Scales(tuple(held), next(likely, len(held) - 1))


def stored_rate(size: Size, factor: int, payload_bytes: float, config: ModelConfig) -> float:
    """Bits of the payload for each pixel that it codes, padding included."""
    stride = config.hyper_stride
    return 8 * payload_bytes / math.prod(-(-side // stride) * stride for side in stored(size, factor))


def stored(size: Size, factor: int) -> Size:
    """The size at 1/`factor` of the sides, rounded, at least one pixel."""
    return Size(max(1, round(size.width / factor)), max(1, round(size.height / factor)))


def shrink(picture: Picture, size: Size) -> Picture:
    """(H, W, 3) => (size.height, size.width, 3), Lanczos on the sRGB values as they are."""
    if picture.shape[:2] == (size.height, size.width):
        return picture
    return np.asarray(Image.fromarray(picture).resize(size, Image.Resampling.LANCZOS))


def enlarge(image: Image.Image, size: Size) -> Image.Image:
    """A restored picture => the original's size, by Lanczos; as it is where that is its size."""
    return image if image.size == size else image.resize(size, Image.Resampling.LANCZOS)


def _useful(size: Size, factor: int, config: ModelConfig) -> bool:
    """Whether fewer pixels take fewer bytes: not within what the model codes as one position at the least."""
    return factor == 1 or max(stored(size, factor)) >= config.hyper_stride


def _around(factor: int) -> int:
    """Bytes of a file without its payload."""
    return OVERHEAD + (0 if factor == 1 else stored_size.FILE_BYTES)


def _has_room(size: Size, config: ModelConfig, room: int | None) -> bool:
    try:
        limits.plan(size, config, room)
    except ImageError:
        return False
    return True

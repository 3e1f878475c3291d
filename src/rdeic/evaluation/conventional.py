"""JPEG, WebP and AVIF through Pillow, at a wanted file size.

At extreme rates people shrink a picture before they compress it, and some formats cannot get that small otherwise. So
every codec is tried at 1, 1/2, 1/3 and 1/4 of the size (Lanczos down, and up again), and its best variant counts.
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from PIL import Image

from rdeic import rate
from rdeic.errors import ConfigError, RateError
from rdeic.images import Picture

CODECS = ("jpeg", "webp", "avif")
DOWNSCALES = (1, 2, 3, 4)
HIGHEST = 60  # of the quality scale 0..100: several times the rates that matter here


class Attempt(NamedTuple):
    """One picture through one codec."""

    data: bytes  # the file
    downscale: int  # 1: full size
    quality: int  # of the codec's own scale
    restored: Picture  # at the original size


class Conventional:
    """One picture and one codec; files made for one size are kept for the next."""

    def __init__(self, codec: str, picture: Picture) -> None:
        """Raises ConfigError unless `codec` is one of CODECS. picture: (H, W, 3) uint8."""
        if codec not in CODECS:
            raise ConfigError(f"no conventional codec {codec!r}: choose from {', '.join(CODECS)}")
        self._codec, self._picture = codec, picture
        self._files: dict[tuple[int, int], bytes] = {}  # by downscale and quality

    def closest(self, size: int) -> Attempt:
        """The file nearest to `size` bytes at each scale; of the scales that get there, the one of least error.

        Where no scale gets there, the file nearest to `size` of all.
        """
        reached = list(self._reaching(size))
        if not reached:
            nearest = min(self._files, key=lambda key: abs(len(self._files[key]) - size))
            return self._attempt(*nearest)
        return min(reached, key=self._error)

    def encode(self, downscale: int, quality: int) -> bytes:
        """The picture as a file, anew: 1/`downscale` of the size, `quality` 0..100 of the codec's own scale."""
        small = Image.fromarray(self._picture)
        if downscale > 1:
            size = (max(1, small.width // downscale), max(1, small.height // downscale))
            small = small.resize(size, Image.Resampling.LANCZOS)
        buffer = io.BytesIO()
        if self._codec == "jpeg":
            small.save(buffer, "JPEG", quality=max(1, quality), optimize=True)  # 0 would mean the default
        elif self._codec == "webp":
            small.save(buffer, "WEBP", quality=quality, method=6)
        else:
            small.save(buffer, "AVIF", quality=quality, speed=4)
        return buffer.getvalue()

    def decode(self, data: bytes) -> Picture:
        """(H, W, 3) uint8 at the size of the original."""
        with Image.open(io.BytesIO(data)) as image:
            height, width, _ = self._picture.shape
            full = image.convert("RGB")
        if full.size != (width, height):
            full = full.resize((width, height), Image.Resampling.LANCZOS)
        return np.array(full)

    def _reaching(self, size: int) -> Iterator[Attempt]:
        pixels = self._picture.shape[0] * self._picture.shape[1]
        for downscale in DOWNSCALES:

            def make(quality: int, downscale: int = downscale) -> bytes:
                key = downscale, quality
                if key not in self._files:
                    self._files[key] = self.encode(downscale, quality)
                return self._files[key]

            try:
                chosen = rate.closest(make, HIGHEST, 8 * size / pixels, pixels)
            except RateError:
                continue
            quality = next(q for (d, q), data in self._files.items() if d == downscale and data == chosen)
            yield self._attempt(downscale, quality)

    def _attempt(self, downscale: int, quality: int) -> Attempt:
        data = self._files[downscale, quality]
        return Attempt(data, downscale, quality, self.decode(data))

    def _error(self, attempt: Attempt) -> float:
        difference = self._picture.astype(np.float64) - attempt.restored
        return float(np.mean(difference**2))

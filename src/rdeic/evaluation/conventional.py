"""The formats of Pillow at a wanted file size.

At extreme rates people shrink a picture before they compress it, and some formats cannot get that small otherwise. So
every codec is tried at 1, 1/2, 1/3 and 1/4 of the size (Lanczos down, and up again), and its best variant counts.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import numpy as np

from rdeic.codec import rate
from rdeic.errors import ConfigError, RateError
from rdeic.evaluation.codecs import pillow
from rdeic.evaluation.codecs.downscaled import Downscaled
from rdeic.evaluation.types import Codec, UnavailableCodec
from rdeic.pictures.images import Picture

CODECS = tuple(pillow.FORMATS)
DOWNSCALES = (1, 2, 3, 4)
HIGHEST = 60  # of the quality scale 0..100: several times the rates that matter here
_TIMEOUT = 600.0  # seconds; nothing here enforces it


class Attempt(NamedTuple):
    """One picture through one codec."""

    data: bytes  # the file
    codec: Codec
    downscale: int  # 1: full size
    setting: str  # of the codec
    restored: Picture  # at the original size


class Conventional:
    """One picture and one codec; files made for one size are kept for the next."""

    def __init__(
        self,
        codec: str,
        picture: Picture,
        downscales: Sequence[int] = DOWNSCALES,
        before: Callable[[], None] = lambda: None,
    ) -> None:
        """picture: (H, W, 3) uint8. `before` is called before each file is made, and may raise to end the search.

        Raises ConfigError unless `codec` is one of CODECS, and installed.
        """
        if codec not in CODECS:
            raise ConfigError(f"no conventional codec {codec!r}: choose from {', '.join(CODECS)}")
        full = pillow.create(codec, (), _TIMEOUT)
        if isinstance(full, UnavailableCodec):
            raise ConfigError(f"{codec}: {full.reason}")
        self._variants: dict[int, Codec] = {n: Downscaled(full, n) if n > 1 else full for n in downscales}
        self._picture, self._before = picture, before
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

    def _reaching(self, size: int) -> Iterator[Attempt]:
        pixels = self._picture.shape[0] * self._picture.shape[1]
        for downscale, codec in self._variants.items():

            def make(quality: int, downscale: int = downscale, codec: Codec = codec) -> bytes:
                key = downscale, quality
                if key not in self._files:
                    self._before()
                    self._files[key] = codec.encode(self._picture, f"q{quality}")
                return self._files[key]

            try:
                chosen = rate.closest(make, HIGHEST, 8 * size / pixels, pixels)
            except RateError:
                continue
            quality = next(q for (d, q), data in self._files.items() if d == downscale and data == chosen)
            yield self._attempt(downscale, quality)

    def _attempt(self, downscale: int, quality: int) -> Attempt:
        data, codec = self._files[downscale, quality], self._variants[downscale]
        return Attempt(data, codec, downscale, f"q{quality}", codec.decode(data))

    def _error(self, attempt: Attempt) -> float:
        difference = self._picture.astype(np.float64) - attempt.restored
        return float(np.mean(difference**2))

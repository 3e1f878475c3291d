"""Any codec on a smaller picture, as people do at extreme rates."""

from __future__ import annotations

import struct
from dataclasses import dataclass

import numpy as np
from PIL import Image

from rdeic.errors import ImageError
from rdeic.evaluation.types import Codec
from rdeic.pictures.images import Picture

_SIZE = struct.Struct("<HH")  # width and height of the original, ahead of the inner codec's file


@dataclass(frozen=True)
class Downscaled:
    """Lanczos to 1/`factor` of the sides, the inner codec, Lanczos back. The original's size costs 4 bytes a file."""

    inner: Codec
    factor: int

    @property
    def name(self) -> str:
        """Such as avif/2."""
        return f"{self.inner.name}/{self.factor}"

    @property
    def settings(self) -> tuple[str, ...]:
        """Those of the inner codec."""
        return self.inner.settings

    @property
    def version(self) -> str:
        """That of the inner codec; Pillow, which scales, is not part of it."""
        return self.inner.version

    @property
    def timeout(self) -> float:
        """That of the inner codec, in seconds."""
        return self.inner.timeout

    def prepare(self) -> None:
        """Prepares the inner codec. Raises what it raises."""
        self.inner.prepare()

    def encode(self, picture: Picture, setting: str) -> bytes:
        """Shrinks the picture, then encodes it. Raises what the inner codec raises."""
        height, width, _ = picture.shape
        small = (max(1, round(width / self.factor)), max(1, round(height / self.factor)))
        resized = np.array(Image.fromarray(picture).resize(small, Image.Resampling.LANCZOS))
        return _SIZE.pack(width, height) + self.inner.encode(resized, setting)

    def decode(self, data: bytes) -> Picture:
        """Raises ImageError if the head is missing, and what the inner codec raises."""
        if len(data) < _SIZE.size:
            raise ImageError(f"{self.name}: {len(data)} bytes are too few for a file")
        size = _SIZE.unpack_from(data)
        small = Image.fromarray(self.inner.decode(data[_SIZE.size :]))
        return np.array(small.resize(size, Image.Resampling.LANCZOS))

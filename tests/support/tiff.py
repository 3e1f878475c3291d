"""TIFF files of any samples, and how they are shown."""

from __future__ import annotations

import io

import numpy as np
import tifffile
from numpy.typing import NDArray

WHITE_IS_ZERO, BLACK_IS_ZERO, RGB, PALETTE, CMYK, YCBCR, LAB = 0, 1, 2, 3, 5, 6, 8
COLOURS = {WHITE_IS_ZERO: 1, BLACK_IS_ZERO: 1, RGB: 3, PALETTE: 1, CMYK: 4}
SHORT, LONG = 3, 4


def random(depth: int, count: int) -> NDArray[np.int64]:
    """All of a depth's range in 13 x 11 pixels."""
    samples = np.random.default_rng(depth).integers(0, 2**depth, (13, 11, count))
    samples[0, 0], samples[0, 1] = 0, 2**depth - 1
    return samples


def written(array: NDArray[np.generic], **options: object) -> bytes:
    buffer = io.BytesIO()
    tifffile.imwrite(buffer, array, **options)
    return buffer.getvalue()

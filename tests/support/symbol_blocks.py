"""The range coder called as a codec calls it: blocks of symbols with their scales."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from rdeic.entropy.coder import SymbolDecoder, SymbolEncoder
from rdeic.entropy.tables import SCALES

Call = tuple[NDArray[np.int32], NDArray[np.int64]]


def encode(calls: list[Call]) -> bytes:
    encoder = SymbolEncoder()
    for symbols, scales in calls:
        encoder.encode(symbols, scales)
    return encoder.finish()


def decode(data: bytes, calls: list[Call]) -> list[NDArray[np.int32]]:
    decoder = SymbolDecoder(data)
    decoded = [decoder.decode(scales) for _, scales in calls]
    decoder.finish()
    return decoded


def gaussian_call(random: np.random.Generator, scales: NDArray[np.int64]) -> Call:
    return np.rint(random.normal(size=scales.size) * SCALES[scales]).astype(np.int32), scales

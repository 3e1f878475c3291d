"""Codebook indices as fixed-width bit fields, ceil(log2 K) bits each, most significant bit first."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from rdeic.errors import FileFormatError


def packed_size(count: int, codebook_size: int) -> int:
    """Bytes that `count` indices into a codebook of `codebook_size` entries take.

    Raises ValueError if `count` is negative or `codebook_size` is below 1.
    """
    if count < 0 or codebook_size < 1:
        raise ValueError(f"cannot pack {count} indices into a codebook of {codebook_size}")
    return (count * _width(codebook_size) + 7) // 8


def pack_indices(indices: NDArray[np.integer[Any]], codebook_size: int) -> bytes:
    """The bit fields of `indices` (any shape, row-major, each in 0..K - 1), zero-padded to whole bytes.

    Raises ValueError if an index is out of range.
    """
    flat = np.asarray(indices).ravel().astype(np.int64)
    packed_size(flat.size, codebook_size)
    if flat.size and not 0 <= int(flat.min()) <= int(flat.max()) < codebook_size:
        raise ValueError(f"an index is outside the codebook of {codebook_size}")
    bits = (flat[:, None] >> _shifts(codebook_size)) & 1  # (count, width)
    return np.packbits(bits.astype(np.uint8)).tobytes()


def unpack_indices(data: bytes, count: int, codebook_size: int) -> NDArray[np.int64]:
    """Inverse of `pack_indices`: `count` indices, 1-D, int64.

    Raises FileFormatError if `data` has not exactly `packed_size` bytes, an index is out of range, or a
    padding bit is set; ValueError as `packed_size` does.
    """
    expected = packed_size(count, codebook_size)
    if len(data) != expected:
        raise FileFormatError(f"damaged file: {expected} bytes of hyper indices expected, {len(data)} found")
    width = _width(codebook_size)
    bits = np.unpackbits(np.frombuffer(data, np.uint8))
    if bits[count * width :].any():
        raise FileFormatError("damaged file: the padding of the hyper indices is not zero")
    fields = bits[: count * width].reshape(count, width).astype(np.int64)  # (count, width)
    indices: NDArray[np.int64] = (fields << _shifts(codebook_size)).sum(axis=1, dtype=np.int64)
    if (indices >= codebook_size).any():
        raise FileFormatError(f"damaged file: a hyper index is outside the codebook of {codebook_size}")
    return indices


def _width(codebook_size: int) -> int:
    """Bits per index, ceil(log2 K)."""
    return (codebook_size - 1).bit_length()


def _shifts(codebook_size: int) -> NDArray[np.int64]:
    return np.arange(_width(codebook_size) - 1, -1, -1, dtype=np.int64)

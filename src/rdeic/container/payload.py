"""Payload of a file <=> hyper indices and y stream, and a digest to compare what two decoders found."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

from rdeic.config import ModelConfig
from rdeic.container.container import OVERHEAD, Header
from rdeic.container.stored_size import Size
from rdeic.entropy import indices
from rdeic.errors import FileFormatError
from rdeic.types import CodedLatent

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


def join(coded: CodedLatent, config: ModelConfig) -> bytes:
    """The payload: what a file carries after its header and sections."""
    return indices.pack_indices(coded.hyper_indices, config.compression.codebook_size) + coded.y_stream


def split(header: Header, payload: bytes, config: ModelConfig) -> CodedLatent:
    """Inverse of `join`, checked before anything of the picture's size is made. Raises FileFormatError."""
    entries, (width, height) = config.compression.codebook_size, header.coded
    h, w = _grid(header.coded, config)
    size = indices.packed_size(h * w, entries)
    if len(payload) < size:
        raise FileFormatError(f"a {width}x{height} picture takes at least {size} bytes of indices: damaged")
    return CodedLatent(indices.unpack_indices(payload[:size], h * w, entries).reshape(h, w), payload[size:])


def least_bytes(size: Size, config: ModelConfig) -> int:
    """Size of the smallest possible file whose coded picture has that size: an empty y stream."""
    h, w = _grid(size, config)
    return OVERHEAD + indices.packed_size(h * w, config.compression.codebook_size)


def _grid(size: Size, config: ModelConfig) -> tuple[int, int]:
    """Rows and columns of the hyper indices."""
    return -(-size.height // config.hyper_stride), -(-size.width // config.hyper_stride)


def digest(hyper_indices: NDArray[np.int64], y_hat: NDArray[np.float64]) -> bytes:
    """SHA-256 of all that the bits say (docs/format.md, section 8): y_hat counts in units of 2^-10, as integers."""
    found = hashlib.sha256(hyper_indices.astype("<i4").tobytes())
    for channel in y_hat.reshape(
        -1, *y_hat.shape[-2:]
    ):  # one at a time: of large pictures they are gigabytes
        found.update((channel * 2.0**10).astype("<i8").tobytes())
    return found.digest()

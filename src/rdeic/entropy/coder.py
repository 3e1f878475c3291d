"""Range coding of integers under the Gaussian tables, bit-exact everywhere. `docs/format.md` is normative.

    symbols, scale indexes ──grouped by scale──> one coder call per scale ──then the escapes──> bytes

Grouping is what makes it fast: all symbols of a scale share one fixed table. The coder itself is
constriction's (32-bit words, 64-bit state, 24-bit probabilities).
"""

from __future__ import annotations

import functools
from typing import Any, NamedTuple

import constriction
import numpy as np
from numpy.typing import NDArray

from rdeic.entropy.tables import CENTRES, SCALE_COUNT, TOTAL, pmf
from rdeic.errors import FileFormatError

_WORD_BYTES = 4
_STATE_BITS = 64
_ESCAPE_BYTES = 4  # at most, least significant first
_BLOCK = 1 << 16  # symbols decoded between two checks for reading beyond the end


class SymbolEncoder:
    """Codes arrays of integers into one stream; `SymbolDecoder` takes them out in the same order."""

    def __init__(self) -> None:
        self._encoder = constriction.stream.queue.RangeEncoder()

    def encode(self, symbols: NDArray[np.int32], scale_indexes: NDArray[np.integer[Any]]) -> None:
        """Append `symbols` (1-D, any int32), symbol i under the table of scale `scale_indexes[i]` (0..63).

        Raises ValueError if the arrays are not 1-D, of equal length and of the stated types and ranges.
        """
        scales = _checked(scale_indexes)
        if symbols.dtype != np.int32 or symbols.shape != scales.shape:
            raise ValueError(f"symbols must be int32 {scales.shape}, not {symbols.dtype} {symbols.shape}")
        centres = CENTRES.take(scales)
        # As unsigned numbers modulo 2**32, -c..c are 0..2c and everything else is larger: the escape, 2c + 1.
        shifted = (symbols + centres).view(np.uint32)
        escape = (2 * centres + 1).view(np.uint32)
        grouped = np.minimum(shifted, escape).view(np.int32)[_order(scales)]
        for group in _groups(scales):
            self._encoder.encode(grouped[group.start : group.stop], _gaussian(group.scale))
        escaped = np.flatnonzero(shifted >= escape)
        if escaped.size:
            sizes, digits = _escape_code(symbols[escaped], centres[escaped])
            self._encoder.encode(sizes, _uniform(_ESCAPE_BYTES))
            self._encoder.encode(digits, _uniform(256))

    def finish(self) -> bytes:
        """The stream of everything encoded so far, the only one `SymbolDecoder.finish` accepts for it."""
        return _sealed(self._encoder)


class SymbolDecoder:
    """Takes arrays of integers out of a stream made by `SymbolEncoder`.

    What is decoded is encoded again, which costs little: the second coder knows how many bytes the symbols
    are worth, so over-reading shows at once and `finish` can insist on the only valid stream for them.
    """

    def __init__(self, data: bytes) -> None:
        """Any bytes will do; defects show in `decode` or `finish`."""
        self._data = bytes(data)
        padded = self._data + bytes(-len(data) % _WORD_BYTES)
        self._decoder = constriction.stream.queue.RangeDecoder(np.frombuffer(padded, ">u4").astype(np.uint32))
        self._again = constriction.stream.queue.RangeEncoder()

    def decode(self, scale_indexes: NDArray[np.integer[Any]]) -> NDArray[np.int32]:
        """The next `len(scale_indexes)` symbols, int32, as they were passed to `SymbolEncoder.encode`.

        Raises FileFormatError once the stream is seen to be invalid or over-read; the decoder is then of no
        further use. Raises ValueError if `scale_indexes` is not 1-D, integer and within 0..63.
        """
        scales = _checked(scale_indexes)
        centres = CENTRES.take(scales)
        grouped = np.empty(scales.size, np.int32)
        for group in _groups(scales):
            grouped[group.start : group.stop] = self._take(_gaussian(group.scale), group.stop - group.start)
        symbols = np.empty_like(grouped)
        symbols[_order(scales)] = grouped
        symbols -= centres
        escaped = np.flatnonzero(symbols > centres)
        if escaped.size:
            sizes = self._take(_uniform(_ESCAPE_BYTES), escaped.size)
            digits = self._take(_uniform(256), int(sizes.sum()) + escaped.size)
            symbols[escaped] = _escape_value(sizes, digits, centres[escaped])
        return symbols

    def finish(self) -> None:
        """Check that the stream holds what was decoded and nothing else. Raises FileFormatError otherwise."""
        if _sealed(self._again) != self._data:
            raise FileFormatError("the coded latent is damaged: its bytes do not end where its symbols do")

    def _take(self, model: Any, count: int) -> NDArray[np.int32]:
        """The next `count` symbols of one table, none of them negative."""
        taken = np.empty(count, np.int32)
        for start in range(0, count, _BLOCK):
            block = taken[start : start + _BLOCK]
            try:
                block[:] = self._decoder.decode(model, block.size)
            except AssertionError as error:  # constriction's way to say that the code belongs to no symbol
                raise FileFormatError("the coded latent is damaged: impossible code") from error
            self._again.encode(block, model)
            if self._again.pos()[0] * _WORD_BYTES > len(self._data):
                raise FileFormatError("the coded latent is damaged: it ends before its symbols do")
        return taken


class _Group(NamedTuple):
    """Symbols start..stop - 1 of the coded order, all of one scale."""

    scale: int
    start: int
    stop: int


def _checked(scale_indexes: NDArray[np.integer[Any]]) -> NDArray[np.uint8]:
    """Scale indexes in the type that numpy sorts in linear time."""
    if scale_indexes.ndim != 1 or not np.issubdtype(scale_indexes.dtype, np.integer):
        raise ValueError(
            f"scale indexes must be 1-D integers, not {scale_indexes.dtype} {scale_indexes.shape}"
        )
    if scale_indexes.size and not 0 <= int(scale_indexes.min()) <= int(scale_indexes.max()) < SCALE_COUNT:
        raise ValueError(f"a scale index is outside 0..{SCALE_COUNT - 1}")
    return scale_indexes.astype(np.uint8)


def _order(scales: NDArray[np.uint8]) -> NDArray[np.intp]:
    """Positions in coded order: by ascending scale index, and as they came within one."""
    return np.argsort(scales, kind="stable")


def _groups(scales: NDArray[np.uint8]) -> list[_Group]:
    counts = np.bincount(scales, minlength=SCALE_COUNT)
    stops = np.cumsum(counts)
    return [_Group(int(i), int(stops[i] - counts[i]), int(stops[i])) for i in np.flatnonzero(counts)]


@functools.cache
def _gaussian(scale: int) -> Any:
    """The coder's model of one table; dyadic float64 makes its conversion to 24 bits exact."""
    return constriction.stream.model.Categorical(pmf(scale) / TOTAL, perfect=False)


@functools.cache
def _uniform(size: int) -> Any:
    return constriction.stream.model.Uniform(size)


def _escape_code(
    symbols: NDArray[np.int32], centres: NDArray[np.int32]
) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
    """(n,) number of digits less 1, and all base-256 digits in a row, least significant first.

    What is written is 2 (|symbol| - c - 1) + sign, which fits in 32 bits for every int32.
    """
    wide = symbols.astype(np.int64)
    code = 2 * (np.abs(wide) - centres - 1) + (wide < 0)
    sizes = sum((code >= 256**power).astype(np.int32) for power in range(1, _ESCAPE_BYTES))
    digits = code.astype("<u4").view(np.uint8).reshape(-1, _ESCAPE_BYTES)  # (n, 4)
    return np.asarray(sizes), digits[_used(np.asarray(sizes))].astype(np.int32)


def _escape_value(
    sizes: NDArray[np.int32], digits: NDArray[np.int32], centres: NDArray[np.int32]
) -> NDArray[np.int32]:
    """Inverse of `_escape_code`. Raises FileFormatError on a value beyond int32 or a superfluous digit."""
    table = np.zeros((sizes.size, _ESCAPE_BYTES), np.uint8)
    table[_used(sizes)] = digits
    code = table.view("<u4")[:, 0].astype(np.int64)
    magnitude = code // 2 + centres + 1
    values = np.where(code % 2, -magnitude, magnitude)
    shortest = (sizes == 0) | (table[np.arange(sizes.size), sizes] != 0)
    if not (shortest & (values == values.astype(np.int32))).all():
        raise FileFormatError("the coded latent is damaged: it contains an invalid escape code")
    return values.astype(np.int32)


def _used(sizes: NDArray[np.int32]) -> NDArray[np.bool_]:
    """(n, 4) which digits are written."""
    return np.arange(_ESCAPE_BYTES) <= sizes[:, None]


def _sealed(encoder: Any) -> bytes:
    """The stream as a binary fraction: all words that left the state, then the fewest bytes that suffice.

    It must hit the interval that starts at `lower`, the 64 bits after `position` words, and is
    `width` long; a decoder continues the stream with zeros. constriction itself would end on a whole word.
    """
    position, (lower, width) = encoder.pos()
    head = position * _WORD_BYTES
    ended = encoder.get_compressed().astype(">u4").tobytes().ljust(head + _STATE_BITS // 8, b"\0")
    prefix = int.from_bytes(ended[:head], "big")
    if int.from_bytes(ended[head : head + _STATE_BITS // 8], "big") < lower:
        prefix -= 1  # constriction's own end point lies beyond a carry, `lower` before it
    for kept in range(_STATE_BITS // 8):
        unit = 1 << (_STATE_BITS - 8 * kept)
        point = -(-lower // unit) * unit
        if point - lower < width:
            break
    value: int = (prefix << _STATE_BITS) + point >> (_STATE_BITS - 8 * kept)
    return value.to_bytes(head + kept, "big")

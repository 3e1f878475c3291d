"""The size that a JPEG XL file states (ISO/IEC 18181-1, SizeHeader), for its plugin decodes as soon as it opens."""

from __future__ import annotations

from rdeic.errors import ImageError
from rdeic.pictures import boxes

_RATIOS = ((1, 1), (12, 10), (4, 3), (3, 2), (16, 9), (5, 4), (2, 1))  # width to height
_WIDTHS = (9, 13, 18, 30)  # bits of a side, by its selector
_PARTIAL_INDEX = 4  # bytes before the code of a partial codestream


def size(data: bytes) -> tuple[int, int]:
    """(width, height) before any rotation. Raises ImageError if the header is cut short."""
    head = _codestream(data)[2:12]
    if len(head) < 10 and len(data) < 12:
        raise ImageError("damaged or truncated picture (JPEG XL without a header)")
    bits = _Bits(head)
    small = bits.take(1)
    height = 8 * (1 + bits.take(5)) if small else 1 + bits.take(_WIDTHS[bits.take(2)])
    ratio = bits.take(3)
    if ratio:
        across, up = _RATIOS[ratio - 1]
        return height * across // up, height
    return (8 * (1 + bits.take(5)) if small else 1 + bits.take(_WIDTHS[bits.take(2)])), height


def _codestream(data: bytes) -> bytes:
    if data[:2] == b"\xff\x0a":
        return data[:12]
    for kind, start, end in boxes.walk(data, 0, len(data)):
        if kind in (b"jxlc", b"jxlp"):
            start += _PARTIAL_INDEX if kind == b"jxlp" else 0
            return data[start : min(end, start + 12)]
    raise ImageError("damaged or truncated picture (JPEG XL without a codestream)")


class _Bits:
    """Reads bits, the lowest of a byte first; beyond the end they are zero."""

    def __init__(self, data: bytes) -> None:
        self._left = int.from_bytes(data, "little")

    def take(self, count: int) -> int:
        value = self._left & ((1 << count) - 1)
        self._left >>= count
        return value

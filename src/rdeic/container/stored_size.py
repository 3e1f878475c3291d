"""The critical section that says how large the coded picture is, where it is smaller than the picture it stands for.

`docs/format.md` is normative. Content: width and height, two bytes each, little-endian.
"""

from __future__ import annotations

import struct
from typing import NamedTuple

from rdeic.errors import FileFormatError

KIND = 129  # of the section; 128 stays free, for tests of what readers refuse
MAX_FACTOR = 64  # a stored side stands for at most so many times as many pixels
FILE_BYTES = 7  # that a file grows by where this is its only section

_SIDES = struct.Struct("<HH")


class Size(NamedTuple):
    """Width and height of a picture, in pixels."""

    width: int
    height: int


def pack(size: Size) -> bytes:
    """Content of the section. Both sides are 1..65535."""
    return _SIDES.pack(*size)


def unpack(section: bytes, original: Size) -> Size:
    """Inverse of `pack`, for a picture of that size. Raises FileFormatError unless `section` is valid for it."""
    if len(section) != _SIDES.size:
        raise FileFormatError(
            f"invalid .rdeic file: its stored size takes {len(section)} bytes instead of {_SIDES.size}"
        )
    size = Size(*_SIDES.unpack(section))
    if not fits(size, original):
        raise FileFormatError(
            f"implausible stored size {size.width}x{size.height} of a picture of "
            f"{original.width}x{original.height}"
        )
    return size


def fits(stored: Size, original: Size) -> bool:
    """Whether a picture of one size may be stored at another: smaller, but by MAX_FACTOR at most."""
    sides = zip(stored, original, strict=True)
    return stored != original and all(1 <= side <= whole <= side * MAX_FACTOR for side, whole in sides)

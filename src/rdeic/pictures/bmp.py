"""A fault of Pillow's with BMP: 4 and 8 bits a pixel with a palette of just black and white are taken for 1 bit."""

from __future__ import annotations

import struct

_HEADER, _BITS, _COLOURS = 14, 28, 46  # places in the file
_HEADERS_WITH_COUNT = (40, 52, 56, 64, 108, 124)  # bytes


def mended(data: bytes) -> bytes:
    """The same picture, stated so that Pillow reads it right: with a palette of full size, whose rest nobody uses."""
    if data[:2] != b"BM" or len(data) < _COLOURS + 4:
        return data
    (header,), (bits,), (colours,) = (
        struct.unpack_from("<I", data, _HEADER),
        struct.unpack_from("<H", data, _BITS),
        struct.unpack_from("<I", data, _COLOURS),
    )
    if header not in _HEADERS_WITH_COUNT or bits not in (4, 8) or colours != 2:
        return data
    return data[:_COLOURS] + struct.pack("<I", 0) + data[_COLOURS + 4 :]

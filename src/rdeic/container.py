"""The .rdeic file: header, opaque payload, checksum. `docs/format.md` is normative.

    RDE | version | flags | fingerprint 4 | width 2 | height 2 | quality | steps | [seed 4] | payload | CRC-32

Everything is little-endian. A caller can trust what `unpack` returns: every field is checked before anything
is allocated in proportion to it.
"""

from __future__ import annotations

import struct
import zlib
from typing import NamedTuple

from rdeic.errors import FileFormatError

MAGIC = b"RDE"
VERSION = 1
FINGERPRINT_BYTES = 4
OVERHEAD = 19  # bytes around the payload of a file without a seed

_SEED_PRESENT = 0x01
_FIXED = struct.Struct("<3sBB4sHHBB")
_U32 = struct.Struct("<I")


class Header(NamedTuple):
    """What a decoder must know before it reads the payload."""

    fingerprint: bytes  # 4 bytes: the first bytes of the model's weight hash
    width: int  # original pixels, 1..65535
    height: int  # original pixels, 1..65535
    quality: int  # 0..255; the 0..100 of the command line is mapped by round(q * 255 / 100)
    steps: int  # 1..255 denoising steps
    seed: int  # 0..2**32 - 1, selects the noise; 0 takes no bytes


class RdeicFile(NamedTuple):
    """A parsed file."""

    header: Header
    payload: bytes  # hyper indices, then the y stream; opaque at this level


def pack(file: RdeicFile) -> bytes:
    """The bytes of a file: `OVERHEAD` bytes plus the payload, and 4 more when the seed is not 0.

    Raises ValueError if a header field is out of the range that `Header` states.
    """
    header = file.header
    _require("fingerprint length", len(header.fingerprint), FINGERPRINT_BYTES, FINGERPRINT_BYTES)
    _require("width", header.width, 1, 0xFFFF)
    _require("height", header.height, 1, 0xFFFF)
    _require("quality", header.quality, 0, 0xFF)
    _require("steps", header.steps, 1, 0xFF)
    _require("seed", header.seed, 0, 0xFFFFFFFF)
    flags = _SEED_PRESENT if header.seed else 0
    fixed = _FIXED.pack(
        MAGIC, VERSION, flags, header.fingerprint, header.width, header.height, header.quality, header.steps
    )
    body = fixed + (_U32.pack(header.seed) if header.seed else b"") + file.payload
    return body + _U32.pack(zlib.crc32(body))


def unpack(data: bytes, max_pixels: int | None = 200_000_000) -> RdeicFile:
    """Inverse of `pack`. Pictures above `max_pixels` (width x height; None: no limit) are refused.

    Raises FileFormatError if the bytes are not one complete, undamaged file of this version.
    """
    _check_envelope(data)
    _, _, flags, fingerprint, width, height, quality, steps = _FIXED.unpack_from(data)
    if flags & ~_SEED_PRESENT:
        raise FileFormatError(
            f"a newer rdeic is needed: the file has unknown flags 0x{flags:02x}; update rdeic"
        )
    start = _FIXED.size
    seed = 0
    if flags & _SEED_PRESENT:
        if len(data) < OVERHEAD + _U32.size:
            raise FileFormatError("invalid .rdeic file: it announces a seed but ends before it")
        (seed,) = _U32.unpack_from(data, start)
        start += _U32.size
        if seed == 0:
            raise FileFormatError("invalid .rdeic file: a stored seed must not be 0")
    if steps == 0:
        raise FileFormatError("invalid .rdeic file: it asks for 0 denoising steps")
    _check_size(width, height, max_pixels)
    header = Header(fingerprint, width, height, quality, steps, seed)
    return RdeicFile(header, data[start : -_U32.size])


def _check_envelope(data: bytes) -> None:
    """Magic, version, length and checksum, in the order that gives the most helpful message."""
    if not data:
        raise FileFormatError("the file is empty")
    if not data.startswith(MAGIC):
        if MAGIC.startswith(data):
            raise FileFormatError(f"truncated .rdeic file: only {len(data)} bytes are left")
        raise FileFormatError("not an .rdeic file: it does not start with 'RDE'")
    # Where the checksum lies depends on the version, so the version is judged first.
    if len(data) > len(MAGIC) and data[len(MAGIC)] != VERSION:
        version = data[len(MAGIC)]
        raise FileFormatError(
            f"version {version} is newer than this program, which reads version {VERSION}: update rdeic"
            if version > VERSION
            else f"there is no version {version} of the format: the file is damaged"
        )
    if len(data) < OVERHEAD:
        raise FileFormatError(f"truncated .rdeic file: {len(data)} bytes, but the smallest has {OVERHEAD}")
    (expected,) = _U32.unpack_from(data, len(data) - _U32.size)
    if zlib.crc32(memoryview(data)[: -_U32.size]) != expected:
        raise FileFormatError("the file is damaged or truncated (checksum mismatch): get a fresh copy")


def _check_size(width: int, height: int, max_pixels: int | None) -> None:
    if width == 0 or height == 0:
        raise FileFormatError(f"implausible picture size {width}x{height}")
    if max_pixels is not None and width * height > max_pixels:
        raise FileFormatError(
            f"implausible picture size {width}x{height}: over the limit of {max_pixels} pixels; "
            "raise the limit if you trust the file"
        )


def _require(name: str, value: int, low: int, high: int) -> None:
    if not low <= value <= high:
        raise ValueError(f"{name} is {value}, but must be within {low}..{high}")

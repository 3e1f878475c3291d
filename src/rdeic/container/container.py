"""The .rdeic file: header, optional sections, opaque payload, checksum. `docs/format.md` is normative.

    RDE | version | flags | fingerprint 4 | width 2 | height 2 | quality | steps | [seed 4] | [sections] | payload
        | CRC-32

    sections = count | (kind | length 1 to 4 | content) * count

Everything is little-endian. A caller can trust what `unpack` returns: every field is checked before anything
is allocated in proportion to it.
"""

from __future__ import annotations

import struct
import zlib
from typing import NamedTuple

from rdeic.container import stored_size
from rdeic.container.stored_size import Size
from rdeic.errors import FileFormatError

MAGIC = b"RDE"
MEDIA_TYPE = "image/x-rdeic"
VERSION = 1
MAX_STEPS = 0xFF
FINGERPRINT_BYTES = 4
MAX_PIXELS = 200_000_000  # width times height; what is larger must be asked for
OVERHEAD = 19  # bytes around the payload of a file without seed and sections
CRITICAL = 128  # sections from this kind on must be understood; the others may be skipped

_SEED_PRESENT = 0x01
_SECTIONS_PRESENT = 0x02
_MAX_SECTIONS = 255
_LENGTH_BYTES = 4  # of a section's length, at most
_LENGTH_BITS = 7  # of a length in each of its bytes
_MAX_LENGTH = (1 << _LENGTH_BITS * _LENGTH_BYTES) - 1
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
    stored: Size | None = None  # of the coded picture where that is smaller; None takes no bytes

    @property
    def coded(self) -> Size:
        """Size of the picture that the payload codes: `stored` where there is one, else the original's."""
        return self.stored or Size(self.width, self.height)


class Section(NamedTuple):
    """Content of a file beside the picture, such as metadata."""

    kind: int  # 1..255
    content: bytes  # up to 2**28 - 1 bytes


class RdeicFile(NamedTuple):
    """A file taken apart. Its payload is not decoded."""

    header: Header
    payload: bytes  # hyper indices, then the y stream; opaque at this level
    sections: tuple[Section, ...] = ()  # kinds ascend; none is critical: the only known one is in the header


def pack(file: RdeicFile) -> bytes:
    """The bytes of a file: `OVERHEAD` bytes plus the payload, 4 more when the seed is not 0, and the sections.

    Raises ValueError if a field is out of the range that `Header` or `Section` states, or the kinds do not ascend.
    """
    header, sections = file.header, file.sections
    if header.stored is not None:
        _require_stored(header.stored, Size(header.width, header.height))
        sections += (Section(stored_size.KIND, stored_size.pack(header.stored)),)
    _require("fingerprint length", len(header.fingerprint), FINGERPRINT_BYTES, FINGERPRINT_BYTES)
    _require("width", header.width, 1, 0xFFFF)
    _require("height", header.height, 1, 0xFFFF)
    _require("quality", header.quality, 0, 0xFF)
    _require("steps", header.steps, 1, MAX_STEPS)
    _require("seed", header.seed, 0, 0xFFFFFFFF)
    flags = (_SEED_PRESENT if header.seed else 0) | (_SECTIONS_PRESENT if sections else 0)
    fixed = _FIXED.pack(
        MAGIC, VERSION, flags, header.fingerprint, header.width, header.height, header.quality, header.steps
    )
    seed = _U32.pack(header.seed) if header.seed else b""
    body = fixed + seed + _pack_sections(sections) + file.payload
    return body + _U32.pack(zlib.crc32(body))


def unpack(data: bytes, max_pixels: int | None = MAX_PIXELS) -> RdeicFile:
    """Inverse of `pack`. Pictures above `max_pixels` (width x height; None: no limit) are refused.

    Raises FileFormatError if the bytes are not one complete, undamaged file of this version.
    """
    _check_envelope(data)
    _, _, flags, fingerprint, width, height, quality, steps = _FIXED.unpack_from(data)
    if flags & ~(_SEED_PRESENT | _SECTIONS_PRESENT):
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
    sections: tuple[Section, ...] = ()
    stored: Size | None = None
    if flags & _SECTIONS_PRESENT:
        sections, start = _unpack_sections(data, start, len(data) - _U32.size)
        if sections[-1].kind == stored_size.KIND:
            stored = stored_size.unpack(sections[-1].content, Size(width, height))
            sections = sections[:-1]
    header = Header(fingerprint, width, height, quality, steps, seed, stored)
    return RdeicFile(header, data[start : -_U32.size], sections)


def _pack_sections(sections: tuple[Section, ...]) -> bytes:
    if not sections:
        return b""
    _require("number of sections", len(sections), 1, _MAX_SECTIONS)
    packed, last = bytes([len(sections)]), 0
    for kind, content in sections:
        _require("section kind", kind, last + 1, 0xFF)
        _require("section length", len(content), 0, _MAX_LENGTH)
        packed += bytes([kind]) + _pack_length(len(content)) + content
        last = kind
    return packed


def _pack_length(length: int) -> bytes:
    """Seven bits a byte, least significant first; the top bit says that another byte follows."""
    groups = [length & 0x7F]
    while length := length >> _LENGTH_BITS:
        groups.append(length & 0x7F)
    return bytes([group | 0x80 for group in groups[:-1]] + groups[-1:])


def _unpack_sections(data: bytes, start: int, end: int) -> tuple[tuple[Section, ...], int]:
    """The sections that begin at `start`, and where they stop. Raises FileFormatError if that is not before `end`."""
    count, position = _byte(data, start, end), start + 1
    if count == 0:
        raise FileFormatError("invalid .rdeic file: it announces sections but has none")
    sections: list[Section] = []
    for _ in range(count):
        kind, position = _byte(data, position, end), position + 1
        if kind <= (sections[-1].kind if sections else 0):
            raise FileFormatError("invalid .rdeic file: its sections are not in ascending order")
        if kind >= CRITICAL and kind != stored_size.KIND:
            raise FileFormatError(
                f"a newer rdeic is needed: the file has a section of kind {kind}; update rdeic"
            )
        length, position = _unpack_length(data, position, end)
        if length > end - position:
            raise FileFormatError("invalid .rdeic file: a section is longer than the file")
        sections.append(Section(kind, data[position : position + length]))
        position += length
    return tuple(sections), position


def _unpack_length(data: bytes, start: int, end: int) -> tuple[int, int]:
    length = 0
    for index in range(_LENGTH_BYTES):
        byte = _byte(data, start + index, end)
        length |= (byte & 0x7F) << _LENGTH_BITS * index
        if byte < 0x80:
            if byte == 0 and index > 0:
                break  # a shorter form would do
            return length, start + index + 1
    raise FileFormatError("invalid .rdeic file: the length of a section is malformed")


def _byte(data: bytes, position: int, end: int) -> int:
    if position >= end:
        raise FileFormatError("invalid .rdeic file: it ends within its sections")
    return data[position]


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


def _require_stored(stored: Size, original: Size) -> None:
    if not stored_size.fits(stored, original):
        raise ValueError(f"stored size {stored} cannot stand for {original}")


def _require(name: str, value: int, low: int, high: int) -> None:
    if not low <= value <= high:
        raise ValueError(f"{name} is {value}, but must be within {low}..{high}")

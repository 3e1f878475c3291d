"""Boxes of ISO base media files (ISO/IEC 14496-12), which AVIF and HEIC are: what they say of the picture's colour."""

from __future__ import annotations

import struct
from collections.abc import Iterator

from rdeic.pictures import colour

_MAX_BOXES = 10_000  # per level; a hostile file may hold millions of empty ones


def walk(data: bytes, start: int, end: int) -> Iterator[tuple[bytes, int, int]]:
    """(kind, first byte, byte after the last) of the contents of the boxes in data[start:end]."""
    for _ in range(_MAX_BOXES):
        if start + 8 > end:
            return
        size, kind = struct.unpack_from(">I4s", data, start)
        body = start + 8
        if size == 1 and start + 16 <= end:
            size, body = struct.unpack_from(">Q", data, start + 8)[0], start + 16
        behind = end if size == 0 else start + size
        if behind < body or behind > end:
            return
        yield kind, body, behind
        start = behind


def space(data: bytes) -> colour.Space | None:
    """The colour space of the primary picture by its nclx; None if there is none, or it is sRGB or unknown.

    Of full range whatever is said there: that is about Y, Cb and Cr, which decoders make R, G and B of.
    """
    try:
        for property_ in _primary_properties(data):
            if property_[:8] == b"colrnclx":
                primaries, transfer = struct.unpack_from(">HH", property_, 8)
                found = colour.from_cicp(primaries, transfer, full_range=True)
                return None if found == colour.SRGB else found
    except (struct.error, LookupError):  # damaged metadata is no reason to refuse a sound picture
        return None
    return None


def _primary_properties(data: bytes) -> Iterator[bytes]:
    """Kind and content of each property of the primary item."""
    start, end = _children(data, 0, len(data))[b"meta"]
    inside = _children(data, start + 4, end)
    version, item = data[inside[b"pitm"][0]], inside[b"pitm"][0] + 4
    primary = struct.unpack_from(">H" if version == 0 else ">I", data, item)[0]
    parts = _children(data, *inside[b"iprp"])
    properties = list(walk(data, *parts[b"ipco"]))
    for index in _associated(data, parts[b"ipma"][0], primary):
        kind, start, end = properties[index - 1]
        yield kind + data[start:end]


def _associated(data: bytes, at: int, primary: int) -> list[int]:
    """Numbers, from 1, of the properties of the primary item, of an ipma box at `at`."""
    version, wide = data[at], data[at + 3] & 1
    (entries,) = struct.unpack_from(">I", data, at + 4)
    at += 8
    for _ in range(min(entries, _MAX_BOXES)):
        (item,) = struct.unpack_from(">H" if version == 0 else ">I", data, at)
        at += 2 if version == 0 else 4
        count, at = data[at], at + 1
        numbers = struct.unpack_from(f">{count}{'H' if wide else 'B'}", data, at)
        at += count * (2 if wide else 1)
        if item == primary:
            mask = 0x7FFF if wide else 0x7F  # without the bit that says "essential"
            return [number & mask for number in numbers if number & mask]
    return []


def _children(data: bytes, start: int, end: int) -> dict[bytes, tuple[int, int]]:
    found: dict[bytes, tuple[int, int]] = {}
    for kind, body, behind in walk(data, start, end):
        found.setdefault(kind, (body, behind))
    return found

"""A picture made by formula, and picture files made byte by byte, in layouts that no library here writes."""

from __future__ import annotations

import struct
import zlib

import numpy as np
from numpy.typing import NDArray

_SHORT, _LONG, _LONG8, _UNDEFINED = 3, 4, 16, 7
_FORMATS = {1: "B", 2: "B", _SHORT: "H", _LONG: "I", _LONG8: "Q", _UNDEFINED: "B"}


def photograph(height: int, width: int) -> NDArray[np.uint8]:
    """(height, width, 3): smooth, with some texture."""
    y, x = np.mgrid[:height, :width].astype(np.float64)
    waves = [np.sin(x / 9 + y / 17), np.cos(y / 7 - x / 31), np.sin(x * y / 900)]
    noise = np.random.default_rng(0).normal(0, 6, (height, width, 3))
    return (np.stack(waves, -1) * 90 + 128 + noise).clip(0, 255).astype(np.uint8)


def chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def png(
    samples: NDArray[np.integer], depth: int, colour: int, before: bytes = b"", after: bytes = b""
) -> bytes:
    """(H, W, C) samples of a `colour` type, with chunks before and after the pixels."""
    height, width = samples.shape[:2]
    rows = b"".join(b"\0" + packed(row.ravel(), depth, ">") for row in samples)
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0))
    pixels = chunk(b"IDAT", zlib.compress(rows))
    return b"\x89PNG\r\n\x1a\n" + header + before + pixels + after + chunk(b"IEND", b"")


def packed(row: NDArray[np.integer], depth: int, order: str) -> bytes:
    """One row of samples, its last byte filled up."""
    if depth == 16:
        return row.astype(f"{order}u2").tobytes()
    shifts = np.arange(depth - 1, -1, -1)
    return np.packbits((row.astype(np.int64)[:, None] >> shifts & 1).astype(np.uint8).ravel()).tobytes()


def tiff(
    samples: NDArray[np.integer],
    depth: int,
    photometric: int,
    *,
    order: str = "<",
    big: bool = False,
    planar: bool = False,
    fill_order: int = 1,
    extra: tuple[int, ...] | None = None,
    rows_per_strip: int = 0,
    tile: int = 0,
    deflate: bool = False,
    tags: dict[int, tuple[int, tuple[int, ...]]] | None = None,
) -> bytes:
    """(H, W, C) samples of `depth` bits; `tags` (number => type, values) go beside or instead of the usual ones."""
    height, width, count = samples.shape
    planes = [samples[..., i : i + 1] for i in range(count)] if planar else [samples]
    parts = [part for plane in planes for part in _parts(plane, rows_per_strip or height, tile)]
    strips = [b"".join(packed(row.ravel(), depth, order) for row in part) for part in parts]
    if deflate:
        strips = [zlib.compress(strip) for strip in strips]
    if fill_order == 2:
        strips = [bytes(int(f"{byte:08b}"[::-1], 2) for byte in strip) for strip in strips]
    start = 16 if big else 8
    offsets = tuple(start + sum(map(len, strips[:i])) for i in range(len(strips)))
    word = _LONG8 if big else _LONG
    entries: dict[int, tuple[int, tuple[int, ...]]] = {
        256: (_LONG, (width,)),
        257: (_LONG, (height,)),
        258: (_SHORT, (depth,) * count),
        259: (_SHORT, (8 if deflate else 1,)),
        262: (_SHORT, (photometric,)),
        266: (_SHORT, (fill_order,)),
        277: (_SHORT, (count,)),
        284: (_SHORT, (2 if planar else 1,)),
        324 if tile else 273: (word, offsets),
        325 if tile else 279: (word, tuple(map(len, strips))),
    }
    entries |= (
        {322: (_SHORT, (tile,)), 323: (_SHORT, (tile,))}
        if tile
        else {278: (_LONG, (rows_per_strip or height,))}
    )
    entries |= {338: (_SHORT, extra)} if extra else {}
    return _tiff_file(b"".join(strips), entries | (tags or {}), order, big)


def _parts(plane: NDArray[np.integer], rows: int, tile: int) -> list[NDArray[np.integer]]:
    height, width = plane.shape[:2]
    if not tile:
        return [plane[y : y + rows] for y in range(0, height, rows)]
    full = np.pad(plane, ((0, -height % tile), (0, -width % tile), (0, 0)))
    return [full[y : y + tile, x : x + tile] for y in range(0, height, tile) for x in range(0, width, tile)]


def _tiff_file(
    pixels: bytes, entries: dict[int, tuple[int, tuple[int, ...]]], order: str, big: bool
) -> bytes:
    pixels += b"\0" * (len(pixels) % 2)
    word, entry, room = ("Q", "HHQ8s", 8) if big else ("I", "HHI4s", 4)
    head = (b"II" if order == "<" else b"MM") + struct.pack(f"{order}H", 43 if big else 42)
    head += struct.pack(f"{order}HH", 8, 0) if big else b""
    start = len(head) + room + len(pixels)
    table = struct.pack(f"{order}{'Q' if big else 'H'}", len(entries))
    behind, after = b"", start + len(table) + len(entries) * (4 + 2 * room) + room
    for tag, (kind, values) in sorted(entries.items()):
        body = struct.pack(f"{order}{len(values)}{_FORMATS[kind]}", *values)
        if len(body) > room:
            place = struct.pack(f"{order}{word}", after + len(behind))
            behind += body + b"\0" * (len(body) % 2)
            body = place
        table += struct.pack(f"{order}{entry}", tag, kind, len(values), body.ljust(room, b"\0"))
    return head + struct.pack(f"{order}{word}", start) + pixels + table + b"\0" * room + behind


def profile(space: bytes, connection: bytes, tags: dict[bytes, bytes]) -> bytes:
    """An ICC profile, version 2, of a display or printer."""
    place, table, bodies = 128 + 4 + 12 * len(tags), b"", b""
    for name, body in tags.items():
        table += struct.pack(">4sII", name, place + len(bodies), len(body))
        bodies += body + bytes(-len(body) % 4)
    size = place + len(bodies)
    kind = b"prtr" if space == b"CMYK" else b"mntr"
    head = struct.pack(">I4sI4s4s4s12s4s", size, b"", 0x02400000, kind, space, connection, bytes(12), b"acsp")
    white = struct.pack(">3i", *(round(65536 * value) for value in D50))
    return head.ljust(68, b"\0") + white.ljust(60, b"\0") + struct.pack(">I", len(tags)) + table + bodies


D50 = (0.9642, 1.0, 0.8249)


def xyz(values: tuple[float, float, float]) -> bytes:
    return b"XYZ \0\0\0\0" + struct.pack(">3i", *(round(65536 * value) for value in values))


def power(exponent: float) -> bytes:
    return b"curv\0\0\0\0" + struct.pack(">IH", 1, round(256 * exponent))


def rgb_profile(
    red: tuple[float, float, float],
    green: tuple[float, float, float],
    blue: tuple[float, float, float],
    curve: bytes,
) -> bytes:
    """Of a display, by the XYZ of its primaries, adapted to D50."""
    tags = {b"wtpt": xyz(D50), b"rXYZ": xyz(red), b"gXYZ": xyz(green), b"bXYZ": xyz(blue)}
    return profile(b"RGB ", b"XYZ ", tags | dict.fromkeys((b"rTRC", b"gTRC", b"bTRC"), curve))


def grey_profile(exponent: float) -> bytes:
    return profile(b"GRAY", b"XYZ ", {b"wtpt": xyz(D50), b"kTRC": power(exponent)})


def cmyk_profile(lab: NDArray[np.uint8]) -> bytes:
    """Of a printer, by the L*, a*, b* (16, 3) of the sixteen ways to print inks on one another, K fastest."""
    identity = struct.pack(">9i", *(65536 * (i % 4 == 0) for i in range(9)))
    tables = bytes(range(256))
    lut = b"mft1\0\0\0\0" + bytes([4, 3, 2, 0]) + identity + tables * 4 + lab.tobytes() + tables * 3
    return profile(b"CMYK", b"Lab ", {b"wtpt": xyz(D50), b"A2B0": lut})

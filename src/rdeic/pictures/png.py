"""PNG by its chunks (PNG, third edition): what Pillow would trip over is left out, what it ignores is read here."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from rdeic.errors import ImageError
from rdeic.pictures import colour

SIGNATURE = b"\x89PNG\r\n\x1a\n"
_MAX_TEXT = 1 << 20  # bytes of one text, as Pillow has it, unpacked
_MAX_TEXTS = 16 << 20  # bytes of all of them
_MAX_PROFILE = 16 << 20  # bytes of a colour profile, unpacked
_CRITICAL = frozenset({b"IHDR", b"PLTE", b"IDAT", b"IEND"})
_TEXTS = frozenset({b"tEXt", b"zTXt", b"iTXt"})
_GREY, _RGB, _PALETTE, _GREY_ALPHA = 0, 2, 3, 4
# Decoding 16-bit samples as if they had the other byte order gives their low bytes.
_LOW_BYTES = {"RGB": "RGB;16L", "RGBA": "RGBA;16L"}


class Png(NamedTuple):
    """A PNG without its chunks of no or of harmful use, and what those said."""

    clean: bytes  # critical chunks, transparency of palettes, and sound EXIF, texts and profile
    depth: int  # bits of a sample
    kind: int  # colour type
    key: tuple[int, ...] | None  # the code value, or the three, that mean transparent
    space: colour.Space | None  # unless sRGB, or said by the profile
    frames: int


def parse(data: bytes) -> Png:
    """Takes a PNG apart. Raises ImageError if it has no header, or a critical chunk of a kind that nobody knows."""
    kept, found = [SIGNATURE], dict[bytes, bytes]()
    texts = 0
    for kind, body, sound in _chunks(data):
        if not kind[0] & 0x20 and kind not in _CRITICAL:
            raise ImageError(
                f"a PNG with a critical {kind.decode('latin-1')!r} chunk, which is of no known kind"
            )
        if kind in _TEXTS:
            size = _text_bytes(kind, body) if sound and texts <= _MAX_TEXTS else None
            texts += _MAX_TEXT if size is None else size
            keep = size is not None and texts <= _MAX_TEXTS
        elif kind in _CRITICAL:
            keep = True
        else:
            keep = sound and kind == b"eXIf"
        if sound and kind not in (b"IDAT", *_TEXTS):
            found.setdefault(kind, body)
        if kind == b"IDAT" and b"IDAT" not in found:
            found[b"IDAT"] = b""
            kept += _before_pixels(found)
        if keep:
            kept.append(_chunk(kind, body) if sound else _chunk(kind, body, zlib.crc32(kind + body) ^ 1))
    header = found.get(b"IHDR", b"")
    if len(header) != 13:
        raise ImageError("damaged or truncated picture (PNG without a sound header)")
    depth, kind_of_colour = header[8], header[9]
    frames = struct.unpack(">I", found[b"acTL"][:4])[0] if len(found.get(b"acTL", b"")) == 8 else 1
    return Png(
        b"".join(kept), depth, kind_of_colour, _key(found, depth, kind_of_colour), _space(found), frames
    )


def transparency(png: Png, image: Image.Image) -> Image.Image | None:
    """Alpha (mode L) that the transparent value stands for; None where there is no such value or no such pixel."""
    if png.key is None:
        return None
    if png.kind == _RGB:
        codes = deep(png) if png.depth == 16 else np.asarray(image)
        opaque = (codes != np.array(png.key)).any(axis=2)
    else:
        scale = 1 if png.depth == 16 else 255 // (2**png.depth - 1)
        codes = np.asarray(image) if png.depth == 16 else np.asarray(image.convert("L"))
        opaque = codes != png.key[0] * scale
    return None if opaque.all() else Image.fromarray(opaque.astype(np.uint8) * 255)


def deep(png: Png) -> NDArray[np.uint16]:
    """All bits of a 16-bit picture's colours, (H, W, 1) of grey or (H, W, 3)."""
    if png.kind == _GREY:
        return _decoded(png, None).astype(np.uint16)[..., None]
    if png.kind == _GREY_ALPHA:  # 4 bytes a pixel, as RGBA has
        grey = np.ascontiguousarray(_decoded(png, "RGBA")[..., :2]).view(">u2")
        return grey.astype(np.uint16)
    high = _decoded(png, None)[..., :3]
    low = _decoded(png, _LOW_BYTES["RGB" if png.kind == _RGB else "RGBA"])[..., :3]
    return np.left_shift(high, 8, dtype=np.uint16) | low


def _decoded(png: Png, raw_mode: str | None) -> NDArray[np.uint8]:
    with Image.open(io.BytesIO(png.clean), formats=("PNG",)) as image:
        if raw_mode is not None:
            image.tile = [image.tile[0]._replace(args=raw_mode)]
        image.load()
        return np.asarray(image)


def _chunks(data: bytes) -> Iterator[tuple[bytes, bytes, bool]]:
    """Kind, content, and whether the checksum holds (taken for granted of pixels); the last may be cut short."""
    at = len(SIGNATURE)
    while at + 8 <= len(data):
        length, kind = struct.unpack_from(">I4s", data, at)
        body = data[at + 8 : at + 8 + length]
        stored = data[at + 8 + length : at + 12 + length]
        sound = kind == b"IDAT" or stored == zlib.crc32(kind + body).to_bytes(4, "big")
        yield kind, body, sound
        if kind == b"IEND":
            return
        at += 12 + length


def _chunk(kind: bytes, body: bytes, checksum: int | None = None) -> bytes:
    checksum = zlib.crc32(kind + body) if checksum is None else checksum
    return struct.pack(">I4s", len(body), kind) + body + struct.pack(">I", checksum)


def _before_pixels(found: dict[bytes, bytes]) -> Iterator[bytes]:
    """Chunks whose fate depends on all that comes before the pixels."""
    profile = found.get(b"iCCP")
    if profile is not None and _cicp(found) is None and _is_profile(profile):
        yield _chunk(b"iCCP", profile)
    if b"tRNS" in found and found.get(b"IHDR", b"")[9:10] == bytes([_PALETTE]):
        yield _chunk(b"tRNS", found[b"tRNS"][:256])


def _text_bytes(kind: bytes, body: bytes) -> int | None:
    """How many bytes a text has; None if it is damaged or too long."""
    packed: bytes | None = None
    _, _, rest = body.partition(b"\0")
    if kind == b"zTXt":
        packed = rest[1:] if rest[:1] == b"\0" else b""
    elif kind == b"iTXt" and rest[:1] != b"\0":
        parts = rest[2:].split(b"\0", 2)
        packed = parts[2] if rest[:2] == b"\1\0" and len(parts) == 3 else b""
    size = len(body) if packed is None else _unpacked(packed, _MAX_TEXT)
    return None if size is None or size > _MAX_TEXT else size


def _is_profile(body: bytes) -> bool:
    _, _, rest = body.partition(b"\0")
    size = _unpacked(rest[1:], _MAX_PROFILE) if rest[:1] == b"\0" else None
    return size is not None and size >= 128


def _unpacked(packed: bytes, most: int) -> int | None:
    """How many bytes a deflated stream holds; None if it is damaged, cut short or holds more than `most`."""
    unpack = zlib.decompressobj()
    try:
        size = len(unpack.decompress(packed, most))
    except zlib.error:
        return None
    return size if unpack.eof else None


def _key(found: dict[bytes, bytes], depth: int, kind: int) -> tuple[int, ...] | None:
    values = {_GREY: 1, _RGB: 3}.get(kind, 0)
    stored = found.get(b"tRNS", b"")
    if not values or len(stored) < 2 * values:
        return None
    return tuple(value & (1 << depth) - 1 for value in struct.unpack_from(f">{values}H", stored))


def _cicp(found: dict[bytes, bytes]) -> colour.Space | None:
    """What cICP says, sRGB included; None if it says nothing that is known here."""
    numbers = found.get(b"cICP", b"")
    if len(numbers) != 4 or numbers[2] != 0 or numbers[3] > 1:
        return None
    return colour.from_cicp(numbers[0], numbers[1], full_range=numbers[3] == 1)


def _space(found: dict[bytes, bytes]) -> colour.Space | None:
    """In the order of the specification: cICP, iCCP, sRGB, then gAMA and cHRM."""
    named = _cicp(found)
    if named is not None:
        return None if named == colour.SRGB else named
    if b"sRGB" in found or _is_profile(found.get(b"iCCP", b"")):
        return None
    gamma, chromaticities = found.get(b"gAMA", b""), found.get(b"cHRM", b"")
    return colour.from_png(
        struct.unpack(">I", gamma)[0] if len(gamma) == 4 else None,
        struct.unpack(">8I", chromaticities) if len(chromaticities) == 32 else None,
    )

"""What the tags of a TIFF say of its samples (TIFF 6.0, BigTIFF), read without a decoder."""

from __future__ import annotations

import contextlib
import struct
from collections.abc import Iterator
from typing import Any, NamedTuple

SIGNATURES = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+", b"MM*\0", b"II\0*")
WHITE_IS_ZERO, BLACK_IS_ZERO, RGB, PALETTE, CMYK, YCBCR, LAB = 0, 1, 2, 3, 5, 6, 8
COLOURS = {WHITE_IS_ZERO: 1, BLACK_IS_ZERO: 1, RGB: 3, PALETTE: 1, CMYK: 4, YCBCR: 3, LAB: 3}  # samples
UNCOMPRESSED, OLD_JPEG, JPEG = 1, 6, 7
ASSOCIATED, UNASSOCIATED = 1, 2  # alpha, premultiplied or not; 0 is a sample of no stated meaning
UNSIGNED = 1
_REDUCED = 1  # bit of NewSubfileType
_OLD_REDUCED = 2  # SubfileType
_BIG_ENDIAN_BIG = b"MM\0+"
_DNG_VERSION, _SUB_IFDS = 50706, 330
_DAMAGE = (struct.error, LookupError, TypeError, ValueError, OverflowError)  # what nonsense in tags leads to
_NEXT = -1  # stands for the place of the next page
_WANTED = frozenset(
    {*range(254, 260), 262, 266, 277, 284, 320, 322, 323, _SUB_IFDS, 332, 338, 339, 530, _DNG_VERSION}
)
_TYPES = {1: "B", 3: "H", 4: "I", 6: "b", 8: "h", 9: "i", 13: "I", 16: "Q", 18: "Q"}  # of tags' values
# Of a file, of a page, of a tag; a pixel may claim any number of samples.
_MAX_PAGES, _MAX_ENTRIES, _MAX_VALUES, _MAX_SAMPLES = 100_000, 4096, 3 << 16, 100


class Layout(NamedTuple):
    """What the tags of the first page say of its samples."""

    width: int
    height: int
    photometric: int
    bits: tuple[int, ...]  # of each sample of a pixel
    kinds: frozenset[int]  # SampleFormat
    extra: tuple[int, ...]  # meaning of the samples after the colours
    implied_alpha: bool  # one sample too many of which nothing is said
    planar: bool
    reversed_bits: bool
    compression: int
    subsampled: bool  # Cb and Cr
    inks: int  # 1: cyan, magenta, yellow, black
    tile: tuple[int, int]  # (width, height); 0 where there are strips
    small_map: bool  # palette of 8-bit entries where 16 belong
    foreign: bool  # a file that Pillow does not open
    preview: str  # what else the file holds if this page is only a small copy of it; "" if not


def layout(data: bytes) -> Layout | None:
    """The layout of the first page; None if the tags cannot be read, which Pillow then says."""
    try:
        return _layout(next(_pages(data)), data)
    except _DAMAGE:
        return None


def count_pages(data: bytes) -> int:
    """How many pages there are, small copies of others and pages that are damaged not counted; 1 at the least."""
    count = 0
    with contextlib.suppress(*_DAMAGE):
        for page in _pages(data):
            count += not _is_reduced(page)
    return max(count, 1)


def from_tags(tags: Any) -> Layout:
    """The layout of a TIFF that Pillow opened, by its `tag_v2`."""
    return _layout({tag: tags[tag] for tag in tags if tag in _WANTED}, b"")


def _pages(data: bytes) -> Iterator[dict[int, Any]]:
    """Values of the wanted tags of each page. Raises what is in `_DAMAGE` for a page that the file does not hold."""
    order, big = "<" if data[:2] == b"II" else ">", 43 in data[2:4]
    count_form, word, entry, room = ("Q", "Q", "HHQ", 8) if big else ("H", "I", "HHI", 4)
    (at,) = struct.unpack_from(f"{order}{word}", data, 8 if big else 4)
    for _ in range(_MAX_PAGES):
        (count,) = struct.unpack_from(f"{order}{count_form}", data, at)
        at += struct.calcsize(f"={count_form}")
        found: dict[int, Any] = {}
        for _ in range(min(count, _MAX_ENTRIES)):
            tag, kind, values = struct.unpack_from(f"{order}{entry}", data, at)
            content, at = at + 4 + room, at + 4 + 2 * room
            if tag not in _WANTED or kind not in _TYPES or not 1 <= values <= _MAX_VALUES:
                continue
            form = f"{order}{values}{_TYPES[kind]}"
            if struct.calcsize(form) > room:
                (content,) = struct.unpack_from(f"{order}{word}", data, content)
            read = struct.unpack_from(form, data, content)
            found.setdefault(tag, read if values > 1 else read[0])
        (at,) = struct.unpack_from(f"{order}{word}", data, at) if at < len(data) else (0,)
        yield found | {_NEXT: at}
        if at == 0:
            return


def _layout(tags: dict[int, Any], data: bytes) -> Layout:
    compression = tags.get(259, UNCOMPRESSED)
    photometric = YCBCR if compression == OLD_JPEG else tags.get(262, WHITE_IS_ZERO)
    count = min(tags.get(277, 3 if compression == OLD_JPEG else 1), _MAX_SAMPLES)
    bits = _several(tags.get(258, 1))
    bits = bits * count if len(bits) == 1 else bits[:count]
    if not bits:
        raise ValueError("no samples")
    behind = max(count - COLOURS.get(photometric, count), 0)
    extra = _several(tags.get(338, ()))[:behind]
    implied = behind == 1 and not extra
    extra = (UNASSOCIATED,) if implied else extra
    extra = tuple(kind if kind in (ASSOCIATED, UNASSOCIATED) else 0 for kind in extra)
    colours = tags.get(320, ())
    return Layout(
        width=int(tags[256]),
        height=int(tags[257]),
        photometric=photometric,
        bits=bits,
        kinds=frozenset(_several(tags.get(339, UNSIGNED))),
        extra=extra + (0,) * (behind - len(extra)),
        implied_alpha=implied,
        planar=tags.get(284, 1) == 2,
        reversed_bits=tags.get(266, 1) == 2,
        compression=compression,
        subsampled=_several(tags.get(530, (2, 2))) != (1, 1),
        inks=tags.get(332, 1),
        tile=(tags.get(322, 0), tags.get(323, 0)),
        small_map=bool(colours) and max(colours) < 256,
        foreign=data.startswith(_BIG_ENDIAN_BIG),
        preview=_preview(tags, data),
    )


def _preview(tags: dict[int, Any], data: bytes) -> str:
    if _DNG_VERSION in tags or data[8:11] == b"CR\2":
        return "a camera's raw data"
    others = _SUB_IFDS in tags or tags.get(_NEXT)
    return "its first page is a small copy of another one" if others and _is_reduced(tags) else ""


def _is_reduced(tags: dict[int, Any]) -> bool:
    return bool(tags.get(254, 0) & _REDUCED) or tags.get(255, 1) == _OLD_REDUCED


def _several(value: Any) -> tuple[int, ...]:
    return tuple(value) if isinstance(value, tuple) else (value,)

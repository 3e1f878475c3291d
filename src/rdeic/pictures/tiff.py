"""TIFF by its tags (TIFF 6.0): what Pillow shows right is left to it, other layouts go to tifffile or are refused.

Pillow opens layouts that it then shows wrong: 12-bit grey nearly black, planes of 16 bits as noise, 16-bit
white-is-zero as a negative. So the layout decides, before a pixel is shown.
"""

from __future__ import annotations

import io
import logging
import math
import struct
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from rdeic.errors import ImageError
from rdeic.pictures import opening
from rdeic.pictures.render import Parts, scaled

SIGNATURES = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+", b"MM*\0", b"II\0*")
_REMEDY = "convert it to 8 or 16 bits a channel"
_WHITE_IS_ZERO, _BLACK_IS_ZERO, _RGB, _PALETTE, _CMYK, _YCBCR, _LAB = 0, 1, 2, 3, 5, 6, 8
_COLOURS = {_WHITE_IS_ZERO: 1, _BLACK_IS_ZERO: 1, _RGB: 3, _PALETTE: 1, _CMYK: 4, _YCBCR: 3, _LAB: 3}
_NAMES = {4: "a transparency mask", 9: "ICC L*a*b*", 10: "ITU L*a*b*", 32803: "a camera's raw data"}
_NAMES |= {32844: "LogL", 32845: "LogLuv", 34892: "a camera's raw data", 51177: "a depth map"}
_NONE, _OLD_JPEG, _JPEG = 1, 6, 7
_PILLOWS = frozenset({_NONE, 2, 3, 4, 5, _OLD_JPEG, _JPEG, 8, 32773, 32946, 34925, 50000})  # compressions
_ASSOCIATED, _UNASSOCIATED = 1, 2  # alpha; 0 is a sample of no stated meaning
_UNSIGNED, _SIGNED, _FLOAT = 1, 2, 3
_SAMPLE_NAMES = {_SIGNED: "signed", _FLOAT: "floating-point", 5: "complex", 6: "complex"}
_MAX_SAMPLES = 8  # a pixel
_REDUCED = 1  # bit of NewSubfileType
_DNG_VERSION, _SUB_IFDS = 50706, 330
_WANTED = {
    254,
    255,
    256,
    257,
    258,
    259,
    262,
    266,
    277,
    284,
    320,
    322,
    323,
    _SUB_IFDS,
    332,
    338,
    339,
    530,
    _DNG_VERSION,
}
_NEXT = -1  # stands for the place of the next page
_TYPES = {1: "B", 3: "H", 4: "I", 13: "I", 16: "Q", 18: "Q"}  # of tags' values
_MAX_ENTRIES, _MAX_VALUES = 4096, 3 << 16  # of a page, of a tag
_BIG_ENDIAN_BIG = b"MM\0+"


class Layout(NamedTuple):
    """What the tags of the first page say of its samples."""

    width: int
    height: int
    photometric: int
    bits: tuple[int, ...]  # of each sample of a pixel
    kinds: frozenset[int]  # SampleFormat
    extra: tuple[int, ...]  # meaning of the samples behind the colours
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
        return _layout(_tags(data), data)
    except (struct.error, LookupError, TypeError, ValueError):
        return None


def from_tags(tags: Any) -> Layout:
    """The layout of a TIFF that Pillow opened, by its `tag_v2`."""
    return _layout({tag: tags[tag] for tag in tags if tag in _WANTED}, b"")


def check(told: Layout) -> None:
    """Raises ImageError, with the reason, for layouts that state no colours or that nothing here shows right."""
    colours = _COLOURS.get(told.photometric)
    if told.preview:
        raise ImageError(f"{told.preview}; develop or extract the picture you want first")
    if colours is None:
        name = _NAMES.get(told.photometric, f"colours of kind {told.photometric}")
        raise ImageError(f"a TIFF with {name}; convert it to RGB")
    for kind in told.kinds - {_UNSIGNED}:
        name = _SAMPLE_NAMES.get(kind, "undefined")
        raise ImageError(f"has {name} samples, for which TIFF states no black and white; {_REMEDY}")
    if len(set(told.bits)) > 1 or not 1 <= told.bits[0] <= 16:
        raise ImageError(f"has samples of {'/'.join(map(str, sorted(set(told.bits))))} bits; {_REMEDY}")
    if not colours <= len(told.bits) <= _MAX_SAMPLES:
        raise ImageError(f"has {len(told.bits)} samples a pixel, {colours} to {_MAX_SAMPLES} can be read")
    if told.photometric == _CMYK and told.inks != 1:
        raise ImageError("has inks other than cyan, magenta, yellow and black; convert it to RGB")
    if told.photometric == _YCBCR and told.compression == _NONE and told.subsampled:
        raise ImageError("an uncompressed TIFF with subsampled YCbCr; convert it to RGB")


def is_shown_right_by_pillow(told: Layout) -> bool:
    """Whether Pillow has this layout right; tests try each."""
    depth, extra, one = (
        told.bits[0],
        told.extra,
        told.photometric in (_WHITE_IS_ZERO, _BLACK_IS_ZERO, _PALETTE),
    )
    if told.compression not in _PILLOWS or (told.compression == _JPEG and depth != 8):
        return False
    if told.small_map or told.foreign or (told.implied_alpha and told.photometric != _RGB):
        return False
    if told.reversed_bits:
        if told.planar or extra or told.photometric not in (_WHITE_IS_ZERO, _BLACK_IS_ZERO, _RGB):
            return False
        return depth in ((1, 2, 4) if told.photometric == _WHITE_IS_ZERO else (1, 2, 4, 8) if one else (8,))
    if told.planar:
        return depth == 8 and not extra and told.photometric in (_BLACK_IS_ZERO, _PALETTE, _RGB, _CMYK)
    if one and not extra:
        return depth in (1, 2, 4, 8) or (depth == 16 and told.photometric == _BLACK_IS_ZERO)
    if told.photometric in (_BLACK_IS_ZERO, _PALETTE):
        return depth == 8 and len(extra) == 1 and (told.photometric, *extra) != (_PALETTE, _ASSOCIATED)
    if told.photometric == _RGB:
        return depth in (8, 16) and len(extra) <= (1 if depth == 16 else 3) and not any(extra[1:])
    if told.photometric == _CMYK:
        return depth in (8, 16) and not any(extra) and len(extra) <= (0 if depth == 16 else 2)
    return depth == 8 and not extra


def decode(data: bytes, told: Layout, max_pixels: int) -> Parts:
    """The first page through tifffile. Raises ImageError without it, and for files that it cannot decode."""
    if told.photometric == _LAB or (told.photometric == _YCBCR and told.compression != _JPEG):
        name = "L*a*b*" if told.photometric == _LAB else "YCbCr"
        raise ImageError(f"a TIFF with {name} in {_samples_in_words(told)}; convert it to RGB")
    opening.check_size((told.width, told.height), max_pixels)
    opening.check_size((max(told.tile[0], 1), max(told.tile[1], 1)), max(max_pixels, 1 << 20))
    samples, colour_map, orientation, profile = _samples(data, told)
    colours, alpha = _unmixed(samples, told, colour_map)
    return Parts(colours, alpha, profile, orientation=orientation)


def _samples(data: bytes, told: Layout) -> tuple[NDArray[Any], NDArray[Any] | None, int, bytes | None]:
    """(H, W, samples a pixel), palette (3, 2^bits), orientation and profile."""
    try:
        import imagecodecs  # noqa: F401 (tifffile asks for it when it meets a codec)
        import tifffile
    except ImportError as error:
        raise ImageError(
            f"a TIFF with {_samples_in_words(told)}, which takes a reader of its own: pip install 'rdeic[tiff]'"
        ) from error
    logging.getLogger("tifffile").addHandler(logging.NullHandler())  # or it writes to stderr
    with tifffile.TiffFile(io.BytesIO(data)) as file:
        page = file.pages.first
        places = list(zip(page.dataoffsets, page.databytecounts, strict=False))
        if len(places) < math.prod(page.chunked) or not all(at and size for at, size in places):
            raise ImageError("damaged or truncated picture (strips or tiles are missing)")
        samples = page.asarray(maxworkers=1)
        axes, colour_map = page.axes, page.colormap
        tags = {code: tag.value for code in (274, 34675) if (tag := page.tags.get(code)) is not None}
    if axes == "SYX":
        samples = np.moveaxis(samples, 0, 2)
    if samples.dtype == np.bool_:
        samples = samples.astype(np.uint8)
    samples = samples.reshape(told.height, told.width, -1)
    if samples.shape[2] != len(told.bits):
        raise ImageError("damaged or truncated picture (samples are missing)")
    return samples, colour_map, int(tags.get(274, 1)), tags.get(34675)


def _samples_in_words(told: Layout) -> str:
    name = f"{len(told.bits)}x{told.bits[0]}-bit samples" + (" in planes" if told.planar else "")
    return name if told.compression in _PILLOWS else f"{name} compressed in way {told.compression}"


def _unmixed(
    samples: NDArray[Any], told: Layout, colour_map: NDArray[Any] | None
) -> tuple[Image.Image, Image.Image | None]:
    """8-bit colours, and alpha unless opaque."""
    top, count = 2 ** told.bits[0] - 1, _COLOURS[told.photometric]
    codes = samples[..., :count]
    alpha = samples[..., count] if told.extra[:1] in ((_ASSOCIATED,), (_UNASSOCIATED,)) else None
    if alpha is not None and (alpha == top).all():
        alpha = None
    if alpha is not None and told.extra[0] == _ASSOCIATED and told.photometric != _PALETTE:
        whole = np.maximum(alpha, 1)[..., None].astype(np.int64)
        codes, top = np.minimum((codes * np.int64(65_535) + whole // 2) // whole, 65_535), 65_535
    if told.photometric == _WHITE_IS_ZERO:
        codes = top - codes
    if told.photometric == _PALETTE:
        if colour_map is None:
            raise ImageError("damaged picture (a palette is missing)")
        entries = colour_map.astype(np.int64) * (257 if told.small_map else 1)
        codes, top, count = np.moveaxis(entries[:, codes[..., 0]], 0, 2), 65_535, 3
    # The high byte of deep colours, as Pillow takes it; deep grey is rounded.
    flat = codes >> 8 if told.bits[0] == 16 and count > 1 else scaled(codes, top)
    mode = {1: "L", 3: "RGB", 4: "CMYK"}[count]
    pixels = np.ascontiguousarray(flat.astype(np.uint8)[..., 0] if count == 1 else flat.astype(np.uint8))
    return (
        Image.frombuffer(mode, (told.width, told.height), pixels.tobytes(), "raw", mode, 0, 1),
        None if alpha is None else Image.fromarray(scaled(alpha, 2 ** told.bits[0] - 1)),
    )


def _tags(data: bytes) -> dict[int, Any]:
    """Values of the wanted tags of the first page. Raises struct.error or LookupError if there is no such page."""
    order, big = "<" if data[:2] == b"II" else ">", 43 in data[2:4]
    count_form, word, entry, room = ("Q", "Q", "HHQ", 8) if big else ("H", "I", "HHI", 4)
    (at,) = struct.unpack_from(f"{order}{word}", data, 8 if big else 4)
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
    (found[_NEXT],) = struct.unpack_from(f"{order}{word}", data, at) if at < len(data) else (0,)
    return found


def _layout(tags: dict[int, Any], data: bytes) -> Layout:
    compression = tags.get(259, _NONE)
    photometric = _YCBCR if compression == _OLD_JPEG else tags.get(262, _WHITE_IS_ZERO)
    count = tags.get(277, 3 if compression == _OLD_JPEG else 1)
    bits = _several(tags.get(258, 1))
    bits = bits * count if len(bits) == 1 else bits[:count]
    behind = max(count - _COLOURS.get(photometric, count), 0)
    extra = _several(tags.get(338, ()))[:behind]
    implied = behind == 1 and not extra
    extra = (_UNASSOCIATED,) if implied else extra
    extra = tuple(kind if kind in (_ASSOCIATED, _UNASSOCIATED) else 0 for kind in extra)
    colours = tags.get(320, ())
    return Layout(
        width=int(tags[256]),
        height=int(tags[257]),
        photometric=photometric,
        bits=bits,
        kinds=frozenset(_several(tags.get(339, _UNSIGNED))),
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
    reduced = tags.get(254, 0) & _REDUCED or tags.get(255, 1) == 2
    return (
        "its first page is a small copy of another one"
        if reduced and (_SUB_IFDS in tags or tags.get(_NEXT))
        else ""
    )


def _several(value: Any) -> tuple[int, ...]:
    return tuple(value) if isinstance(value, tuple) else (value,)

"""TIFF by its tags (TIFF 6.0): what Pillow shows right is left to it, other layouts go to tifffile or are refused.

Pillow opens layouts that it then shows wrong: 12-bit grey nearly black, planes of 16 bits as noise, 16-bit
white-is-zero as a negative. So the layout decides, before a pixel is shown.
"""

from __future__ import annotations

import io
import math
import sys
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from rdeic.errors import ImageError
from rdeic.pictures import opening
from rdeic.pictures.render import Parts, scaled
from rdeic.pictures.tiff_layout import (
    ASSOCIATED,
    BLACK_IS_ZERO,
    CMYK,
    COLOURS,
    JPEG,
    LAB,
    OLD_JPEG,
    PALETTE,
    RGB,
    UNASSOCIATED,
    UNCOMPRESSED,
    UNSIGNED,
    WHITE_IS_ZERO,
    YCBCR,
    Layout,
)

_REMEDY = "convert it to 8 or 16 bits a channel"
_NAMES = {4: "a transparency mask", 9: "ICC L*a*b*", 10: "ITU L*a*b*", 32803: "a camera's raw data"}
_NAMES |= {32844: "LogL", 32845: "LogLuv", 34892: "a camera's raw data", 51177: "a depth map"}
_PILLOWS = frozenset(
    {UNCOMPRESSED, 2, 3, 4, 5, OLD_JPEG, JPEG, 8, 32773, 32946, 34925, 50000}
)  # compressions
_SAMPLE_NAMES = {2: "signed", 3: "floating-point", 5: "complex", 6: "complex"}
_MAX_SAMPLES = 8  # a pixel
_ORIENTATION, _PROFILE = 274, 34675
_DEEP = (WHITE_IS_ZERO, BLACK_IS_ZERO, RGB)  # may go through a profile with 16 bits
# Decoding 16-bit samples as if they had the other byte order gives their low bytes.
_OTHER_ORDER = "B" if sys.byteorder == "little" else "L"
_LOW_BYTES = {
    f"{mode};16{order}": f"{mode};16{other}"
    for mode in ("RGB", "RGBX", "RGBA")
    for order, other in (("L", "B"), ("B", "L"), ("N", _OTHER_ORDER))
}


def check(told: Layout) -> None:
    """Raises ImageError, with the reason, for layouts that state no colours or that nothing here shows right."""
    colours = COLOURS.get(told.photometric)
    if told.preview:
        raise ImageError(f"{told.preview}; develop or extract the picture you want first")
    if colours is None:
        name = _NAMES.get(told.photometric, f"colours of kind {told.photometric}")
        raise ImageError(f"a TIFF with {name}; convert it to RGB")
    for kind in told.kinds - {UNSIGNED}:
        name = _SAMPLE_NAMES.get(kind, "undefined")
        raise ImageError(f"has {name} samples, for which TIFF states no black and white; {_REMEDY}")
    if len(set(told.bits)) > 1 or not 1 <= told.bits[0] <= 16:
        raise ImageError(f"has samples of {'/'.join(map(str, sorted(set(told.bits))))} bits; {_REMEDY}")
    if not colours <= len(told.bits) <= _MAX_SAMPLES:
        raise ImageError(f"has {len(told.bits)} samples a pixel, {colours} to {_MAX_SAMPLES} can be read")
    if told.photometric == CMYK and told.inks != 1:
        raise ImageError("has inks other than cyan, magenta, yellow and black; convert it to RGB")
    if told.photometric == YCBCR and told.compression == UNCOMPRESSED and told.subsampled:
        raise ImageError("an uncompressed TIFF with subsampled YCbCr; convert it to RGB")


def is_shown_right_by_pillow(told: Layout) -> bool:
    """Whether Pillow has this layout right; tests try each."""
    depth, extra, one = (
        told.bits[0],
        told.extra,
        told.photometric in (WHITE_IS_ZERO, BLACK_IS_ZERO, PALETTE),
    )
    if told.compression not in _PILLOWS or (told.compression == JPEG and depth != 8):
        return False
    if told.small_map or told.foreign or (told.implied_alpha and told.photometric != RGB):
        return False
    if told.reversed_bits:
        if told.planar or extra or told.photometric not in (WHITE_IS_ZERO, BLACK_IS_ZERO, RGB):
            return False
        return depth in ((1, 2, 4) if told.photometric == WHITE_IS_ZERO else (1, 2, 4, 8) if one else (8,))
    if told.planar:
        return depth == 8 and not extra and told.photometric in (BLACK_IS_ZERO, PALETTE, RGB, CMYK)
    if one and not extra:
        return depth in (1, 2, 4, 8) or (depth == 16 and told.photometric == BLACK_IS_ZERO)
    if told.photometric in (BLACK_IS_ZERO, PALETTE):
        return depth == 8 and len(extra) == 1 and (told.photometric, *extra) != (PALETTE, ASSOCIATED)
    if told.photometric == RGB:
        return depth in (8, 16) and len(extra) <= (1 if depth == 16 else 3) and not any(extra[1:])
    if told.photometric == CMYK:
        return depth in (8, 16) and not any(extra) and len(extra) <= (0 if depth == 16 else 2)
    return depth == 8 and not extra


def decode(data: bytes, told: Layout, max_pixels: int) -> Parts:
    """The first page through tifffile. Raises ImageError without it, and for files that it cannot decode."""
    if told.photometric == LAB or (told.photometric == YCBCR and told.compression != JPEG):
        name = "L*a*b*" if told.photometric == LAB else "YCbCr"
        raise ImageError(f"a TIFF with {name} in {_samples_in_words(told)}; convert it to RGB")
    opening.check_size((told.width, told.height), max_pixels)
    opening.check_size((max(told.tile[0], 1), max(told.tile[1], 1)), max(max_pixels, 1 << 20))
    samples, colour_map, orientation, profile = _samples(data, told)
    colours, alpha, deep = _unmixed(samples, told, colour_map)
    return Parts(colours, alpha, profile, None, orientation, deep if profile else None)


def deep(data: bytes, shown: Image.Image) -> NDArray[np.uint16] | None:
    """All bits of 16-bit RGB, (H, W, 3), of which Pillow has `shown` the high bytes; None of other layouts."""
    with Image.open(io.BytesIO(data), formats=("TIFF",)) as image:
        tiles = [(tile, tile.args) for tile in image.tile if isinstance(tile.args, tuple)]
        raw_modes = {args[0] for _, args in tiles}
        if len(raw_modes) != 1 or not raw_modes <= _LOW_BYTES.keys():
            return None
        low_bytes = _LOW_BYTES[raw_modes.pop()]
        image.tile = [tile._replace(args=(low_bytes, *args[1:])) for tile, args in tiles]
        opening.load(image)
        high, low = np.asarray(shown)[..., :3], np.asarray(image)[..., :3]
        return np.left_shift(high, 8, dtype=np.uint16) | low


def _samples(data: bytes, told: Layout) -> tuple[NDArray[Any], NDArray[Any] | None, int, bytes | None]:
    """(H, W, samples a pixel), palette (3, 2^bits), orientation and profile."""
    try:
        import imagecodecs  # noqa: F401 (tifffile asks for it when it meets a codec)
        import tifffile
    except ImportError as error:
        raise ImageError(
            f"a TIFF with {_samples_in_words(told)}, which takes a reader of its own: pip install 'rdeic[tiff]'"
        ) from error
    with tifffile.TiffFile(io.BytesIO(data)) as file:
        page = file.pages.first
        places = list(zip(page.dataoffsets, page.databytecounts, strict=False))
        if len(places) < math.prod(page.chunked) or not all(at and size for at, size in places):
            raise ImageError("damaged or truncated picture (strips or tiles are missing)")
        samples = page.asarray(maxworkers=1)
        axes, colour_map = page.axes, page.colormap
        tags = {
            code: tag.value for code in (_ORIENTATION, _PROFILE) if (tag := page.tags.get(code)) is not None
        }
    if axes == "SYX":
        samples = np.moveaxis(samples, 0, 2)
    if samples.dtype == np.bool_:
        samples = samples.astype(np.uint8)
    samples = samples.reshape(told.height, told.width, -1)
    if samples.shape[2] != len(told.bits):
        raise ImageError("damaged or truncated picture (samples are missing)")
    return samples, colour_map, int(tags.get(_ORIENTATION, 1)), tags.get(_PROFILE)


def _samples_in_words(told: Layout) -> str:
    name = f"{len(told.bits)}x{told.bits[0]}-bit samples" + (" in planes" if told.planar else "")
    return name if told.compression in _PILLOWS else f"{name} compressed in way {told.compression}"


def _unmixed(
    samples: NDArray[Any], told: Layout, colour_map: NDArray[Any] | None
) -> tuple[Image.Image, Image.Image | None, NDArray[np.uint16] | None]:
    """8-bit colours, alpha unless opaque, and all bits of deep grey or RGB."""
    top, count = 2 ** told.bits[0] - 1, COLOURS[told.photometric]
    codes = samples[..., :count]
    alpha = samples[..., count] if told.extra[:1] in ((ASSOCIATED,), (UNASSOCIATED,)) else None
    if alpha is not None and (alpha == top).all():
        alpha = None
    if alpha is not None and told.extra[0] == ASSOCIATED and told.photometric != PALETTE:
        whole = np.maximum(alpha, 1)[..., None].astype(np.uint32)  # 65535 * 65535 + 32767 is below 2^32
        codes, top = np.minimum((codes.astype(np.uint32) * 65_535 + whole // 2) // whole, 65_535), 65_535
    if told.photometric == WHITE_IS_ZERO:
        codes = top - codes
    if told.photometric == PALETTE:
        if colour_map is None:
            raise ImageError("damaged picture (a palette is missing)")
        entries = colour_map.astype(np.uint16) * np.uint16(257 if told.small_map else 1)
        codes, top, count = np.moveaxis(entries[:, codes[..., 0]], 0, 2), 65_535, 3
    # The high byte of deep colours, as Pillow takes it; deep grey is rounded.
    flat = codes >> 8 if told.bits[0] == 16 and count > 1 else scaled(codes, top)
    mode = {1: "L", 3: "RGB", 4: "CMYK"}[count]
    pixels = np.ascontiguousarray(flat.astype(np.uint8)[..., 0] if count == 1 else flat.astype(np.uint8))
    return (
        Image.frombuffer(mode, (told.width, told.height), pixels.tobytes(), "raw", mode, 0, 1),
        None if alpha is None else Image.fromarray(scaled(alpha, 2 ** told.bits[0] - 1)),
        codes.astype(np.uint16) if top == 65_535 and told.photometric in _DEEP else None,
    )

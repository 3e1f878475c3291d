"""Pictures in and out: any file Pillow knows => (H, W, 3) uint8 sRGB => PNG, JPEG or WebP.

Reading does, in this order:

    open (limited) -> decode -> split off alpha -> 16 to 8 bit -> ICC profile to sRGB -> composite -> EXIF rotation
"""

from __future__ import annotations

import contextlib
import io
import os
import threading
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageCms, ImageColor

from rdeic import files
from rdeic.container import MAX_PIXELS
from rdeic.errors import ConfigError, ImageError

Picture: TypeAlias = NDArray[np.uint8]  # (H, W, 3), sRGB
Source: TypeAlias = "str | Path | bytes | Image.Image | Picture"

MAX_SIDE = 65_535
FORMATS = ("png", "jpg", "webp")
SUFFIXES = frozenset(  # what counts as a picture inside a directory
    f".{name}"
    for name in (
        *FORMATS,
        "jpeg",
        "tif",
        "tiff",
        "bmp",
        "gif",
        "ppm",
        "pgm",
        "pbm",
        "pnm",
        "avif",
        "jp2",
        "qoi",
    )
)

# Not simply all of Pillow's: some of those run other programs (EPS) or match almost any bytes (TGA).
_READABLE = ("PNG", "JPEG", "WEBP", "TIFF", "BMP", "GIF", "PPM", "AVIF", "JPEG2000", "QOI")
_UNROTATE = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_EXIF_ORIENTATION = 0x0112
_pillow_limit = threading.RLock()  # the thread that forks may hold it
if hasattr(os, "register_at_fork"):  # no child inherits it while another thread holds it
    os.register_at_fork(
        before=_pillow_limit.acquire,
        after_in_parent=_pillow_limit.release,
        after_in_child=_pillow_limit.release,
    )


def read(source: Source, max_pixels: int = MAX_PIXELS, background: str | None = None) -> Picture:
    """One picture as (H, W, 3) uint8 sRGB, upright.

    `source` is a path, the bytes of a picture file, a Pillow image, or an (H, W, 3) uint8 array (returned as it is).
    Of an animation the first frame is taken. `background`, a colour name or #rrggbb, is put behind transparent
    pixels. Raises ImageError for anything unreadable, for sides beyond 1..65535, for more than `max_pixels`, and for
    transparency without `background`; ConfigError if `background` is no colour.
    """
    behind = None if background is None else parse_colour(background)
    if isinstance(source, np.ndarray):
        return _check_array(source, max_pixels)
    if isinstance(source, Image.Image):
        _check_size(source.size, max_pixels)
        return _decode(source, behind)
    if isinstance(source, bytes):
        return _read_bytes(source, max_pixels, behind)
    try:
        return _read_bytes(Path(source).read_bytes(), max_pixels, behind)
    except OSError as error:
        raise ImageError(f"{source}: cannot be read: {error.strerror or error}") from error
    except ImageError as error:
        raise ImageError(f"{source}: {error}") from error


def encode(image: Picture | Image.Image, kind: str) -> bytes:
    """The picture as the bytes of a `kind` file: png and webp are lossless, jpg has quality 95.

    EXIF in an image's `info` goes along. Raises ConfigError for another kind, ImageError when the format cannot hold
    the picture (webp: 16383 a side).
    """
    picture = image if isinstance(image, Image.Image) else Image.fromarray(image)
    buffer = io.BytesIO()
    exif = picture.info.get("exif", b"")
    try:
        if kind == "png":
            picture.save(buffer, "PNG", exif=exif)
        elif kind == "jpg":
            picture.save(buffer, "JPEG", quality=95, subsampling=0, exif=exif)
        elif kind == "webp":
            picture.save(buffer, "WEBP", lossless=True, exif=exif)
        else:
            raise ConfigError(f"picture format {kind!r} is not one of {', '.join(FORMATS)}")
    except (OSError, ValueError) as error:
        size = f"{picture.width}x{picture.height}"
        raise ImageError(f"a picture of {size} cannot be written as {kind} ({error}); use png") from error
    return buffer.getvalue()


def write(image: Picture | Image.Image, path: str | Path, kind: str) -> None:
    """Writes the picture to `path` as `kind`, atomically. Raises what `encode` raises, ImageError if the disk does."""
    data = encode(image, kind)
    try:
        files.atomic_write(Path(path), data)
    except OSError as error:
        raise ImageError(f"{path}: cannot be written: {error.strerror or error}") from error


def pad(image: Picture, multiple: int) -> Picture:
    """Repeats the right and bottom edge until both sides are multiples: (H, W, 3) => (H', W', 3)."""
    height, width = image.shape[:2]
    return np.pad(image, ((0, -height % multiple), (0, -width % multiple), (0, 0)), mode="edge")


def parse_colour(text: str) -> tuple[int, int, int]:
    """A colour name, #rrggbb or rgb(r, g, b) as three numbers 0..255; its alpha, if any, is ignored.

    Raises ConfigError if it is none of these.
    """
    try:
        red, green, blue = ImageColor.getrgb(text)[:3]
    except ValueError as error:
        raise ConfigError(f"{text!r} is not a colour; use a name such as white, or #rrggbb") from error
    return red, green, blue


def _check_array(array: NDArray[np.uint8], max_pixels: int) -> Picture:
    if array.dtype != np.uint8 or array.ndim != 3 or array.shape[2] != 3:
        raise ImageError(f"expected an (H, W, 3) uint8 array, got {array.dtype} of shape {array.shape}")
    _check_size((array.shape[1], array.shape[0]), max_pixels)
    return array


def _check_size(size: tuple[int, int], max_pixels: int) -> None:
    width, height = size
    if not (1 <= width <= MAX_SIDE and 1 <= height <= MAX_SIDE):
        raise ImageError(f"sides must be 1 to {MAX_SIDE} pixels, this is {width}x{height}")
    if width * height > max_pixels:
        raise ImageError(_too_large(f"{width}x{height}", max_pixels))


def _too_large(size: str, max_pixels: int) -> str:
    limit = f"the limit is {max_pixels / 1e6:.3g} megapixels"
    return f"{size}: {limit}; scale it down, cut it up, or raise --max-pixels"


def _read_bytes(data: bytes, max_pixels: int, behind: tuple[int, int, int] | None) -> Picture:
    if not data:
        raise ImageError("the file is empty")
    with open_limited(data, max_pixels) as image:
        _check_size(image.size, max_pixels)
        return _decode(image, behind)


def open_limited(data: bytes, max_pixels: int) -> Image.Image:
    """A picture file, not decoded yet. Raises ImageError for an unknown format, and beyond twice `max_pixels`."""
    with _limited(max_pixels):
        try:
            return Image.open(io.BytesIO(data), formats=_READABLE)
        except Image.DecompressionBombError as error:
            raise ImageError(_too_large("far too large", max_pixels)) from error
        except Exception as error:  # Pillow's parsers raise almost anything on hostile files
            raise ImageError(
                "not a picture in a known format; PNG, JPEG, WebP, TIFF and others can be read"
            ) from error


@contextlib.contextmanager
def _limited(max_pixels: int) -> Iterator[None]:
    """Pillow's own limit is a global below ours, so it is replaced, for one thread at a time.

    It refuses only beyond twice the limit and warns before: the caller checks again.
    """
    with _pillow_limit, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        before, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, max_pixels
        try:
            yield
        finally:
            Image.MAX_IMAGE_PIXELS = before


def _load(image: Image.Image) -> None:
    """Reads the pixels of an image whose size is within our limit."""
    if image.format == "TIFF":  # looks at Pillow's limit once more
        with _limited(image.width * image.height):
            image.load()
    else:
        image.load()


def _decode(image: Image.Image, behind: tuple[int, int, int] | None) -> Picture:
    try:
        _load(image)
        orientation = _orientation(image)
        colour, alpha = _split_alpha(image)
        colour = _to_srgb(_to_8_bit(colour), image.info.get("icc_profile"))
    except ImageError:
        raise
    except MemoryError as error:
        raise ImageError("not enough memory to open it; scale it down or cut it up") from error
    except Exception as error:  # as above
        raise ImageError(f"damaged or truncated picture ({error})") from error
    if alpha is not None:
        if behind is None:
            raise ImageError("has transparent pixels; choose what lies behind them with --background COLOUR")
        canvas = Image.new("RGB", colour.size, behind)
        canvas.paste(colour, mask=alpha)
        colour = canvas
    if orientation in _UNROTATE:
        colour = colour.transpose(_UNROTATE[orientation])
    return np.array(colour)


def _orientation(image: Image.Image) -> int:
    try:
        return int(image.getexif().get(_EXIF_ORIENTATION, 1))
    except Exception:  # damaged metadata is no reason to refuse a sound picture
        return 1


def _split_alpha(image: Image.Image) -> tuple[Image.Image, Image.Image | None]:
    """The picture without alpha, and its alpha (mode L) unless fully opaque."""
    if not image.has_transparency_data:
        return image, None
    if image.mode.startswith("I"):  # deep grey with one transparent value, which no Pillow conversion keeps
        opaque = np.asarray(image) != image.info["transparency"]
        return image, None if opaque.all() else Image.fromarray(opaque.astype(np.uint8) * 255)
    straight = image.convert("RGBA")
    alpha = straight.getchannel("A")
    if alpha.getextrema() == (255, 255):
        return (image.convert("L") if image.mode == "LA" else straight.convert("RGB")), None
    return straight.convert("RGB"), alpha


def _to_8_bit(image: Image.Image) -> Image.Image:
    """Deep grey (I;16 and kin, I) scaled from 0..65535 to 0..255, rounded; palettes and bilevel looked up."""
    if image.mode == "I" or image.mode.startswith("I;16"):
        deep = np.asarray(image).astype(np.int64)
        if deep.min() < 0 or deep.max() > 65_535:
            raise ImageError("has 32-bit samples; convert it to 8 or 16 bits a channel")
        return Image.fromarray(((deep * 255 + 32_767) // 65_535).astype(np.uint8))
    if image.mode == "F":
        raise ImageError("has floating-point samples; convert it to 8 or 16 bits a channel")
    if image.mode in ("P", "1"):
        return image.convert("RGB" if image.mode == "P" else "L")
    return image


def _to_srgb(image: Image.Image, profile: bytes | None) -> Image.Image:
    """Mode RGB, through the embedded profile where there is a usable one."""
    if profile:
        try:
            source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
            converted = ImageCms.profileToProfile(
                image, source, ImageCms.createProfile("sRGB"), outputMode="RGB"
            )
        except (ImageCms.PyCMSError, OSError, ValueError):
            converted = None  # a broken or misplaced profile: viewers ignore it, so does this
        if converted is not None:
            return converted
    return image.convert("RGB")

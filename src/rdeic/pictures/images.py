"""Pictures in and out: any file Pillow knows => (H, W, 3) uint8 sRGB => PNG, JPEG, WebP or AVIF.

Reading does, in this order:

    open (limited) -> decode -> split off alpha -> 16 to 8 bit -> colour space to sRGB -> composite -> EXIF rotation
"""

from __future__ import annotations

import io
import zlib
from pathlib import Path
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageColor

from rdeic.container.container import MAX_PIXELS
from rdeic.errors import ConfigError, ImageError
from rdeic.pictures import formats, opening, reading
from rdeic.pictures.opening import MAX_SIDE as MAX_SIDE
from rdeic.pictures.render import Picture as Picture
from rdeic.system import files

Source: TypeAlias = "str | Path | bytes | Image.Image | Picture"

FORMATS = ("png", "jpg", "webp", "avif")


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
        return reading.read_image(source, max_pixels, behind)
    if isinstance(source, bytes):
        return reading.read(source, max_pixels, behind)
    try:
        return reading.read(Path(source).read_bytes(), max_pixels, behind)
    except OSError as error:
        raise ImageError(f"{source}: cannot be read: {error.strerror or error}") from error
    except ImageError as error:
        raise ImageError(f"{source}: {error}") from error


def frame_count(source: Source, max_pixels: int = MAX_PIXELS) -> int:
    """How many pictures the source holds (frames, pages), of which `read` gives the first; 1 if that cannot be told."""
    if isinstance(source, np.ndarray):
        return 1
    if isinstance(source, Image.Image):
        return int(getattr(source, "n_frames", 1))
    try:
        data = source if isinstance(source, bytes) else Path(source).read_bytes()
    except OSError:
        return 1
    return reading.count_frames(data, max_pixels)


def open_limited(data: bytes, max_pixels: int) -> Image.Image:
    """A picture file, not decoded yet, for what it says of itself. Raises ImageError if it cannot be opened."""
    return reading.open_clean(data, max_pixels)


def readable_suffixes() -> frozenset[str]:
    """What files that `read` can read are called: lower case, with the dot; installed plugins' included."""
    return formats.readable_suffixes()


def encode(image: Picture | Image.Image, kind: str) -> bytes:
    """The picture as the bytes of a `kind` file: png and webp are lossless, jpg has quality 95, avif 90.

    EXIF in an image's `info` goes along. Raises ConfigError for another kind, ImageError when the format cannot hold
    the picture (webp: 16383 a side).
    """
    picture = image if isinstance(image, Image.Image) else Image.fromarray(image)
    buffer = io.BytesIO()
    exif = picture.info.get("exif", b"")
    try:
        if kind == "png":
            # What a network has drawn repeats nothing but neighbours: looking further takes five times as long and
            # makes larger files.
            picture.save(buffer, "PNG", compress_type=zlib.Z_RLE, exif=exif)
        elif kind == "jpg":
            picture.save(buffer, "JPEG", quality=95, subsampling=0, exif=exif)
        elif kind == "webp":
            picture.save(buffer, "WEBP", lossless=True, exif=exif)
        elif kind == "avif":  # not in every Pillow
            picture.save(buffer, "AVIF", quality=90, subsampling="4:4:4", speed=8, exif=exif)
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
    return pad_to(image, height + -height % multiple, width + -width % multiple)


def pad_to(image: Picture, height: int, width: int) -> Picture:
    """`pad` to a given size, at least the picture's own: (H, W, 3) => (height, width, 3)."""
    missing = ((0, height - image.shape[0]), (0, width - image.shape[1]), (0, 0))
    return np.pad(image, missing, mode="edge")


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
    opening.check_size((array.shape[1], array.shape[0]), max_pixels)
    return array

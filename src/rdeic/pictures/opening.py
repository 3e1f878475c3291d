"""A picture file => a Pillow image that is not decoded yet, within limits, or the reason why not."""

from __future__ import annotations

import contextlib
import io
import logging
import os
import struct
import threading
import warnings
from collections.abc import Iterator

from PIL import Image

from rdeic.errors import ImageError, TooLargeError
from rdeic.pictures import formats, jxl

MAX_SIDE = 65_535
_NAMES = {"HEIF": "HEIC", "JXL": "JPEG XL", "WEBP": "WebP", "JPEG2000": "JPEG 2000"}
_pillow_limit = threading.RLock()  # the thread that forks may hold it
if hasattr(os, "register_at_fork"):  # no child inherits it while another thread holds it
    os.register_at_fork(
        before=_pillow_limit.acquire,
        after_in_parent=_pillow_limit.release,
        after_in_child=_pillow_limit.release,
    )
for library in ("PIL", "tifffile"):  # which otherwise write to stderr what an ImageError says
    logging.getLogger(library).addHandler(logging.NullHandler())


def open_limited(data: bytes, max_pixels: int) -> Image.Image:
    """A picture file, not decoded yet. Raises ImageError where nothing reads it, and beyond `max_pixels`."""
    if not data:
        raise ImageError("the file is empty")
    names = formats.candidates(data)
    if not names:
        raise ImageError(formats.unreadable(data))
    if "JXL" in names:  # decoded as soon as it is opened
        check_size(jxl.size(data), max_pixels)
    with limited(max_pixels):
        try:
            image = Image.open(io.BytesIO(data), formats=names)
        except Image.DecompressionBombError as error:
            raise TooLargeError(_too_large("far too large", max_pixels)) from error
        except Exception as error:  # Pillow's parsers raise almost anything on hostile files
            name = _NAMES.get(names[0], names[0])
            raise ImageError(f"this {name} file cannot be read ({_reason(names[0], data)})") from error
    check_size(image.size, max_pixels)
    return image


def check_size(size: tuple[int, int], max_pixels: int) -> None:
    """Raises ImageError for sides beyond 1..65535, TooLargeError for more than `max_pixels`."""
    width, height = size
    if not (1 <= width <= MAX_SIDE and 1 <= height <= MAX_SIDE):
        raise ImageError(f"sides must be 1 to {MAX_SIDE} pixels, this is {width}x{height}")
    if width * height > max_pixels:
        raise TooLargeError(_too_large(f"{width}x{height}", max_pixels))


@contextlib.contextmanager
def limited(max_pixels: int) -> Iterator[None]:
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


def load(image: Image.Image) -> None:
    """Reads the pixels of an image whose size is within our limit."""
    if image.format == "TIFF":  # looks at Pillow's limit once more
        with limited(image.width * image.height):
            image.load()
    else:
        image.load()


def one_line(error: BaseException) -> str:
    """What a library said, fit for a message of ours."""
    said = " ".join(str(error).split()).partition(". Please")[0]  # rebuild the library, which nobody here can
    return said or type(error).__name__


def _reason(name: str, data: bytes) -> str:
    """What Pillow keeps to itself when it cannot open a file."""
    try:
        Image.OPEN[name][0](io.BytesIO(data), "").close()
    except Exception as error:
        is_about_python = isinstance(error.__cause__ or error, struct.error | IndexError | KeyError)
        return "it is damaged or cut short" if is_about_python else one_line(error)
    return "it is damaged"


def _too_large(size: str, max_pixels: int) -> str:
    limit = f"the limit is {max_pixels / 1e6:.3g} megapixels"
    return f"{size}: {limit}; scale it down, cut it up, or raise --max-pixels"

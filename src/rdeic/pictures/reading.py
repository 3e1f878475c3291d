"""A picture file of any kind => (H, W, 3) uint8 sRGB, each format by what is known of its readers."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import numpy as np
from PIL import Image, ImageFile

from rdeic.errors import ImageError
from rdeic.pictures import bmp, boxes, colour, formats, opening, png, render, tiff, tiff_layout
from rdeic.pictures.render import Colour, Parts, Picture

_BOXED = ("AVIF", "HEIF")
# Of other formats, frames are layers, sizes or previews of the same picture.
_ANIMATED = frozenset({"GIF", "WEBP", "AVIF", "HEIF", "FLI", "DCX"})
_MPO_ENTRIES, _MPO_PREVIEW = 0xB002, "Large Thumbnail"
_GAIN_MAPS = (b"hdrgm:", b"HDRGainMap")  # said in XMP where the second picture only brightens the first


def read(data: bytes, max_pixels: int, behind: Colour | None) -> Picture:
    """The first picture of a file. Raises ImageError for whatever is wrong with it."""
    if data.startswith(tiff_layout.SIGNATURES):
        return _read_tiff(data, max_pixels, behind)
    parsed = png.parse(data) if data.startswith(png.SIGNATURE) else None
    with opening.open_limited(parsed.clean if parsed else bmp.mended(data), max_pixels) as image:
        return _decoded(image, behind, parsed, data)


def read_image(image: Image.Image, max_pixels: int, behind: Colour | None) -> Picture:
    """What a Pillow image shows. One that is not decoded yet is read from its file, as `read` does."""
    opening.check_size(image.size, max_pixels)
    data = _file_of(image)
    if data:
        return read(data, max_pixels, behind)
    tags = getattr(image, "tag_v2", None)
    if tags:
        told = tiff_layout.from_tags(tags)
        tiff.check(told)
        if not tiff.is_shown_right_by_pillow(told):
            raise ImageError("Pillow shows TIFFs of this layout wrong; give the file's path instead")
    return _decoded(image, behind, None, b"")


def open_clean(data: bytes, max_pixels: int) -> Image.Image:
    """A picture file, not decoded yet, for what it says of itself. Raises ImageError if it cannot be opened."""
    if data.startswith(png.SIGNATURE):
        return opening.open_limited(png.parse(data).clean, max_pixels)
    told = tiff_layout.layout(data) if data.startswith(tiff_layout.SIGNATURES) else None
    if told is not None and not tiff.is_shown_right_by_pillow(told):
        opening.check_size((told.width, told.height), max_pixels)
        image = Image.new("L", (1, 1))  # Pillow may not open it, but reads its tags, which EXIF is made of
        image.info["exif"] = b"Exif\0\0" + data
        return image
    return opening.open_limited(data, max_pixels)


def count_frames(data: bytes, max_pixels: int) -> int:
    """How many pictures the file holds, of which `read` gives the first; 1 if that cannot be told."""
    with contextlib.suppress(Exception):  # only a remark depends on it
        if data.startswith(png.SIGNATURE):
            return max(png.parse(data).frames, 1)
        if data.startswith(tiff_layout.SIGNATURES):
            return tiff_layout.count_pages(data)
        with opening.open_limited(data, max_pixels) as image:
            if image.format in _ANIMATED:
                return int(getattr(image, "n_frames", 1))
            entries = getattr(image, "mpinfo", {}).get(_MPO_ENTRIES, [])
            kinds = [entry["Attribute"]["MPType"] for entry in entries]
            if any(mark in data for mark in _GAIN_MAPS):
                return 1
            return max(sum(not kind.startswith(_MPO_PREVIEW) for kind in kinds), 1)
    return 1


def _read_tiff(data: bytes, max_pixels: int, behind: Colour | None) -> Picture:
    told = tiff_layout.layout(data)
    if told is not None:
        tiff.check(told)
        if not tiff.is_shown_right_by_pillow(told):
            with _as_image_errors():
                return render.render(tiff.decode(data, told, max_pixels), behind)
    with opening.open_limited(data, max_pixels) as image:
        if told is None:
            raise ImageError("damaged or truncated picture (a TIFF whose tags make no sense)")
        return _decoded(image, behind, None, data)


def _file_of(image: Image.Image) -> bytes:
    """The bytes of the file of an image that is not decoded yet; b"" for any other image."""
    if not isinstance(image, ImageFile.ImageFile) or not image.tile or image.tell() != 0:
        return b""
    with contextlib.suppress(Exception):  # closed, or cannot go back
        stream = image.fp
        if stream is not None and image.format in formats.readable():
            before = stream.tell()
            stream.seek(0)
            data = stream.read()
            stream.seek(before)
            return bytes(data) if image.format in formats.candidates(data) else b""
    return b""


def _decoded(image: Image.Image, behind: Colour | None, parsed: png.Png | None, data: bytes) -> Picture:
    with _as_image_errors():
        opening.load(image)
        return render.render(_parts(image, data) if parsed is None else _png_parts(image, parsed), behind)


@contextlib.contextmanager
def _as_image_errors() -> Iterator[None]:
    try:
        yield
    except ImageError:
        raise
    except MemoryError as error:
        raise ImageError("not enough memory to open it; scale it down or cut it up") from error
    except Exception as error:  # decoders raise almost anything on hostile files
        raise ImageError(f"damaged or truncated picture ({opening.one_line(error)})") from error


def _parts(image: Image.Image, data: bytes) -> Parts:
    turn = render.orientation(image)
    if image.format == "JXL" and not getattr(image, "jpeg", False):
        turn = 1  # its decoder turned it
    colours, alpha = render.split_alpha(image)
    profile = image.info.get("icc_profile")
    space = None if profile else boxes.space(data) if image.format in _BOXED and data else _stated(image)
    deep = None
    if profile and colours.mode.startswith("I;16"):
        deep = np.asarray(colours).astype(np.uint16)[..., None]
    elif profile and image.format == "TIFF" and data:
        deep = tiff.deep(data, image)
    return Parts(render.to_8_bit(colours), alpha, profile, space, turn, deep)


def _png_parts(image: Image.Image, parsed: png.Png) -> Parts:
    turn, profile = render.orientation(image), image.info.get("icc_profile")
    colours, alpha = render.split_alpha(image)
    if alpha is None:
        alpha = png.transparency(parsed, image)
    deep = png.deep(parsed) if parsed.depth == 16 and (parsed.space or profile) else None
    return Parts(render.to_8_bit(colours), alpha, profile, parsed.space, turn, deep)


def _stated(image: Image.Image) -> colour.Space | None:
    """What Pillow passes on of a space that a PNG or HEIC file stated."""
    numbers = image.info.get("nclx_profile")
    if numbers:
        found = colour.from_cicp(
            numbers["color_primaries"], numbers["transfer_characteristics"], full_range=True
        )
        return None if found == colour.SRGB else found
    gamma, chromaticities = image.info.get("gamma"), image.info.get("chromaticity")
    if "srgb" in image.info:
        return None
    return colour.from_png(
        None if gamma is None else round(gamma * 100_000),
        None if chromaticities is None else tuple(round(value * 100_000) for value in chromaticities),
    )

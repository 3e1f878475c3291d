"""A decoded Pillow image => (H, W, 3) uint8 sRGB, upright.

In this order: split off alpha -> 16 to 8 bit -> colour space to sRGB -> composite -> rotate.
"""

from __future__ import annotations

import io
from typing import NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageCms

from rdeic.errors import ImageError
from rdeic.pictures import colour

Picture: TypeAlias = NDArray[np.uint8]  # (H, W, 3), sRGB
Colour: TypeAlias = tuple[int, int, int]

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


class Parts(NamedTuple):
    """What a picture file holds, decoded, and what it says of it."""

    colour: (
        Image.Image | NDArray[np.uint16]
    )  # 8 bits in L, RGB, CMYK or LAB; or code values of `space`, (H, W, 3)
    alpha: Image.Image | None = None  # L, not premultiplied; None if opaque
    profile: bytes | None = None  # ICC
    space: colour.Space | None = None  # unless sRGB, or said by the profile
    orientation: int = 1  # EXIF's


def render(parts: Parts, behind: Colour | None) -> Picture:
    """The picture with `behind` behind it. Raises ImageError for transparency without."""
    if parts.alpha is not None and behind is None:
        raise ImageError("has transparent pixels; choose what lies behind them with --background COLOUR")
    seen = _in_srgb(parts)
    if parts.alpha is not None and behind is not None:
        canvas = Image.new("RGB", seen.size, behind)
        canvas.paste(seen, mask=parts.alpha)
        seen = canvas
    if parts.orientation in _UNROTATE:
        seen = seen.transpose(_UNROTATE[parts.orientation])
    return np.array(seen)


def orientation(image: Image.Image) -> int:
    """EXIF's, 1 if it says none."""
    try:
        return int(image.getexif().get(_EXIF_ORIENTATION, 1))
    except Exception:  # damaged metadata is no reason to refuse a sound picture
        return 1


def split_alpha(image: Image.Image) -> tuple[Image.Image, Image.Image | None]:
    """The picture without alpha, and its alpha (mode L) unless fully opaque."""
    if not image.has_transparency_data:
        return image, None
    if image.mode.startswith("I"):  # deep grey with one transparent value, which no Pillow conversion keeps
        opaque = np.asarray(image) != image.info["transparency"]
        return image, None if opaque.all() else Image.fromarray(opaque.astype(np.uint8) * 255)
    straight = _straight(image)
    alpha = straight.getchannel("A")
    opaque = alpha.getextrema() == (255, 255) or _alpha_is_void(image, alpha)
    return straight.convert("L" if straight.mode == "LA" else "RGB"), None if opaque else alpha


def to_8_bit(image: Image.Image) -> Image.Image:
    """Deep grey (I;16 and kin, I) scaled from 0..65535 to 0..255, rounded; palettes and bilevel looked up."""
    if image.mode == "I" or image.mode.startswith("I;16"):
        deep = np.asarray(image).astype(np.int64)
        if deep.min() < 0 or deep.max() > 65_535:
            raise ImageError("has 32-bit samples; convert it to 8 or 16 bits a channel")
        return Image.fromarray(scaled(deep, 65_535))
    if image.mode == "F":
        raise ImageError("has floating-point samples; convert it to 8 or 16 bits a channel")
    if image.mode in ("P", "1"):
        return image.convert("RGB" if image.mode == "P" else "L")
    return image


def scaled(codes: NDArray[np.integer], top: int) -> NDArray[np.uint8]:
    """0..top => 0..255, rounded."""
    return ((codes.astype(np.int64) * 255 + top // 2) // top).astype(np.uint8)


def _straight(image: Image.Image) -> Image.Image:
    """LA or RGBA, not premultiplied."""
    if image.mode == "La":
        return image.convert("LA")
    return image if image.mode == "LA" else image.convert("RGBA")


def _alpha_is_void(image: Image.Image, alpha: Image.Image) -> bool:
    """Whether the fourth byte only fills up: nowhere set in a BMP or TGA, whose writers often leave it at zero."""
    return image.format in ("BMP", "DIB", "TGA") and alpha.getextrema() == (0, 0)


def _in_srgb(parts: Parts) -> Image.Image:
    if isinstance(parts.colour, np.ndarray):
        return Image.fromarray(colour.to_srgb(parts.colour, parts.space or colour.SRGB))
    if parts.space is not None:
        codes = np.asarray(parts.colour.convert("RGB"))
        return Image.fromarray(colour.to_srgb(codes, parts.space))
    return _through_profile(parts.colour, parts.profile)


def _through_profile(image: Image.Image, profile: bytes | None) -> Image.Image:
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

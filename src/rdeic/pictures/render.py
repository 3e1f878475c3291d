"""A decoded Pillow image => (H, W, 3) uint8 sRGB, upright.

In this order: split off alpha -> 16 to 8 bit -> colour space to sRGB -> composite -> rotate.
"""

from __future__ import annotations

import io
from typing import NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageCms

from rdeic.errors import ImageError, TransparencyError
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

    colour: Image.Image  # 8 bits in L, RGB, CMYK or LAB
    alpha: Image.Image | None = None  # L, not premultiplied; None if opaque
    profile: bytes | None = None  # ICC
    space: colour.Space | None = None  # unless sRGB, or said by the profile
    orientation: int = 1  # EXIF's
    deep: NDArray[np.uint16] | None = None  # all 16 bits of grey (H, W, 1) or RGB (H, W, 3), for conversions


def render(parts: Parts, behind: Colour | None) -> Picture:
    """The picture with `behind` behind it. Raises TransparencyError where it shows and there is none."""
    if parts.alpha is not None and behind is None:
        raise TransparencyError(
            "has transparent pixels; choose what lies behind them with --background COLOUR, in Pillow's save with "
            "background="
        )
    seen = _in_srgb(parts)
    if parts.alpha is not None and behind is not None:
        canvas = Image.new("RGB", seen.size, behind)
        canvas.paste(seen, mask=parts.alpha)
        seen = canvas
    if parts.orientation in _UNROTATE:
        seen = seen.transpose(_UNROTATE[parts.orientation])
    return np.array(seen)


def orientation(image: Image.Image) -> int:
    """The orientation that EXIF states, 1 to 8; 1 where it states none or is damaged."""
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
        deep = np.asarray(image)
        if deep.min() < 0 or deep.max() > 65_535:
            raise ImageError("has 32-bit samples; convert it to 8 or 16 bits a channel")
        return Image.fromarray(scaled(deep, 65_535))
    if image.mode == "F":
        raise ImageError("has floating-point samples; convert it to 8 or 16 bits a channel")
    if image.mode in ("P", "1"):
        return image.convert("RGB" if image.mode == "P" else "L")
    return image


def scaled(codes: NDArray[np.integer], top: int) -> NDArray[np.uint8]:
    """0..top, at most 65535, => 0..255, rounded; by rows, as indices take eight bytes each."""
    table = ((np.arange(top + 1) * 255 + top // 2) // top).astype(np.uint8)
    out = np.empty(codes.shape, np.uint8)
    for row, shown in zip(codes, out, strict=True):
        shown[...] = table[row]
    return out


def _straight(image: Image.Image) -> Image.Image:
    """LA or RGBA, not premultiplied."""
    if image.mode == "La":
        return image.convert("LA")
    return image if image.mode == "LA" else image.convert("RGBA")


def _alpha_is_void(image: Image.Image, alpha: Image.Image) -> bool:
    """Whether the fourth byte only fills up: nowhere set in a BMP or TGA, whose writers often leave it at zero."""
    return image.format in ("BMP", "DIB", "TGA") and alpha.getextrema() == (0, 0)


def _in_srgb(parts: Parts) -> Image.Image:
    if parts.space is not None:
        codes = np.asarray(parts.colour.convert("RGB")) if parts.deep is None else parts.deep
        full = np.broadcast_to(codes, (*codes.shape[:2], 3))
        return Image.fromarray(colour.to_srgb(full, parts.space))
    if parts.profile:
        source = parts.colour if parts.deep is None else _codes(parts.deep // 257)
        converted = _through_profile(source, parts.profile)
        if converted is not None and parts.deep is not None:
            return _between(converted, parts.deep, parts.profile)
        if converted is not None:
            return converted
    return parts.colour if parts.colour.mode == "RGB" else parts.colour.convert("RGB")  # which would copy


def _through_profile(image: Image.Image, profile: bytes) -> Image.Image | None:
    """Mode RGB; None if the profile is broken or misplaced: viewers ignore it, so does this."""
    try:
        source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        return ImageCms.profileToProfile(image, source, ImageCms.createProfile("sRGB"), outputMode="RGB")
    except (ImageCms.PyCMSError, OSError, ValueError):
        return None


def _between(below: Image.Image, deep: NDArray[np.uint16], profile: bytes) -> Image.Image:
    """What lies between two steps of 8 bits, which Pillow's Little CMS does not see: linear profiles need it."""
    above = _through_profile(_codes(np.minimum(deep // 257 + 1, 255)), profile)
    if above is None:
        return below
    low, high = np.asarray(below), np.asarray(above)
    out = np.empty_like(low)
    for row, from_, to, codes in zip(out, low, high, deep, strict=True):
        row[...] = np.rint(from_ + (to.astype(np.float32) - from_) * (codes % 257 / np.float32(257)))
    return Image.fromarray(out)


def _codes(codes: NDArray[np.integer]) -> Image.Image:
    """L or RGB of (H, W, 1 or 3) code values 0..255."""
    pixels = codes.astype(np.uint8)
    return Image.fromarray(pixels[..., 0] if pixels.shape[2] == 1 else pixels)

"""What the server computes, in a thread and without HTTP: bytes => bytes. `ticket` hears how large the picture is.

Raises RdeicErrors, Problems, and whatever the thread's interruption raises.
"""

from __future__ import annotations

from typing import NamedTuple

from PIL import Image, features

import rdeic
from rdeic.codec.codec import Codec
from rdeic.container.info import Info
from rdeic.container.metadata import Metadata
from rdeic.errors import TooLargeError
from rdeic.evaluation.conventional import Conventional
from rdeic.pictures import exif, formats, images
from rdeic.serve import interrupt
from rdeic.serve.desk import Ticket
from rdeic.serve.problems import Problem

KINDS = {"image/png": "png", "image/webp": "webp", "image/jpeg": "jpg"}  # as `images.encode` calls them
if features.check("avif"):
    KINDS["image/avif"] = "avif"
_SMALL = 1_500_000  # pixels that a conventional codec takes about a second for
_SCALES = (1, 2, 3, 4, 6, 8, 12, 16)
_TRIED_SCALES = 4


class Reading(NamedTuple):
    """How to read a picture."""

    max_pixels: int
    background: str | None  # a colour, behind transparent pixels


class Wish(NamedTuple):
    """What to make of a picture, as `Codec.compress` takes it."""

    quality: float | None
    bpp: float | None
    max_bytes: int | None
    seed: int
    scale: bool
    metadata: bool
    location: bool


class Restoring(NamedTuple):
    """How to restore, as `Codec.decompress` takes it, and what the picture is to be written as."""

    detail: float
    steps: int | None
    media_type: str
    max_pixels: int


class Compressed(NamedTuple):
    """A file and its header."""

    blob: bytes
    info: Info


class Restored(NamedTuple):
    """A picture file."""

    data: bytes
    width: int
    height: int


class Rival(NamedTuple):
    """A picture as a conventional codec leaves it at the wanted size."""

    restored: Restored
    file_bytes: int
    downscale: int  # of its sides before it was compressed
    setting: str  # such as q3


def compress(codec: Codec, data: bytes, wish: Wish, reading: Reading, ticket: Ticket) -> Compressed:
    """The bytes of a picture file => an .rdeic file."""
    picture = _read(data, reading, ticket)
    keep = wish.metadata or wish.location
    described: Metadata | None = exif.read(data, wish.location, reading.max_pixels) if keep else None
    interrupt.check()
    blob = codec.compress(
        picture,
        wish.quality,
        wish.bpp,
        wish.max_bytes,
        wish.seed,
        metadata=described,
        max_pixels=reading.max_pixels,
        scale=wish.scale,
    )
    return Compressed(blob, rdeic.inspect(blob))


def decompress(codec: Codec, blob: bytes, restoring: Restoring, ticket: Ticket) -> Restored:
    """The bytes of an .rdeic file => a picture file."""
    info = rdeic.inspect(blob)
    ticket.pixels = info.width * info.height
    if ticket.pixels > restoring.max_pixels:
        limit = f"the limit is {restoring.max_pixels / 1e6:.3g} megapixels"
        raise TooLargeError(f"{info.width}x{info.height}: {limit}")
    picture = codec.decompress(blob, restoring.detail, restoring.steps, restoring.max_pixels)
    return _written(picture, restoring.media_type)


def show(data: bytes, media_type: str, reading: Reading, ticket: Ticket) -> Restored:
    """The bytes of a picture file => the picture as `compress` sees it: upright, sRGB, opaque."""
    return _written(Image.fromarray(_read(data, reading, ticket)), media_type)


def compare(data: bytes, name: str, size: int, media_type: str, reading: Reading, ticket: Ticket) -> Rival:
    """The bytes of a picture file => what the codec `name` makes of it in about `size` bytes."""
    picture = _read(data, reading, ticket)
    fitting = [scale for scale in _SCALES if ticket.pixels <= _SMALL * scale**2] or list(_SCALES[-1:])
    attempt = Conventional(name, picture, fitting[:_TRIED_SCALES], interrupt.check).closest(size)
    restored = _written(Image.fromarray(attempt.restored), media_type)
    return Rival(restored, len(attempt.data), attempt.downscale, attempt.setting)


def warm_up(codec: Codec) -> None:
    """Loads the model, and all that the first request would wait for."""
    codec.decompress(codec.compress(Image.linear_gradient("L").convert("RGB")))


def _read(data: bytes, reading: Reading, ticket: Ticket) -> images.Picture:
    if not formats.candidates(data):
        raise Problem("unsupported-media", formats.unreadable(data))
    picture = images.read(data, reading.max_pixels, reading.background)
    ticket.pixels = picture[..., 0].size
    interrupt.check()
    return picture


def _written(picture: Image.Image, media_type: str) -> Restored:
    interrupt.check()
    return Restored(images.encode(picture, KINDS[media_type]), picture.width, picture.height)

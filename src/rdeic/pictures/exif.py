"""Metadata <=> what picture files carry of them: EXIF, the colour profile's name, comments.

Never the orientation, which is applied to the pixels, nor thumbnails, serial numbers and makers' notes.
"""

from __future__ import annotations

import contextlib
import io
import math
from collections.abc import Iterator
from datetime import datetime
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageCms
from PIL.ExifTags import GPS, IFD, Base

from rdeic.container.container import MAX_PIXELS
from rdeic.container.metadata import MAX_TEXT_BYTES, Location, Metadata
from rdeic.errors import ImageError
from rdeic.pictures import images

_DATE = "%Y:%m:%d %H:%M:%S"
_GPS_VERSION = b"\2\3\0\0"
_SECONDS = 3600
_PRECISION = 1000  # parts of a second of arc that are written, about 0.03 m
_COMMENTS = ("Description", "Comment", "comment")  # as PNG, JPEG and GIF name them


def read(source: images.Source, location: bool, max_pixels: int = MAX_PIXELS) -> Metadata:
    """What a picture says of itself; empty for an array. The place it was taken at only with `location`.

    Texts are cut at 1000 bytes. Damaged entries are left out. Raises ImageError if there is no picture to be read.
    """
    if isinstance(source, np.ndarray):
        return Metadata()
    if isinstance(source, Image.Image):
        return _read(source, location)
    try:
        data = source if isinstance(source, bytes) else Path(source).read_bytes()
    except OSError as error:
        raise ImageError(f"{source!s}: cannot be read: {error.strerror or error}") from error
    with images.open_limited(data, max_pixels) as image:
        return _read(image, location)


def to_bytes(metadata: Metadata, software: str = "") -> bytes:
    """EXIF as Pillow writes it into a picture file, by the program `software`; b"" if nothing has a place there.

    The colour profile has none: it was the source's, the restored picture is sRGB.
    """
    exif = Image.Exif()
    for tag, text in (
        (Base.Make, metadata.make),
        (Base.Model, metadata.model),
        (Base.ImageDescription, metadata.comment),
        (Base.Software, software),
    ):
        if text:
            exif[tag] = text.encode()
    if metadata.taken is not None:
        taken = metadata.taken
        # Not by strftime, which leaves out the zeros of early years on some systems.
        date = f"{taken.year:04}:{taken.month:02}:{taken.day:02} {taken:%H:%M:%S}"
        exif.get_ifd(IFD.Exif)[Base.DateTimeOriginal] = date
    if metadata.location is not None:
        exif.get_ifd(IFD.GPSInfo).update(_gps(metadata.location))
    return exif.tobytes() if software or metadata._replace(profile="") != Metadata() else b""


def said(stored: Image.Exif, location: bool) -> Metadata:
    """The fields of EXIF that `Metadata` has; the place only with `location`. Broken fields are left out."""
    found = Metadata()
    with _tolerant():
        found = found._replace(make=_text(stored.get(Base.Make)), model=_text(stored.get(Base.Model)))
        found = found._replace(comment=_text(stored.get(Base.ImageDescription)))
    with _tolerant():
        date = stored.get_ifd(IFD.Exif).get(Base.DateTimeOriginal) or stored.get(Base.DateTime)
        found = found._replace(taken=datetime.strptime(_text(date), _DATE))
    if location:
        with _tolerant():
            found = found._replace(location=_location(stored.get_ifd(IFD.GPSInfo)))
    return found


def parse(data: bytes) -> Image.Exif:
    """Inverse of `to_bytes`; empty for what is no EXIF."""
    stored = Image.Exif()
    with _tolerant():
        stored.load(data)
    return stored


def _read(image: Image.Image, location: bool) -> Metadata:
    found = Metadata()
    with _tolerant():
        found = said(image.getexif(), location)
    with _tolerant():
        profile = ImageCms.ImageCmsProfile(io.BytesIO(image.info["icc_profile"]))
        found = found._replace(profile=_text(ImageCms.getProfileDescription(profile)))
    comments = (_text(image.info.get(name)) for name in _COMMENTS)
    return found if found.comment else found._replace(comment=next(filter(None, comments), ""))


@contextlib.contextmanager
def _tolerant() -> Iterator[None]:
    """Damaged metadata are no reason to refuse a sound picture, and Pillow's parsers raise almost anything on them."""
    with contextlib.suppress(Exception):
        yield


def _text(value: Any) -> str:
    """One line; "" for what is no text."""
    if isinstance(value, bytes):
        value = value.decode("latin-1")
    if not isinstance(value, str):
        return ""
    # Pillow reads Latin-1 where cameras write UTF-8.
    with contextlib.suppress(UnicodeError):
        value = value.encode("latin-1").decode()
    line = " ".join("".join(letter if letter.isprintable() else " " for letter in value).split())
    return line.encode(errors="ignore")[:MAX_TEXT_BYTES].decode(errors="ignore").rstrip()


def _location(gps: dict[int, Any]) -> Location:
    place = Location(
        _degrees(gps[GPS.GPSLatitude]) * _sign(gps[GPS.GPSLatitudeRef], "NS"),
        _degrees(gps[GPS.GPSLongitude]) * _sign(gps[GPS.GPSLongitudeRef], "EW"),
    )
    if not (abs(place.latitude) <= 90 and abs(place.longitude) <= 180):
        raise ValueError(place)
    return place


def _sign(reference: Any, letters: str) -> int:
    """1 or -1 for the first or second of `letters`, which the reference begins with: S, s, South, S and a zero byte."""
    return (1, -1)[letters.index(_text(reference)[0].upper())]


def _degrees(parts: tuple[Any, Any, Any]) -> float:
    """Degrees, minutes, seconds."""
    degrees, minutes, seconds = map(float, parts)
    if not math.isfinite(degrees + minutes + seconds):
        raise ValueError(parts)
    return degrees + minutes / 60 + seconds / _SECONDS


def _gps(location: Location) -> dict[int, Any]:
    return {
        GPS.GPSVersionID: _GPS_VERSION,
        GPS.GPSLatitudeRef: "S" if location.latitude < 0 else "N",
        GPS.GPSLatitude: _parts(abs(location.latitude)),
        GPS.GPSLongitudeRef: "W" if location.longitude < 0 else "E",
        GPS.GPSLongitude: _parts(abs(location.longitude)),
    }


def _parts(angle: float) -> tuple[int, int, Fraction]:
    total = round(angle * _SECONDS * _PRECISION)
    minutes, rest = divmod(total, 60 * _PRECISION)
    return *divmod(minutes, 60), Fraction(rest, _PRECISION)

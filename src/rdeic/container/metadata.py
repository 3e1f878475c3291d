"""What a picture says about itself, as the optional metadata section holds it. `docs/format.md` is normative.

The section is a list of fields, each a tag, a length of two bytes and the content; tags ascend.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from datetime import datetime
from typing import Any, NamedTuple

from rdeic.errors import ConfigError, FileFormatError

KIND = 1  # of the section
MAX_BYTES = 65_535  # of the section's content
MAX_TEXT_BYTES = 1000  # of one text in UTF-8

_TEXTS = {2: "make", 3: "model", 4: "profile", 5: "comment"}
_TAKEN, _LOCATION = 1, 6
_DATE = "%Y%m%d%H%M%S"
_DATE_BYTES = 14
_HEAD = struct.Struct("<BH")
_DEGREES = struct.Struct("<ii")
_UNIT = 1_000_000  # steps of a degree, about 0.1 m


class Location(NamedTuple):
    """A place on Earth, in degrees."""

    latitude: float  # -90..90, north is positive
    longitude: float  # -180..180, east is positive


class Metadata(NamedTuple):
    """Everything is optional. Texts are single strings of at most 1000 bytes in UTF-8; "" takes no bytes."""

    taken: datetime | None = None  # whole seconds of the camera's clock, whose time zone nobody knows
    make: str = ""  # of the camera
    model: str = ""
    profile: str = ""  # name of the source's colour profile; the restored picture is sRGB whatever it was
    comment: str = ""
    location: Location | None = None

    def as_dict(self) -> dict[str, str]:
        """What is there, in words; the date as YYYY-MM-DD hh:mm:ss, the location as degrees north and east."""
        found: dict[str, str] = {} if self.taken is None else {"taken": self.taken.isoformat(" ", "seconds")}
        found |= {name: text for name in _TEXTS.values() if (text := getattr(self, name))}
        if self.location is not None:
            found["location"] = f"{self.location.latitude:.6f}, {self.location.longitude:.6f}"
        return found


def pack(metadata: Metadata) -> bytes:
    """Content of the section; b"" if there is nothing to say. Raises ConfigError for what the section cannot hold."""
    return b"".join(_HEAD.pack(tag, len(content)) + content for tag, content in _contents(metadata))


def unpack(section: bytes) -> Metadata:
    """Inverse of `pack`; fields with unknown tags are left out. Raises FileFormatError unless `section` is valid."""
    if len(section) > MAX_BYTES:
        raise FileFormatError(f"invalid .rdeic file: {len(section)} bytes of metadata, at most {MAX_BYTES}")
    metadata = Metadata()
    for tag, content in _fields(section):
        try:
            metadata = metadata._replace(**_value(tag, content))
        except (ValueError, struct.error) as error:  # a UnicodeDecodeError is a ValueError
            raise FileFormatError(f"invalid .rdeic file: metadata field {tag} is malformed") from error
    return metadata


def _contents(metadata: Metadata) -> Iterator[tuple[int, bytes]]:
    if metadata.taken is not None:
        # Not by strftime, which leaves out the zeros of early years on some systems.
        yield _TAKEN, "".join(filter(str.isdigit, metadata.taken.isoformat()[:19])).encode()
    for tag, name in _TEXTS.items():
        if text := getattr(metadata, name):
            yield tag, _encoded(name, text)
    if metadata.location is not None:
        latitude, longitude = metadata.location
        if not (abs(latitude) <= 90 and abs(longitude) <= 180):
            raise ConfigError(f"location {latitude}, {longitude} is not within 90 and 180 degrees")
        yield _LOCATION, _DEGREES.pack(round(latitude * _UNIT), round(longitude * _UNIT))


def _encoded(name: str, text: str) -> bytes:
    try:
        content = text.encode()
    except UnicodeEncodeError as error:
        raise ConfigError(f"metadata: the {name} is no valid text") from error
    if len(content) > MAX_TEXT_BYTES:
        raise ConfigError(
            f"metadata: the {name} takes {len(content)} bytes, at most {MAX_TEXT_BYTES} fit; shorten it"
        )
    return content


def _fields(section: bytes) -> Iterator[tuple[int, bytes]]:
    position, last = 0, 0
    while position < len(section):
        if len(section) - position < _HEAD.size:
            raise FileFormatError("invalid .rdeic file: its metadata end within a field")
        tag, length = _HEAD.unpack_from(section, position)
        position += _HEAD.size
        if tag <= last:
            raise FileFormatError("invalid .rdeic file: its metadata fields are not in ascending order")
        if length > len(section) - position:
            raise FileFormatError("invalid .rdeic file: its metadata end within a field")
        yield tag, section[position : position + length]
        position, last = position + length, tag


def _value(tag: int, content: bytes) -> dict[str, Any]:
    """The field of `Metadata` that a stored one fills; none for an unknown tag. Raises ValueError and struct.error."""
    if tag == _TAKEN:
        if len(content) != _DATE_BYTES or not (content.isascii() and content.isdigit()):
            raise ValueError(content)
        return {"taken": datetime.strptime(content.decode(), _DATE)}
    if tag in _TEXTS:
        if not 1 <= len(content) <= MAX_TEXT_BYTES:
            raise ValueError(content)
        return {_TEXTS[tag]: content.decode()}
    if tag == _LOCATION:
        latitude, longitude = _DEGREES.unpack(content)
        if abs(latitude) > 90 * _UNIT or abs(longitude) > 180 * _UNIT:
            raise ValueError(content)
        return {"location": Location(latitude / _UNIT, longitude / _UNIT)}
    return {}

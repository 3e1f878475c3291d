"""The mark of a restored picture: which .rdeic file it came from. A picture with a mark is not an original."""

from __future__ import annotations

import re

_TEXT = "rdeic: restored from a file with checksum "
_MARK = re.compile(re.escape(_TEXT.encode()) + rb"([0-9a-f]{8})")
_CHECKSUM_BYTES = 4


def checksum(blob: bytes) -> str:
    """The CRC-32 in which an .rdeic file ends, as 8 hex digits."""
    return blob[: -_CHECKSUM_BYTES - 1 : -1].hex()


def text(blob: bytes) -> str:
    """What a picture restored from the .rdeic file `blob` says in its EXIF field Software."""
    return _TEXT + checksum(blob)


def find(picture: bytes) -> str | None:
    """The checksum of the .rdeic file that a picture file says it was restored from; None if it says nothing.

    Looks through all bytes, so that it does not matter to which place another program has moved the text.
    """
    found = _MARK.search(picture)
    return found and found[1].decode()

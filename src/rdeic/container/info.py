"""What an .rdeic file says without a model: no torch, no numpy."""

from __future__ import annotations

import os
from pathlib import Path
from typing import NamedTuple, TypeAlias

from rdeic.container import container, metadata
from rdeic.container.metadata import Metadata
from rdeic.errors import FileFormatError
from rdeic.system import arguments
from rdeic.system.arguments import Buffer, PathLike, Readable

Blob: TypeAlias = Buffer | Readable | PathLike  # the bytes of an .rdeic file, an open one, or where one is


class Parsed(NamedTuple):
    """A file taken apart, and its metadata, if it has any."""

    file: container.RdeicFile
    metadata: Metadata | None


class Info(NamedTuple):
    """Header of an .rdeic file."""

    width: int  # pixels
    height: int
    quality: float  # 0..100, in steps of 100/255
    steps: int  # denoising steps the file asks for
    seed: int  # of the decoder's noise
    fingerprint: str  # of the model the file needs, 8 hex digits
    file_bytes: int
    metadata: Metadata | None  # None: the file has none
    stored_width: int  # pixels of the coded picture: fewer than `width` where it is stored smaller
    stored_height: int

    @property
    def bpp(self) -> float:
        """Bits per pixel of the original picture, the header included."""
        return 8 * self.file_bytes / (self.width * self.height)


def inspect(blob: Blob) -> Info:
    """The header of an .rdeic file: its bytes, its path, or the file itself, open.

    Raises FileFormatError unless the file is sound.
    """
    parsed = parse(blob, data := read_blob(blob), max_pixels=None)
    header = parsed.file.header
    return Info(
        header.width,
        header.height,
        round(header.quality * 100 / 255, 1),
        header.steps,
        header.seed,
        header.fingerprint.hex(),
        len(data),
        parsed.metadata,
        *header.coded,
    )


def read_blob(blob: Blob) -> bytes:
    """The bytes themselves. Raises FileFormatError, with the path, if they cannot be read."""
    found = arguments.content(blob, "an .rdeic file", FileFormatError)
    if isinstance(found, bytes):
        return found
    try:
        return Path(found).read_bytes()
    except OSError as error:
        raise FileFormatError(f"{found}: cannot be read: {error.strerror or error}") from error


def parse(blob: Blob, data: bytes, max_pixels: int | None) -> Parsed:
    """`container.unpack` of `data`, and the known sections; errors name `blob` where it is a path."""
    try:
        file = container.unpack(data, max_pixels)
        found = next((one.content for one in file.sections if one.kind == metadata.KIND), None)
        return Parsed(file, None if found is None else metadata.unpack(found))
    except FileFormatError as error:
        if isinstance(blob, str | os.PathLike):
            raise FileFormatError(f"{arguments.path(blob, FileFormatError)}: {error}") from error
        raise

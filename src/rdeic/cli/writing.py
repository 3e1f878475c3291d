"""Where a batch writes: what may be there already, and which failures mean what."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TextIO

from rdeic.cli.console import silence
from rdeic.cli.inputs import Item
from rdeic.errors import ImageError


def occupied(place: Path, item: Item) -> bool:
    """Whether something is there. Raises ImageError if it can be no output."""
    if not place.exists():
        return False
    if item.path is not None and item.path.exists() and place.samefile(item.path):
        raise ImageError(f"{place}: is the input itself; name another output with -o")
    if place.is_dir():
        raise ImageError(f"{place}: is a directory")
    return True


def identity(place: Path) -> tuple[int, int]:
    """What tells a file from all others, whatever its names."""
    status = place.stat()
    return status.st_dev, status.st_ino


@contextlib.contextmanager
def writing(place: Path) -> Iterator[None]:
    """While an output is written. Raises ImageError, and BrokenPipeError if nobody reads what is no file."""
    try:
        yield
    except BrokenPipeError:
        raise
    except OSError as error:
        raise ImageError(f"{place}: cannot be written: {error.strerror or error}") from error


@contextlib.contextmanager
def to_stdout() -> Iterator[None]:
    """While stdout is written to. Raises BrokenPipeError if nobody reads it, ImageError if it has no room."""
    try:
        yield
    except OSError as error:
        silence(sys.stdout)
        if isinstance(error, BrokenPipeError):
            raise
        raise ImageError(f"stdout: cannot be written: {error.strerror or error}") from error


def beside(place: Path) -> TextIO | None:
    """Where a remark does not end up in the result itself: stderr, or else stdout, or nowhere."""
    for stream in (sys.stderr, sys.stdout):
        try:
            if not os.path.samestat(os.fstat(stream.fileno()), place.stat()):
                return stream
        except (OSError, ValueError, AttributeError):  # no such file, or no stream of the system's
            continue
    return None

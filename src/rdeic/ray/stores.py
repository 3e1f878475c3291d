"""Folders on this machine and buckets elsewhere, by their address; pyarrow reads and writes them."""

from __future__ import annotations

import os
from collections.abc import Collection
from pathlib import Path
from typing import NamedTuple

import pyarrow as pa
from pyarrow import fs

from rdeic.errors import ConfigError
from rdeic.system import files


class Found(NamedTuple):
    """A file of a folder or bucket, as listed."""

    path: str  # from the store's top
    size: int  # bytes
    modified: int  # nanoseconds since 1970; 0 where the store does not say


class Store:
    """A folder or a bucket. Workers get it by pickling."""

    def __init__(self, address: str) -> None:
        """`address` is a path, or a URI such as s3://bucket/folder. Raises ConfigError if it cannot be reached."""
        self.address = address
        try:
            if "://" in address:
                self._files, self._top = fs.FileSystem.from_uri(address)
            else:
                self._files, self._top = fs.LocalFileSystem(), os.path.abspath(address)
        except (pa.ArrowException, OSError, ValueError) as error:
            raise ConfigError(f"{address}: cannot be reached: {error}") from error

    def find(self, suffixes: Collection[str]) -> list[Found]:
        """Its files with one of those suffixes (lower case, with the dot), by path; none where it is not there."""
        selector = fs.FileSelector(self._top, allow_not_found=True, recursive=True)
        found = [
            Found(self._below(info.path), info.size, info.mtime_ns or 0)
            for info in self._files.get_file_info(selector)
            if info.type == fs.FileType.File and os.path.splitext(info.path)[1].lower() in suffixes
        ]
        return sorted(one for one in found if not os.path.basename(one.path).startswith("."))

    def read(self, path: str) -> bytes:
        """All bytes of one file. Raises OSError."""
        with self._files.open_input_stream(self._at(path)) as stream:
            content: bytes = stream.read()
        return content

    def write(self, path: str, content: bytes) -> None:
        """The whole file or none: buckets do so by themselves. Raises OSError."""
        place = self._at(path)
        if isinstance(self._files, fs.LocalFileSystem):
            files.make_folders(Path(place).parent)
            files.atomic_write(Path(place), content)
        else:
            with self._files.open_output_stream(place) as stream:
                stream.write(content)

    def sweep(self) -> None:
        """Remove what killed workers left half-written."""
        if isinstance(self._files, fs.LocalFileSystem):
            for folder, _, _ in os.walk(self._top):
                files.sweep(Path(folder))

    def _at(self, path: str) -> str:
        return f"{self._top}/{path}"

    def _below(self, place: str) -> str:
        return place[len(self._top) :].lstrip("/")

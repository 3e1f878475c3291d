"""Which picture each .rdeic file of a folder was made from: a hidden file beside them, a line of JSON for each.

A line counts only as long as the output has exactly the content that the line names. It is written before the output,
so a kill between the two leaves a line that is ignored; torn lines and those of other programs are ignored, too.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from rdeic.cli.inputs import Item, Source

JOURNAL_FILE = ".rdeic-batch.jsonl"
_FLAGS = os.O_RDWR | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)


class Record(NamedTuple):
    """One line of a journal: an output and the input that it was made from."""

    output: str  # name of the .rdeic file in the journal's folder
    output_digest: str
    source: str | None  # path of the picture, from the journal's folder where that is possible; None: stdin
    stamp: tuple[int, ...]  # of the picture's file, see `_stamp`
    digest: str  # of the picture's file


class Journal:
    """The journal of one folder."""

    def __init__(self, folder: Path) -> None:
        """Reads nothing yet."""
        self._folder = folder
        self._path = folder / JOURNAL_FILE
        self._read: tuple[int, ...] = ()  # the stamp of what was read
        self._records: dict[str, list[Record]] = {}  # by output

    def exists(self) -> bool:
        """Whether the folder has a journal."""
        return self._path.exists()

    def find(self, output: Path) -> Record | None:
        """What the present content of an output was made from, if that is known."""
        self._refresh()
        records = self._records.get(output.name)
        if not records:
            return None
        try:
            content = digest(output.read_bytes())
        except OSError:
            return None
        return next((record for record in reversed(records) if record.output_digest == content), None)

    def names(self, record: Record, item: Item) -> bool:
        """Whether the record's picture had the input's path."""
        return record.source == self._name(item)

    def is_of(self, record: Record, item: Item) -> bool:
        """Whether the record's picture is the input's file, which has not been touched since: no need to read it."""
        if item.path is None:
            return False
        try:
            status = item.path.stat()
        except OSError:
            return False
        return self.names(record, item) and record.stamp == _stamp(status)

    def add(self, output: Path, content: bytes, source: Source) -> None:
        """Notes what `output`, about to be written, is made from; on the disk when this returns. Raises OSError."""
        stamp = () if source.status is None else _stamp(source.status)
        record = Record(output.name, digest(content), self._name(source.item), stamp, digest(source.data))
        known = self._records.setdefault(output.name, [])
        if record in known:
            return
        line = json.dumps(record._asdict()).encode() + b"\n"  # in ASCII: a file's name need not be UTF-8
        with _opened(self._path) as descriptor:
            size = os.fstat(descriptor).st_size
            torn = size > 0 and _read_at(descriptor, size - 1) != b"\n"
            os.lseek(descriptor, 0, os.SEEK_END)
            with open(os.dup(descriptor), "wb") as stream:
                stream.write(b"\n" + line if torn else line)
            os.fsync(descriptor)
            if self._read and self._read[0] == size:  # nobody else has added anything
                self._read = _stamp(os.fstat(descriptor))
        known.append(record)

    def _refresh(self) -> None:
        """Another batch may have added lines."""
        try:
            status = self._path.lstat()
            if not stat.S_ISREG(status.st_mode) or _stamp(status) == self._read:
                return
            lines = self._path.read_bytes().splitlines()
        except OSError:
            return
        self._read, self._records = _stamp(status), {}
        for line in lines:
            with contextlib.suppress(ValueError, TypeError, RecursionError):
                record = _parse(json.loads(line))
                self._records.setdefault(record.output, []).append(record)

    def _name(self, item: Item) -> str | None:
        if item.path is None:
            return None
        path = os.path.realpath(item.path)
        with contextlib.suppress(ValueError):  # on another drive
            return os.path.relpath(path, os.path.realpath(self._folder))
        return path


def digest(data: bytes) -> str:
    """SHA-256, as `sha256sum` prints it."""
    return hashlib.sha256(data).hexdigest()


def _stamp(status: os.stat_result) -> tuple[int, ...]:
    """Changes whenever the content does, as far as a file system knows: ctime cannot be set back."""
    return (status.st_size, status.st_mtime_ns, status.st_ctime_ns)


def _parse(content: dict[str, Any]) -> Record:
    record = Record(**content)
    if not isinstance(record.source, str | None) or not all(isinstance(one, str) for one in record[:2]):
        raise TypeError(content)
    return record._replace(stamp=tuple(record.stamp), digest=str(record.digest))


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[int]:
    descriptor = os.open(path, _FLAGS | getattr(os, "O_BINARY", 0), 0o666)
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise OSError(errno.EINVAL, "not a regular file")
        yield descriptor
    finally:
        os.close(descriptor)


def _read_at(descriptor: int, position: int) -> bytes:
    os.lseek(descriptor, position, os.SEEK_SET)
    return os.read(descriptor, 1)

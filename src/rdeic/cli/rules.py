"""What counts as finished, what may be replaced, and what is left out: one set of rules for each direction.

An output is finished if it was made from the same picture (or file) as the one at hand, whatever the settings. An
output that was made from another one is never replaced, unless that is forced. Names and times decide nothing.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Protocol

from rdeic.cli.console import fail
from rdeic.cli.inputs import Item, Source
from rdeic.cli.journal import Journal, Record, digest
from rdeic.cli.status import NO_ROOM
from rdeic.container import marks
from rdeic.container.info import inspect
from rdeic.errors import FileFormatError, ImageError

_REMEDY = "--force overwrites it, -o names another directory"


class Rules(Protocol):
    """The rules of one direction, compressing or restoring."""

    def unwanted(self, source: Source) -> str | None:
        """Why a batch leaves an input out; None: it does not."""

    def known(self, place: Path, item: Item) -> str | None:
        """The digest of the input, if it is known without reading it that `place` was made from it."""

    def finished(self, place: Path, source: Source, result: bytes | None) -> bool | None:
        """Whether `place`, which exists, was made from the input; None: only the result can tell.

        Raises ImageError if it was made from something else, or nobody can tell.
        """

    def ours(self, content: bytes) -> bool:
        """Whether the content of a file is such that this program has written it."""

    def note(self, place: Path, result: bytes, source: Source, start: bool) -> None:
        """Remembers what `place` is made from; `start`: also in a folder where nothing is remembered yet.

        Raises OSError.
        """


class Packing:
    """Pictures => .rdeic files. These have no room to say what they were made from: a journal beside them does."""

    def __init__(self, remake: Callable[[Source, bytes], Iterable[bytes]] = lambda source, there: ()) -> None:
        """`remake` compresses an input at the settings of an .rdeic file, in each way in which that may have been."""
        self._remake = remake
        self._journals: dict[Path, Journal] = {}
        self._warned = False

    def unwanted(self, source: Source) -> str | None:
        """Restored pictures: their .rdeic file is the better original."""
        checksum = marks.find(source.data)
        return checksum and (
            f"restored by rdeic (from a file with checksum {checksum}), so no original; alone it would be taken"
        )

    def known(self, place: Path, item: Item) -> str | None:
        """The digest that the journal has, where neither input nor output has changed since."""
        journal = self._journal(place)
        record = journal.find(place)
        return record.digest if record is not None and journal.is_of(record, item) else None

    def finished(self, place: Path, source: Source, result: bytes | None) -> bool | None:
        """Without a line in the journal, compressing again shows it: as asked for, or else as the file there says."""
        journal, name = self._journal(place), source.item.name
        record = journal.find(place)
        if record is not None and record.digest == digest(source.data):
            return True
        if record is not None and journal.names(record, source.item):
            raise ImageError(
                f"{name}: has changed since {place} was made from it, or is another picture of that name; {_REMEDY}"
            )
        if record is not None:
            raise ImageError(f"{name}: another picture of that name is in {_of(place, record)}; {_REMEDY}")
        if result is None:
            return None
        there = place.read_bytes()
        if there != result and there not in self._remake(source, there):
            raise ImageError(
                f"{name}: {place} exists, made from another picture of that name, or nobody can tell; {_REMEDY}"
            )
        self.note(place, there, source, start=True)
        return True

    def ours(self, content: bytes) -> bool:
        """Whether it is a valid .rdeic file."""
        with contextlib.suppress(FileFormatError):
            inspect(content)
            return True
        return False

    def note(self, place: Path, result: bytes, source: Source, start: bool) -> None:
        """Writes it into the journal. If the folder does not let us, pictures are compressed all the same."""
        journal = self._journal(place)
        if not start and not journal.exists():
            return
        try:
            journal.add(place, result, source)
        except OSError as error:
            self._do_without(place.parent, error)

    def _journal(self, place: Path) -> Journal:
        return self._journals.setdefault(place.parent, Journal(place.parent))

    def _do_without(self, folder: Path, error: OSError) -> None:
        if error.errno in NO_ROOM:
            raise error
        if not self._warned:
            reason = error.strerror or error
            fail(
                f"{folder}: what the files there were made from cannot be noted ({reason}); the next run compresses "
                "again to see"
            )
        self._warned = True


class Restoring:
    """.rdeic files => pictures. These say themselves what they were restored from (`marks`)."""

    def unwanted(self, source: Source) -> str | None:
        """None: every .rdeic file is restored."""
        return None

    def known(self, place: Path, item: Item) -> str | None:
        """None: nothing but the picture itself tells."""
        return None

    def finished(self, place: Path, source: Source, result: bytes | None) -> bool | None:
        """Whether the mark in the picture is that of the input. Raises ImageError if it is not."""
        found = marks.find(place.read_bytes())
        if found == marks.checksum(source.data):
            return True
        origin = "not restored by rdeic" if found is None else f"restored from a file with checksum {found}"
        raise ImageError(
            f"{source.item.name}: another picture of that name is there, {place}, {origin}; {_REMEDY}"
        )

    def ours(self, content: bytes) -> bool:
        """Whether it is a picture with the mark of a restored one."""
        return marks.find(content) is not None

    def note(self, place: Path, result: bytes, source: Source, start: bool) -> None:
        """Does nothing: the mark in the picture says it."""


def _of(place: Path, record: Record) -> str:
    return (
        f"{place}, made from {record.source or '<stdin>'} of {record.stamp[0] if record.stamp else '?'} bytes"
    )

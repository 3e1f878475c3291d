"""The inputs that the arguments stand for: files, folders with all below them, patterns, stdin.

Whatever is left out is reported with the reason, except files that have nothing to do with the command. A file that
several names lead to is taken once, by its own name rather than by that of a link.
"""

from __future__ import annotations

import glob
import os
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import NamedTuple

from rdeic.errors import ImageError

STREAM = "-"  # stdin as an input, stdout as an output
TAKEN = ""
_MAGIC = b"RDE"


class Kind(NamedTuple):
    """Which files a folder or pattern stands for."""

    suffixes: frozenset[str]  # lower case, with the dot
    judge: Callable[
        [Path], str | None
    ]  # any other file: why it is left out, TAKEN, or None: it is not of this kind


class Item(NamedTuple):
    """One input: a file, or stdin."""

    path: Path | None  # None: stdin
    relative: Path  # where it goes below an output folder

    @property
    def name(self) -> str:
        """The input's name in messages: its path, or <stdin>."""
        return "<stdin>" if self.path is None else str(self.path)

    def read(self) -> Source:
        """Everything it has to say, once: a pipe says it only once. Raises ImageError."""
        try:
            if self.path is not None:
                with self.path.open("rb") as stream:
                    return Source(self, stream.read(), os.fstat(stream.fileno()))
            if sys.stdin is None:
                raise ImageError("<stdin>: is closed")
            return Source(self, sys.stdin.buffer.read(), None)
        except OSError as error:
            raise ImageError(f"{self.name}: cannot be read: {error.strerror or error}") from error


class Source(NamedTuple):
    """One input's content."""

    item: Item
    data: bytes
    status: os.stat_result | None  # of the file that was read


class Inputs(NamedTuple):
    """The arguments of a command, resolved to single inputs."""

    items: list[Item]
    missing: list[str]  # a line for each argument that means nothing, and for each folder that cannot be read
    left_out: list[str]  # a line for each
    searched: bool  # a folder or a pattern was among the arguments

    @property
    def batch(self) -> bool:
        """Whether results go into a folder, however many there are."""
        return self.searched or len(self.items) > 1


def gather(arguments: list[str], kind: Kind) -> Inputs:
    """Files, folders (searched recursively for `kind`), patterns, and - for stdin; each file once, in order."""
    found = _Found(kind)
    searched = False
    for argument in arguments:
        if not argument:  # an unset variable in a script, which must not mean the current directory
            found.missing.append("'': an empty name; name a file or a directory")
        elif argument == STREAM:
            found.add([Item(None, Path("stdin"))])
        elif os.path.isdir(argument):
            searched = True
            found.add(found.below(Path(argument)))
        elif glob.has_magic(argument) and not os.path.lexists(argument):
            searched = True
            found.add(found.matching(argument))
        else:  # a missing file fails when read, as an unreadable one does
            found.add([_single(argument)])
    return Inputs(list(found.items.values()), found.missing, found.left_out, searched)


def plain(suffixes: Iterable[str]) -> Kind:
    """A kind that is known by its suffixes alone."""
    return Kind(frozenset(suffixes), lambda _: None)


def _named_otherwise(path: Path) -> str | None:
    return "an .rdeic file by its content, but not by its name" if head(path).startswith(_MAGIC) else None


def head(path: Path, length: int = 32) -> bytes:
    """The first bytes of a regular file; none where it cannot be read."""
    try:
        with path.open("rb") as stream:
            return stream.read(length)
    except OSError:
        return b""


RDEIC_FILES = Kind(frozenset({".rdeic"}), _named_otherwise)


class _Found:
    """The inputs so far."""

    def __init__(self, kind: Kind) -> None:
        self.items: dict[str | None, Item] = {}  # by real path
        self.missing: list[str] = []
        self.left_out: list[str] = []
        self._kind = kind
        self._folders: dict[tuple[int, int], Path] = {}  # those searched, by device and inode

    def add(self, items: list[Item]) -> None:
        """Those of `items` that are not there yet, in their order; of two names of one file the one that is no link."""
        new: dict[str | None, Item] = {}
        for item in sorted(items, key=_through_link):
            real = _real(item)
            first = self.items.get(real) or new.setdefault(real, item)
            if _absolute(first) != _absolute(item):
                self._leave_out(item.path, f"the same file as {first.name}")
        self.items |= {real: item for item in items if new.get(real := _real(item)) is item}

    def matching(self, pattern: str) -> list[Item]:
        """What a pattern matches; of folders, what is below them."""
        items: list[Item] = []
        names = sorted(glob.glob(pattern, recursive=True))
        for name in names:
            if os.path.isdir(name):
                items += self.below(Path(name))
            elif os.path.isfile(name):
                items.append(_single(name))
        if not names:
            self.missing.append(f"{pattern}: nothing there to work on")
        return items

    def below(self, top: Path) -> list[Item]:
        """What a folder holds, by name. Links to folders are followed after all else, and nowhere twice."""
        items: list[Item] = []
        before, fresh = len(self.missing), False
        waiting, links = [Path()], list[Path]()
        while waiting or links:
            relative = waiting.pop() if waiting else links.pop(0)
            if not self._enter(top / relative):
                continue
            fresh = True
            for entry in self._entries(top / relative):
                inner = relative / entry.name
                if entry.is_dir(follow_symlinks=False) or os.path.isdir(entry.path):
                    if entry.name.startswith("."):
                        self._hidden(top / inner)
                    else:
                        (links if entry.is_symlink() else waiting).append(inner)
                elif self._takes(top / inner):
                    items.append(Item(top / inner, inner))
        if fresh and not items and len(self.missing) == before:
            self.missing.append(f"{top}: nothing there to work on")
        return sorted(items, key=lambda item: item.name)

    def _enter(self, folder: Path) -> bool:
        """Whether it is to be searched."""
        try:
            status = folder.stat()
        except OSError as error:
            self.missing.append(f"{folder}: {error.strerror or error}")
            return False
        first = self._folders.setdefault((status.st_dev, status.st_ino), folder)
        if first is not folder and os.path.abspath(first) != os.path.abspath(folder):
            self._leave_out(folder, f"leads to {first}, which is searched anyway")
        return first is folder

    def _entries(self, folder: Path) -> list[os.DirEntry[str]]:
        try:
            with os.scandir(folder) as entries:
                return sorted(entries, key=lambda entry: entry.name)
        except OSError as error:
            self.missing.append(f"{folder}: {error.strerror or error}")
            return []

    def _takes(self, path: Path) -> bool:
        """Whether what is no folder is taken; says why not."""
        suited = path.suffix.lower() in self._kind.suffixes
        if path.name.startswith("."):
            reason = "hidden" if suited else None
        elif os.path.isfile(path):
            reason = TAKEN if suited else self._kind.judge(path)
        elif suited:
            reason = "no regular file" if os.path.exists(path) else "a link that leads nowhere"
        else:
            reason = None
        if reason:
            self._leave_out(path, reason)
        return reason == TAKEN

    def _hidden(self, folder: Path) -> None:
        names = (name for _, _, found in os.walk(folder) for name in found)
        if any(Path(name).suffix.lower() in self._kind.suffixes for name in names):
            self._leave_out(folder, "hidden")

    def _leave_out(self, path: Path | None, reason: str) -> None:
        self.left_out.append(left_out(str(path), reason))


def left_out(name: str, reason: str) -> str:
    """The line that says that `name` is left out, and why."""
    return f"{name}: left out: {reason}"


def _single(name: str) -> Item:
    return Item(Path(name), Path(Path(name).name))


def _absolute(item: Item) -> str | None:
    return None if item.path is None else os.path.abspath(item.path)


def _real(item: Item) -> str | None:
    return None if item.path is None else os.path.realpath(item.path)


def _through_link(item: Item) -> bool:
    """Whether it, or a folder below the argument, is a link."""
    if item.path is None:
        return False
    top = item.path.parents[len(item.relative.parts) - 1] if item.relative.parts else item.path
    return os.path.join(os.path.realpath(top), item.relative) != os.path.realpath(item.path)

"""Many inputs: which files the arguments mean, where each result goes, and what happens when one fails.

Each result is there completely or not at all, so a batch that was killed goes on when it is started again: what is
there is finished.
"""

from __future__ import annotations

import contextlib
import errno
import glob
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import typer

from rdeic import files
from rdeic.cli.console import explain, fail, progress
from rdeic.errors import CheckpointError, ConfigError, ImageError, RdeicError

STREAM = "-"  # stdin as an input, stdout as an output
_NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EROFS)


class Item(NamedTuple):
    """One input."""

    path: Path | None  # None: stdin
    relative: Path  # where it goes below an output directory

    @property
    def name(self) -> str:
        return "<stdin>" if self.path is None else str(self.path)

    def source(self) -> Path | bytes:
        """The path, or everything stdin has to say."""
        return sys.stdin.buffer.read() if self.path is None else self.path


class Inputs(NamedTuple):
    """What the arguments mean."""

    items: list[Item]
    missing: list[str]  # a line for each argument that means nothing
    batch: bool  # more than one file, or found by a directory or a pattern: finished outputs are skipped


class Target(NamedTuple):
    """Where results go: `out` is the -o option, `suffix` that of a result, with its dot."""

    out: str | None
    suffix: str
    force: bool
    redo_stale: bool  # an output older than its input is ours to replace (in a batch)

    def place(self, item: Item, batch: bool) -> Path | None:
        """The output's path; None is stdout."""
        if self.out == STREAM or (self.out is None and item.path is None):
            return None
        if self.out is None:
            return _with_suffix(item.path or item.relative, self.suffix)
        if batch or means_directory(self.out):
            return Path(self.out) / _with_suffix(item.relative, self.suffix)
        return Path(self.out)

    def finished(self, item: Item, place: Path | None, batch: bool) -> bool:
        """Whether the output is there already. Raises ImageError if one is there that must not be replaced.

        In a batch that is decided by name and time alone: an output made with other settings counts as finished.
        """
        if place is None or not place.exists():
            return False
        if item.path is not None and place.samefile(item.path):
            raise ImageError(f"{place}: is the input itself; name another output with -o")
        if place.is_dir():
            raise ImageError(f"{place}: is a directory")
        named = self.out is not None and not batch and not means_directory(self.out)
        if self.force or named:
            return False
        if not batch:
            raise ImageError(f"{place}: exists already; --force overwrites it, -o names another")
        if item.path is None or place.stat().st_mtime_ns >= item.path.stat().st_mtime_ns:
            return True
        if self.redo_stale:
            return False
        raise ImageError(
            f"{place}: exists and is older than {item.name}; --force overwrites it, -o names a directory"
        )


def gather(arguments: list[str], suffixes: frozenset[str]) -> Inputs:
    """Files, directories (searched recursively for `suffixes`), patterns, and - for stdin; each file once, in order."""
    items: dict[Path | None, Item] = {}
    missing: list[str] = []
    batch = False
    for argument in arguments:
        path = Path(argument)
        if not argument:  # an unset variable in a script, which must not mean the current directory
            missing.append("'': an empty name; name a file or a directory")
            continue
        if argument == STREAM:
            found = [Item(None, Path("stdin"))]
        elif path.is_dir():
            found, batch = list(_below(path, suffixes)), True
        elif glob.has_magic(argument) and not path.exists():
            names = sorted(glob.glob(argument, recursive=True))
            found, batch = (
                [Item(Path(name), Path(Path(name).name)) for name in names if Path(name).is_file()],
                True,
            )
        else:
            found = [Item(path, Path(path.name))]  # a missing file fails when read, as an unreadable one does
        if not found:
            missing.append(f"{argument}: nothing there to work on")
        for item in found:
            items.setdefault(item.path and item.path.resolve(), item)
    return Inputs(list(items.values()), missing, batch or len(items) > 1)


def check_target(inputs: Inputs, target: Target) -> None:
    """Raises typer.BadParameter where inputs and -o do not go together."""
    if inputs.batch and len(inputs.items) > 1 and any(item.path is None for item in inputs.items):
        raise typer.BadParameter("- (stdin) goes alone")
    if inputs.batch and target.out == STREAM:
        raise typer.BadParameter("-o - (stdout) takes one result only")
    if (
        inputs.batch
        and target.out is not None
        and Path(target.out).exists()
        and not Path(target.out).is_dir()
    ):
        raise typer.BadParameter(f"-o {target.out} is a file, but several results need a directory")
    to_stdout = any(target.place(item, inputs.batch) is None for item in inputs.items)
    if to_stdout and sys.stdout.isatty():
        raise typer.BadParameter("binary data does not go to a terminal; use -o, or a pipe")


def run(inputs: Inputs, target: Target, work: Callable[[Item], tuple[bytes, str]]) -> None:
    """Does `work` (item => result and a remark about it) for each item; a failure does not stop the others.

    Raises typer.Exit(1) if one failed; ConfigError and CheckpointError, which would befall every item, at once, and
    BrokenPipeError when nobody reads stdout any more. A full or read-only disk behind -o ends the run too.
    """
    failed: list[str] = []
    skipped = left = 0
    taken: dict[Path, str] = {}
    for line in inputs.missing:
        fail(line)
    if inputs.batch:
        places = (target.place(item, batch=True) for item in inputs.items)
        for folder in {place.parent for place in places if place is not None}:
            files.sweep(folder)
    with progress(len(inputs.items)) as advance:
        for position, item in enumerate(inputs.items, start=1):
            try:
                skipped += _one(item, inputs.batch, target, taken, work)
            except (ConfigError, CheckpointError, BrokenPipeError):
                raise
            except Exception as error:
                if os.environ.get("RDEIC_DEBUG") == "1" and not isinstance(error, RdeicError | OSError):
                    raise
                text = explain(error)
                fail(text if item.name in text else f"{item.name}: {text}")
                failed.append(item.name)
                if target.out is not None and _no_room(error):
                    left = len(inputs.items) - position
                    break
            advance()
    _summarise(inputs, failed, skipped, left)


def _one(
    item: Item, batch: bool, target: Target, taken: dict[Path, str], work: Callable[[Item], tuple[bytes, str]]
) -> bool:
    """Whether the item was skipped."""
    place = target.place(item, batch)
    if place is not None and (first := taken.setdefault(place, item.name)) != item.name:
        raise ImageError(f"{item.name}: would go to {place}, as {first} does; rename one of them")
    if target.finished(item, place, batch):
        return True
    result, remark = work(item)
    if place is None:
        with _stdout():
            sys.stdout.buffer.write(result)
            sys.stdout.buffer.flush()
        return False
    try:
        if target.out is not None and batch:
            files.make_folders(place.parent)
        files.atomic_write(place, result)
    except OSError as error:
        raise ImageError(f"{place}: cannot be written: {error.strerror or error}") from error
    with _stdout():
        print(f"{item.name} -> {place}  {remark}", flush=True)
    return False


@contextlib.contextmanager
def _stdout() -> Iterator[None]:
    """While stdout is written to. Raises BrokenPipeError if nobody reads it, ImageError if it has no room."""
    try:
        yield
    except OSError as error:
        # What is left in its buffer would fail again, not in one line, when the interpreter ends.
        with contextlib.suppress(OSError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        if isinstance(error, BrokenPipeError):
            raise
        raise ImageError(f"stdout: cannot be written: {error.strerror or error}") from error


def _no_room(error: Exception) -> bool:
    cause = error.__cause__
    return isinstance(cause, OSError) and cause.errno in _NO_ROOM


def _summarise(inputs: Inputs, failed: list[str], skipped: int, left: int) -> None:
    if inputs.batch:
        done = len(inputs.items) - skipped - len(failed) - left
        names = f": {', '.join(failed)}" if failed else ""
        rest = f"; {left} not tried: make room and start again" if left else ""
        print(f"{done} done, {skipped} finished before, {len(failed)} failed{names}{rest}", file=sys.stderr)
    if failed or inputs.missing:
        raise typer.Exit(1)


def _below(directory: Path, suffixes: frozenset[str]) -> Iterator[Item]:
    for path in sorted(directory.rglob("*")):
        if path.suffix.lower() in suffixes and path.is_file():
            yield Item(path, path.relative_to(directory))


def means_directory(out: str) -> bool:
    return out.endswith(("/", os.sep)) or Path(out).is_dir()


def _with_suffix(path: Path, suffix: str) -> Path:
    return path.with_suffix(suffix) if path.suffix else path.with_name(path.name + suffix)

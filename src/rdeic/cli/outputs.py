"""Where results go. Whether -o names a folder or a file never depends on how many inputs there are."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import NamedTuple

import typer

from rdeic.cli.inputs import STREAM, Inputs, Item
from rdeic.errors import ImageError
from rdeic.system import files


class Target(NamedTuple):
    """What the options say of outputs."""

    out: str | None  # the -o option
    suffix: str  # of a result, with its dot
    force: bool
    preserve_times: bool = False

    def place(self, item: Item, batch: bool) -> Path | None:
        """The output's path; None is stdout."""
        if self.out == STREAM or (self.out is None and item.path is None):
            return None
        if self.out is None:
            return _with_suffix(item.path or item.relative, self.suffix)
        if batch or means_folder(self.out):
            return Path(self.out) / _with_suffix(item.relative, self.suffix)
        return Path(self.out)

    def into_folder(self, batch: bool) -> bool:
        """Whether results join others, so that what is finished is left alone; else there is one, and it is meant."""
        return batch or (self.out is not None and means_folder(self.out))


def check(inputs: Inputs, target: Target, suffixes: tuple[str, ...]) -> None:
    """Checks, before anything is read, that inputs and -o go together. Raises typer.BadParameter where they do not.

    `suffixes` are those that a result may have. Raises ImageError if results are to go to a stdout that is closed.
    """
    out, batch = target.out, inputs.batch
    if out == "":  # an unset variable in a script, which must not mean the current directory
        raise typer.BadParameter("-o '': an empty name; name a file, or a folder such as ./")
    if batch and len(inputs.items) > 1 and any(item.path is None for item in inputs.items):
        raise typer.BadParameter("- (stdin) goes alone")
    if batch and out == STREAM:
        raise typer.BadParameter("-o - (stdout) takes one result only")
    if out not in (None, STREAM):
        _check_name(str(out), inputs, target.force, suffixes)
    for item in inputs.items:
        if out is None and item.path is not None and files.descriptor(item.path) is not None:
            raise typer.BadParameter(f"{item.name} has no place for a result beside it: name one with -o")
    if any(target.place(item, batch) is None for item in inputs.items):
        if sys.stdout is None:
            raise ImageError("stdout is closed; name an output with -o")
        if sys.stdout.isatty():
            raise typer.BadParameter("binary data does not go to a terminal; use -o, or a pipe")
    elif out is not None and is_direct(Path(out)) and _is_terminal(Path(out)):
        raise typer.BadParameter("binary data does not go to a terminal; name a file")


def means_folder(out: str) -> bool:
    """Whether -o names a folder, there already or not: by what it is, or by how it ends."""
    return os.path.basename(out) in ("", ".", "..") or os.path.isdir(out)


def is_direct(place: Path) -> bool:
    """Whether what is written to `place` goes elsewhere (a pipe, a device, an open file), so that nothing is there."""
    return files.descriptor(place) is not None or (
        place.exists() and not place.is_file() and not place.is_dir()
    )


def _check_name(out: str, inputs: Inputs, force: bool, suffixes: tuple[str, ...]) -> None:
    path = Path(out)
    if (
        (inputs.batch or means_folder(out))
        and not path.is_dir()
        and os.path.lexists(out.rstrip("/" + os.sep))
    ):
        raise typer.BadParameter(
            f"-o {out} is a file" + (", but several results need a directory" if inputs.batch else "")
        )
    if means_folder(out) or inputs.searched or is_direct(path):
        return
    suffix = path.suffix.lower()
    if inputs.batch:
        if suffix in suffixes:
            raise typer.BadParameter(
                f"-o {out} names one file, but there are several results; -o {out}/ is a folder"
            )
    elif suffix not in suffixes and not force:
        names = ", ".join(suffixes)
        if suffix:
            raise typer.BadParameter(
                f"-o {out}: {suffix} files cannot be written; use {names}, or {out}/ for a folder"
            )
        raise typer.BadParameter(f"-o {out}: a folder or a file? Write {out}/, or a name with {names}")


def _is_terminal(place: Path) -> bool:
    opened = files.descriptor(place)
    try:
        if opened is not None:
            return os.isatty(opened)
        if not place.is_char_device():
            return False
        descriptor = os.open(place, os.O_WRONLY | getattr(os, "O_NOCTTY", 0) | getattr(os, "O_NONBLOCK", 0))
    except OSError:  # said when it is written to
        return False
    try:
        return os.isatty(descriptor)
    finally:
        os.close(descriptor)


def _with_suffix(path: Path, suffix: str) -> Path:
    return path.with_suffix(suffix) if path.suffix else path.with_name(path.name + suffix)

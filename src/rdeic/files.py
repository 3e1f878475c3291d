"""Writing files so that a reader sees the old content or the new, never half of it, whenever the power fails."""

from __future__ import annotations

import contextlib
import errno
import os
import re
import secrets
import sys
from pathlib import Path

if sys.platform != "win32":
    import fcntl

_ASIDE = re.compile(r"\.rdeic-[0-9a-f]{16}\.tmp")
_CANNOT_SYNC = (errno.EINVAL, errno.ENOTSUP)  # some file systems, of a folder


def atomic_write(path: Path, data: bytes) -> None:
    """Replace the content of `path` by `data`: written aside in the same folder, synced, renamed, the folder synced.

    A symbolic link keeps pointing to its target, whose content is replaced. Something that is not a regular
    file (a pipe, /dev/null) is written to directly, since renaming would replace the device. On failure
    nothing is left behind and an existing file keeps its content. A killed process may leave a file for
    `sweep` to remove. Raises OSError.
    """
    if path.exists() and not path.is_file() and not path.is_dir():  # a pipe's /dev/fd has no resolved name
        path.write_bytes(data)
        return
    target = path.resolve()
    descriptor, aside = _create_aside(target.parent)
    try:
        with open(descriptor, "wb") as stream:  # its lock, by which `sweep` knows it is in use, ends with it
            stream.write(data)
            stream.flush()
            os.fsync(stream.fileno())
            if sys.platform != "win32":  # while the lock holds
                os.replace(aside, target)
        if sys.platform == "win32":  # which renames no open file
            os.replace(aside, target)
    except BaseException:  # also on Ctrl-C: no leftovers
        with contextlib.suppress(OSError):
            aside.unlink()
        raise
    sync_folder(target.parent)


def make_folders(folder: Path) -> None:
    """`mkdir -p`, each new folder synced into the one above it. Raises OSError."""
    if folder.is_dir():
        return
    make_folders(folder.parent)
    folder.mkdir(exist_ok=True)
    sync_folder(folder.parent)


def sweep(folder: Path) -> int:
    """Remove what killed processes left half-written in `folder`; how many files that was.

    What another process is writing at the moment stays. Does nothing where there are no locks (Windows) or no folder.
    """
    try:
        names = [name for name in os.listdir(folder) if _ASIDE.fullmatch(name)]
    except OSError:
        return 0
    return sum(_sweep_one(folder / name) for name in names)


def _create_aside(folder: Path) -> tuple[int, Path]:
    """A new file in `folder`, locked and open for writing."""
    while True:
        aside = folder / f".rdeic-{secrets.token_hex(8)}.tmp"
        # Opened by hand: `tempfile` would make the result private (mode 0600) whatever the user's umask says.
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0)
        descriptor = os.open(aside, flags, 0o666)
        if sys.platform == "win32":
            return descriptor, aside
        with contextlib.suppress(OSError):  # a file system without locks: nobody can sweep there either
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        if os.fstat(descriptor).st_nlink:
            return descriptor, aside
        os.close(descriptor)  # swept between its creation and its lock


def _sweep_one(aside: Path) -> bool:
    if sys.platform == "win32":
        return False
    try:
        descriptor = os.open(aside, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        # The name may have become an output meanwhile: then there is nothing at this one.
        aside.unlink()
    except OSError:
        return False
    finally:
        os.close(descriptor)
    return True


def sync_folder(folder: Path) -> None:
    """Make a rename in `folder` survive a power failure, as far as the file system can be told so."""
    if sys.platform == "win32":
        return
    try:
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    except OSError:  # a folder that may be written but not read
        return
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in _CANNOT_SYNC:
            raise
    finally:
        os.close(descriptor)

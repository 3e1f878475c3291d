"""Writing files so that a reader sees the old content or the new, never half of it, even if the power fails."""

from __future__ import annotations

import contextlib
import errno
import os
import re
import secrets
import stat
import sys
from collections.abc import Iterator
from pathlib import Path

if sys.platform != "win32":
    import fcntl

_ASIDE = re.compile(r"\.rdeic-[0-9a-f]{16}\.tmp")
_STANDARD = {"/dev/stdin": 0, "/dev/stdout": 1, "/dev/stderr": 2}
_DESCRIPTOR = re.compile(r"/(?:dev|proc/self|proc/thread-self)/fd/(\d{1,9})")
_MOST_LINKS = 40  # in a row, as on Linux
_CANNOT_SYNC = (errno.EINVAL, errno.ENOTSUP)  # some file systems, of a folder


def atomic_write(
    path: Path, data: bytes, mode: int | None = None, times: tuple[int, int] | None = None
) -> None:
    """Replace the content of `path` by `data`: written aside in the same folder, synced, renamed, the folder synced.

    A new file gets the permission bits `mode` (None: what the umask leaves), one that is replaced keeps its own, and
    its owner where that is allowed. `times` are those of access and change, in nanoseconds; None: now.

    A symbolic link keeps pointing to its target, whose content is replaced. What is no regular file (a pipe,
    /dev/null) and what is open already (/dev/stdout, `descriptor`) is written to directly: renaming would replace the
    device, or what the shell goes on writing to. On failure nothing is left behind and an existing file keeps its
    content. A killed process may leave a file for `sweep` to remove. Raises OSError.
    """
    opened = descriptor(path)
    if opened is not None:
        with open(os.dup(opened), "wb") as stream:
            stream.write(data)
        return
    if path.exists() and not path.is_file() and not path.is_dir():
        path.write_bytes(data)
        return
    target = Path(os.path.realpath(path))
    if target.is_symlink():
        raise OSError(errno.ELOOP, os.strerror(errno.ELOOP))
    written, aside = _create_aside(target.parent)
    try:
        with open(written, "wb") as stream:  # its lock, by which `sweep` knows it is in use, ends with it
            if sys.platform != "win32":
                _adopt(written, target, mode)
            stream.write(data)
            stream.flush()
            if times is not None:
                os.utime(aside, ns=times)
            os.fsync(written)
            if sys.platform != "win32":  # while the lock holds
                os.replace(aside, target)
        if sys.platform == "win32":  # which renames no open file
            os.replace(aside, target)
    except BaseException:  # also on Ctrl-C: no leftovers
        with contextlib.suppress(OSError):
            aside.unlink()
        raise
    sync_folder(target.parent)


def descriptor(path: Path) -> int | None:
    """The number of the open file that a name such as /dev/stdout or /dev/fd/63 means; None for any other name.

    Links to such names count; what those names link to does not, as it may have no name, or be a file opened elsewhere.
    """
    name = os.path.abspath(path)
    for _ in range(_MOST_LINKS):
        if name in _STANDARD:
            return _STANDARD[name]
        if found := _DESCRIPTOR.fullmatch(name):
            return int(found[1])
        try:
            name = os.path.normpath(os.path.join(os.path.dirname(name), os.readlink(name)))
        except (OSError, ValueError):  # no link
            return None
    return None


@contextlib.contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Meanwhile another process waits that wants the same folder locked, on file systems that know locks."""
    if sys.platform == "win32":
        yield
        return
    with contextlib.ExitStack() as stack:
        with contextlib.suppress(OSError):  # a folder that may be written but not read, or no locks
            descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
            stack.callback(os.close, descriptor)
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield


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


def _adopt(written: int, target: Path, mode: int | None) -> None:
    """Gives the open file the owner and mode of `target`, which it is to replace, or else `mode`."""
    if sys.platform == "win32":
        return
    with contextlib.suppress(FileNotFoundError):
        there = target.stat()
        mode = stat.S_IMODE(there.st_mode)
        with contextlib.suppress(OSError):  # not ours to give away, which costs nobody the content
            os.fchown(written, there.st_uid, there.st_gid)
    if mode is not None:
        with contextlib.suppress(OSError):  # a file system without modes
            os.fchmod(written, mode)


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

"""Writing files so that a reader sees the old content or the new, never half of it."""

from __future__ import annotations

import contextlib
import os
import secrets
from pathlib import Path


def atomic_write(path: Path, data: bytes) -> None:
    """Replace the content of `path` by `data`: written aside in the same folder, synced, then renamed.

    A symbolic link keeps pointing to its target, whose content is replaced. Something that is not a regular
    file (a pipe, /dev/null) is written to directly, since renaming would replace the device. On failure
    nothing is left behind and an existing file keeps its content. Raises OSError.
    """
    target = path.resolve()
    if target.exists() and not target.is_file() and not target.is_dir():
        target.write_bytes(data)
        return
    aside = target.with_name(f".{secrets.token_hex(8)}.tmp")
    # Opened by hand: `tempfile` would make the result private (mode 0600) whatever the user's umask says.
    descriptor = os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0), 0o666)
    try:
        with open(descriptor, "wb") as stream:
            stream.write(data)
            stream.flush()
            os.fsync(stream.fileno())
        os.replace(aside, target)
    except BaseException:  # also on Ctrl-C: no leftovers
        with contextlib.suppress(OSError):
            aside.unlink()
        raise

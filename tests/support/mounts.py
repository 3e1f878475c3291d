"""Real file systems with a defect, each seen by one command only: full ones, read-only ones."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path
from typing import NamedTuple

import pytest

_CANNOT_MOUNT = 99
_SCRIPT = f"""
mount -t tmpfs -o "$0" tmpfs "$1" || exit {_CANNOT_MOUNT}
place=$1
shift
"$@" >&2
code=$?
ls -A "$place"
exit $code
"""


class Done(NamedTuple):
    code: int
    names: list[str]  # on the file system in the end
    err: list[str]  # what the command printed, stdout too


def run_on(options: str, place: Path, command: list[str]) -> Done:
    """Runs `command` with a new tmpfs mounted at the folder `place`. Skips the test where that is not allowed."""
    if shutil.which("unshare") is None or shutil.which("mount") is None:
        pytest.skip("needs unshare and mount")
    unshare = ["unshare", "-m" if os.geteuid() == 0 else "-rm"]
    done = subprocess.run(
        [*unshare, "sh", "-c", _SCRIPT, options, str(place), *command],
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    if done.returncode == _CANNOT_MOUNT or "unshare failed" in done.stderr:
        pytest.skip(f"no mounts allowed here: {done.stderr.strip()}")
    return Done(done.returncode, done.stdout.splitlines(), done.stderr.splitlines())

"""Atomic writing: content, no leftovers, devices and links left in place."""

from __future__ import annotations

import os
import stat
import threading
from pathlib import Path

import pytest

from rdeic.files import atomic_write


def test_writes_and_replaces(tmp_path: Path) -> None:
    target = tmp_path / "a.rdeic"
    atomic_write(target, b"one")
    atomic_write(target, b"two")
    assert target.read_bytes() == b"two"
    assert os.listdir(tmp_path) == ["a.rdeic"]


def test_a_name_of_the_greatest_length_works(tmp_path: Path) -> None:
    atomic_write(tmp_path / ("n" * 255), b"x")
    assert (tmp_path / ("n" * 255)).read_bytes() == b"x"


def test_failure_leaves_nothing_behind(tmp_path: Path) -> None:
    folder = tmp_path / "a.rdeic"
    folder.mkdir()
    with pytest.raises((IsADirectoryError, PermissionError)):
        atomic_write(folder, b"data")
    assert os.listdir(tmp_path) == ["a.rdeic"]
    with pytest.raises(FileNotFoundError):
        atomic_write(tmp_path / "missing" / "a.rdeic", b"data")


@pytest.mark.skipif(os.name != "posix", reason="file modes, links and pipes as POSIX has them")
def test_posix_mode_link_and_pipe(tmp_path: Path) -> None:
    umask = os.umask(0o022)
    try:
        atomic_write(tmp_path / "real", b"old")
    finally:
        os.umask(umask)
    assert stat.S_IMODE((tmp_path / "real").stat().st_mode) == 0o644

    (tmp_path / "link").symlink_to("real")
    atomic_write(tmp_path / "link", b"new")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "real").read_bytes() == b"new"

    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    received: list[bytes] = []
    reader = threading.Thread(target=lambda: received.append(pipe.read_bytes()))
    reader.start()
    atomic_write(pipe, b"through")
    reader.join(timeout=10)
    assert received == [b"through"]
    assert stat.S_ISFIFO(pipe.stat().st_mode)

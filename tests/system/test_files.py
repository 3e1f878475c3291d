"""Atomic writing: content, no leftovers, devices and links left in place, full disks, killed writers."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from rdeic.system.files import atomic_write, descriptor, locked, make_folders, sweep
from support.mounts import run_on

posix_only = pytest.mark.skipif(os.name != "posix", reason="locks, limits and mounts as POSIX has them")


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


@posix_only
def test_modes_and_times_are_as_given_and_of_replaced_files_as_they_were(tmp_path: Path) -> None:
    target = tmp_path / "a"
    atomic_write(target, b"one", mode=0o640, times=(1_000_000_001, 2_000_000_002))
    status = target.stat()
    assert (stat.S_IMODE(status.st_mode), status.st_atime_ns, status.st_mtime_ns) == (
        0o640,
        1_000_000_001,
        2_000_000_002,
    )
    target.chmod(0o604)
    if os.geteuid() == 0:
        os.chown(target, 1234, 4321)
    owner = (target.stat().st_uid, target.stat().st_gid)
    atomic_write(target, b"two", mode=0o640)
    status = target.stat()
    assert (target.read_bytes(), stat.S_IMODE(status.st_mode)) == (b"two", 0o604)
    assert (status.st_uid, status.st_gid) == owner
    assert status.st_mtime_ns > 2_000_000_002


@posix_only
@pytest.mark.parametrize(
    ("name", "number"),
    [
        ("/dev/stdin", 0),
        ("/dev/stdout", 1),
        ("/dev/stderr", 2),
        ("/dev/fd/63", 63),
        ("/dev/../dev/fd/3", 3),
        ("/proc/self/fd/7", 7),
        ("link", 5),
        ("/dev/null", None),
        ("/dev/fd", None),
        ("/dev/fd/x", None),
        ("loop", None),
        ("missing", None),
        ("file", None),
    ],
)
def test_names_of_open_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, number: int | None
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("link").symlink_to("second")
    Path("second").symlink_to("/dev/fd/5")
    Path("loop").symlink_to("loop")
    Path("file").touch()
    assert descriptor(Path(name)) == number


@posix_only
def test_a_folder_is_locked_by_one_at_a_time(tmp_path: Path) -> None:
    order: list[str] = []
    begun = threading.Event()

    def second() -> None:
        begun.set()
        with locked(tmp_path):
            order.append("second")

    with locked(tmp_path):
        other = threading.Thread(target=second)
        other.start()
        begun.wait()
        other.join(timeout=0.1)
        assert other.is_alive()
        order.append("first")
    other.join(timeout=20)
    assert order == ["first", "second"]
    with locked(tmp_path / "missing"):  # nothing to lock
        pass


@pytest.mark.skipif(not Path("/dev/fd").is_dir(), reason="no /dev/fd")
def test_a_shells_pipe_is_written_to() -> None:
    """As `-o >(command)` gives it: a name that resolves to none."""
    reading, writing = os.pipe()
    atomic_write(Path(f"/dev/fd/{writing}"), b"through")
    os.close(writing)
    with open(reading, "rb") as stream:
        assert stream.read() == b"through"


@posix_only
def test_file_and_folder_are_synced_in_the_order_that_survives_a_power_failure(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = tmp_path / "new" / "deep" / "a.rdeic"
    synced: list[tuple[str, bool]] = []
    fsync = os.fsync

    def noted(descriptor: int) -> None:
        kind = "folder" if stat.S_ISDIR(os.fstat(descriptor).st_mode) else "file"
        synced.append((kind, target.exists()))
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", noted)
    make_folders(target.parent)
    atomic_write(target, b"data")
    assert synced == [("folder", False), ("folder", False), ("file", False), ("folder", True)]
    make_folders(target.parent)
    assert len(synced) == 4


@posix_only
def test_a_write_that_fails_midway_keeps_the_old_content(tmp_path: Path) -> None:
    import resource

    target = tmp_path / "a.rdeic"
    atomic_write(target, b"old")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, limits[1]))
    try:
        with pytest.raises(OSError, match="too large"):
            atomic_write(target, bytes(5000))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert target.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["a.rdeic"]


WRITE = """
import sys
from pathlib import Path
from rdeic.system.files import atomic_write
for name in sys.argv[2:]:
    try:
        atomic_write(Path(sys.argv[1]) / name, bytes(10_000))
    except OSError as error:
        print(error.strerror)
"""


@posix_only
@pytest.mark.parametrize(
    ("options", "names", "reason"),
    [("size=16k", ["a"], "No space left on device"), ("ro", [], "Read-only file system")],
)
def test_a_full_or_read_only_disk_gets_whole_files_or_none(
    tmp_path: Path, options: str, names: list[str], reason: str
) -> None:
    done = run_on(options, tmp_path, [sys.executable, "-c", WRITE, str(tmp_path), "a", "b"])
    assert (done.code, done.names) == (0, names)
    assert done.err == [reason] * (2 - len(names))


HOLD = """
import sys
from pathlib import Path
from rdeic.system import files
descriptor, aside = files._create_aside(Path(sys.argv[1]))
print(aside.name, flush=True)
sys.stdin.read()
"""


@posix_only
def test_only_what_killed_writers_left_is_swept(tmp_path: Path) -> None:
    for name in (".notes.tmp", ".rdeic-notes.tmp", "a.rdeic", ".0123456789abcdef.tmp"):
        (tmp_path / name).write_bytes(b"the user's")
    theirs = set(os.listdir(tmp_path))
    command = [sys.executable, "-c", HOLD, str(tmp_path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as writer:
        assert writer.stdout is not None
        left = writer.stdout.readline().strip()
        assert sweep(tmp_path) == 0  # its writer is alive
        writer.kill()
    assert set(os.listdir(tmp_path)) == {*theirs, left}
    assert sweep(tmp_path) == 1
    assert set(os.listdir(tmp_path)) == theirs
    assert sweep(tmp_path / "missing") == 0


def test_writers_of_one_file_leave_one_of_their_contents(tmp_path: Path) -> None:
    """While another thread keeps sweeping."""
    contents = [bytes([i]) * 20_000 for i in range(4)]
    done = threading.Event()

    def keep_sweeping() -> None:
        while not done.is_set():
            sweep(tmp_path)

    def keep_writing(content: bytes) -> None:
        for _ in range(20):
            atomic_write(tmp_path / "a", content)

    sweeper = threading.Thread(target=keep_sweeping)
    writers = [threading.Thread(target=keep_writing, args=[content]) for content in contents]
    for thread in (sweeper, *writers):
        thread.start()
    for thread in writers:
        thread.join()
    done.set()
    sweeper.join()
    assert (tmp_path / "a").read_bytes() in contents
    assert os.listdir(tmp_path) == ["a"]

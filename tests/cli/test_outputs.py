"""What -o means, and that a result arrives whole wherever it goes: files, folders, pipes, devices, open files."""

from __future__ import annotations

import os
import pty
import stat
import subprocess
import sys
import threading
from pathlib import Path

import pytest

import rdeic
from support.program_runs import Program, model, picture, program

__all__ = ["model", "picture", "program"]  # fixtures

pytestmark = pytest.mark.skipif(os.name != "posix", reason="modes, links and pipes as POSIX has them")


def below(folder: str) -> list[str]:
    return sorted(str(path) for path in Path(folder).rglob("*.*") if not path.name.startswith("."))


# Files and folders


@pytest.mark.parametrize("inputs", [["photo.png"], ["photo.p*"], ["album"], ["photo.png", "b.png"]])
@pytest.mark.parametrize("out", ["new/", "new/.", "there", "there.rdeic"])
def test_a_folder_is_a_folder_however_many_inputs_there_are(
    program: Program, picture: Path, model: tuple[str, ...], inputs: list[str], out: str
) -> None:
    Path("there").mkdir()
    Path("there.rdeic").mkdir()
    Path("album").mkdir()
    for name in ("album/photo.png", "b.png"):
        Path(name).write_bytes(picture.read_bytes()[:-4] + name[:4].encode())
    done = program("compress", *inputs, "-o", out, *model)
    assert done.code == 0
    wanted = ["b.rdeic", "photo.rdeic"] if "b.png" in inputs else ["photo.rdeic"]
    assert below(out) == [str(Path(out, name)) for name in wanted]
    assert done.err == f"{len(wanted)} done, 0 finished before, 0 failed\n"
    again = program("compress", *inputs, "-o", out, *model)
    assert (again.code, again.err) == (0, f"0 done, {len(wanted)} finished before, 0 failed\n")


@pytest.mark.parametrize("inputs", [["album"], ["photo.p*"]])
def test_folders_and_patterns_as_inputs_always_mean_a_folder(
    program: Program, picture: Path, model: tuple[str, ...], inputs: list[str]
) -> None:
    Path("album").mkdir()
    Path("album/photo.png").write_bytes(picture.read_bytes())
    assert program("compress", *inputs, "-o", "small", *model).code == 0
    assert below("small") == ["small/photo.rdeic"]


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (
            ["compress", "photo.png", "-o", "small"],
            "-o small: a folder or a file? Write small/, or a name with .rdeic",
        ),
        (["compress", "photo.png", "-o", ""], "-o '': an empty name"),
        (["compress", "photo.png", "b.png", "-o", ""], "-o '': an empty name"),
        (
            ["compress", "photo.png", "-o", "x.jpg"],
            "-o x.jpg: .jpg files cannot be written; use .rdeic, or x.jpg/",
        ),
        (
            ["compress", "photo.png", "b.png", "-o", "x.rdeic"],
            "-o x.rdeic names one file, but there are several",
        ),
        (["compress", "photo.png", "-o", "photo.png/"], "-o photo.png/ is a file"),
        (
            ["compress", "photo.p*", "-o", "photo.png"],
            "-o photo.png is a file, but several results need a directory",
        ),
        (["compress", "photo.png", "b.png", "-o", "dangling"], "-o dangling is a file, but several"),
        (
            ["decompress", "photo.rdeic", "-o", "small"],
            "-o small: a folder or a file? Write small/, or a name with .png",
        ),
        (["decompress", "photo.rdeic", "-o", "x.rdeic"], ".rdeic pictures cannot be written; use .png"),
        (["compress", "/dev/fd/0"], "/dev/fd/0 has no place for a result beside it: name one with -o"),
    ],
)
def test_what_cannot_be_meant_is_a_usage_error(
    program: Program, picture: Path, arguments: list[str], reason: str
) -> None:
    Path("b.png").write_bytes(picture.read_bytes())
    Path("dangling").symlink_to("gone")
    before = sorted(os.listdir())
    done = program(*arguments)
    assert (done.code, reason in done.err) == (2, True), done.err
    assert sorted(os.listdir()) == before


def test_links_stay_links(program: Program, picture: Path, model: tuple[str, ...]) -> None:
    Path("dangling.rdeic").symlink_to("behind.rdeic")
    assert program("compress", picture, "-o", "dangling.rdeic", *model).code == 0
    assert Path("dangling.rdeic").is_symlink()
    assert rdeic.inspect("behind.rdeic").width == 130
    Path("loop.rdeic").symlink_to("loop.rdeic")
    looped = program("compress", picture, "-o", "loop.rdeic", *model)
    assert (looped.code, looped.failures) == (
        1,
        [f"rdeic: {picture}: loop.rdeic: cannot be written: Too many levels of symbolic links"],
    )


# What is no regular file. A program without a model, so that it starts quickly.

PROGRAM = """
import sys
from rdeic.cli import batch, outputs
from rdeic.cli.inputs import gather, plain
from rdeic.cli.rules import Packing
import typer
app = typer.Typer(add_completion=False)
@app.command()
def run(inputs: list[str], out: str = typer.Option(None, "-o")):
    found = gather(inputs, plain({".png"}))
    target = outputs.Target(out, ".rdeic", False)
    outputs.check(found, target, (".rdeic",))
    batch.run(found, target, Packing(), lambda source: batch.Result(source.data[:4], f"{len(source.data)} read"))
app()
"""
COMMAND = f'"{sys.executable}" -c "$PROGRAM"'


def shell(script: str) -> subprocess.CompletedProcess[bytes]:
    """Runs a line of bash in the current folder; $RUN is the program."""
    environment = os.environ | {"PROGRAM": PROGRAM}
    return subprocess.run(
        ["bash", "-c", script.replace("RUN", COMMAND)],
        capture_output=True,
        check=False,
        env=environment,
        timeout=60,
    )


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """a.png of 10 bytes and b.png, in the current folder."""
    monkeypatch.chdir(tmp_path)
    Path("a.png").write_bytes(b"0123456789")
    Path("b.png").write_bytes(b"abc")


SAID = b"a.png -> %s  10 read\n"


@pytest.mark.parametrize(
    ("script", "out", "err"),
    [
        ("RUN a.png -o - | cat", b"0123", b""),
        ("RUN a.png -o /dev/stdout | cat", b"0123", SAID % b"/dev/stdout"),
        ("RUN a.png -o /dev/fd/1 | cat", b"0123", SAID % b"/dev/fd/1"),
        ("RUN a.png -o /proc/self/fd/1 | cat", b"0123", SAID % b"/proc/self/fd/1"),
        ("ln -s /dev/stdout x; RUN a.png -o x | cat", b"0123", SAID % b"x"),
        ("RUN a.png -o /dev/stdout > x; cat x", b"0123", SAID % b"/dev/stdout"),
        ("echo first > x; RUN a.png -o /dev/stdout >> x; cat x", b"first\n0123", SAID % b"/dev/stdout"),
        ("(RUN a.png -o /dev/fd/3; echo last >&3) 3> x; cat x", b"0123last\n", SAID % b"/dev/fd/3"),
        ("RUN a.png -o /dev/stderr", SAID % b"/dev/stderr", b"0123"),
        ("RUN a.png -o /dev/stdout 2>&1 | cat", b"0123", b""),
        ("RUN a.png -o /dev/null", b"", SAID % b"/dev/null"),
        ("mkfifo x; cat x & RUN a.png -o x; wait", b"0123", SAID % b"x"),
        ("RUN <(cat a.png) -o /dev/stdout 2>/dev/null | cat", b"0123", b""),
        ("RUN a.png -o /dev/fd/9", b"", b"rdeic: a.png: /dev/fd/9: cannot be written: Bad file descriptor\n"),
        ("RUN a.png -o x.rdeic >&-; cat x.rdeic", b"0123", b""),
        (
            "RUN a.png c.png -o x/ 2>/dev/full; echo $?; cat x/a.rdeic",
            b"a.png -> x/a.rdeic  10 read\n1\n0123",
            b"",
        ),
        ("RUN - -o x.rdeic <&-", b"", b"rdeic: <stdin>: is closed\n"),
    ],
)
@pytest.mark.usefixtures("data")
def test_results_arrive_whole_and_remarks_stay_out_of_them(script: str, out: bytes, err: bytes) -> None:
    if "/proc" in script and not Path("/proc/self/fd").is_dir():
        pytest.skip("no /proc")
    done = shell(script)
    assert (done.stdout, done.stderr) == (out, err)


@pytest.mark.usefixtures("data")
def test_a_shells_pipe_gets_the_result() -> None:
    done = shell(
        "RUN a.png -o >(cat > x); for i in $(seq 100); do [ -s x ] && break; sleep 0.05; done; cat x"
    )
    assert done.stdout == b"0123"
    assert done.stderr.endswith(b"  10 read\n")


@pytest.mark.parametrize("out", ["-", "/dev/stdout", "/dev/tty", "terminal"])
@pytest.mark.usefixtures("data")
def test_binary_data_do_not_go_to_a_terminal(out: str) -> None:
    reader, writer = pty.openpty()
    name = os.ttyname(writer)
    command = [sys.executable, "-c", PROGRAM, "a.png", "-o", name if out == "terminal" else out]
    done = subprocess.run(command, stdout=writer, stderr=subprocess.PIPE, check=False)
    os.close(writer)
    os.close(reader)
    if out != "/dev/tty":  # there may be none
        assert (done.returncode, b"binary data does not go to a terminal" in done.stderr) == (2, True)


@pytest.mark.parametrize("script", ["-o - >&-", "- <a.png >&-", "-o x.rdeic 2>&-"])
@pytest.mark.usefixtures("data")
def test_closed_streams_are_one_line_or_none(script: str) -> None:
    """The whole program; it fails before it needs a model, or in the last case on the picture."""
    inputs = "" if script.startswith("- ") else "a.png "
    line = f'"{sys.executable}" -m rdeic compress {inputs}{script}'
    done = subprocess.run(["bash", "-c", line], capture_output=True, check=False)
    said = b"" if "2>&-" in script else b"rdeic: stdout is closed; name an output with -o\n"
    assert (done.returncode, done.stdout, done.stderr) == (1, b"", said)
    assert sorted(os.listdir()) == ["a.png", "b.png"]


def test_pipes_are_read_once_also_for_their_metadata(
    program: Program, picture: Path, model: tuple[str, ...]
) -> None:
    assert program("compress", picture, "--metadata", *model).code == 0
    os.mkfifo("pipe.png")
    content = picture.read_bytes()
    writer = threading.Thread(target=lambda: Path("pipe.png").write_bytes(content))
    writer.start()
    done = program("compress", "pipe.png", "--metadata", "--location", *model)
    writer.join(timeout=10)
    assert done.code == 0
    assert Path("pipe.rdeic").read_bytes() == Path("photo.rdeic").read_bytes()


# Modes and times


def mode(path: str) -> int:
    return stat.S_IMODE(Path(path).stat().st_mode)


def test_results_have_the_mode_of_their_source_and_replaced_files_keep_theirs(
    program: Program, picture: Path, model: tuple[str, ...]
) -> None:
    umask = os.umask(0o022)
    try:
        picture.chmod(0o600)
        assert program("compress", picture, *model).code == 0
        assert mode("photo.rdeic") == 0o600
        Path("photo.rdeic").chmod(0o664)
        assert program("compress", picture, "--force", *model).code == 0
        assert mode("photo.rdeic") == 0o664
        assert program("decompress", "photo.rdeic", "-o", "out/", *model).code == 0
        assert mode("out/photo.png") == 0o664
        picture.chmod(0o4755)
        assert program("compress", picture, "-o", "x.rdeic", *model).code == 0
        assert mode("x.rdeic") == 0o755
        assert program("compress", "-", "-o", "y.rdeic", *model, stdin=picture.read_bytes()).code == 0
        assert mode("y.rdeic") == 0o644
    finally:
        os.umask(umask)


def test_times_are_kept_on_demand(program: Program, picture: Path, model: tuple[str, ...]) -> None:
    taken = 1_000_000_000_123_456_789
    os.utime(picture, ns=(taken, taken))
    assert program("compress", picture, *model).code == 0
    assert Path("photo.rdeic").stat().st_mtime_ns > taken
    assert program("compress", picture, "-o", "out/", "--preserve-times", *model).code == 0
    assert Path("out/photo.rdeic").stat().st_mtime_ns == taken
    assert program("decompress", "out", "--preserve-times", *model).code == 0
    assert Path("out/photo.png").stat().st_mtime_ns == taken

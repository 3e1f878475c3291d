"""Batches that are killed, run out of room, lose their inputs or their reader: every output is whole or absent."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from random import Random

import numpy as np
import pytest
import typer

import rdeic
from rdeic.cli import batch
from rdeic.cli.inputs import Source, gather, plain
from rdeic.cli.journal import JOURNAL_FILE
from rdeic.cli.outputs import Target
from rdeic.cli.rules import Packing
from rdeic.codec.codec import Codec
from rdeic.pictures import images
from support.mounts import run_on
from support.program_runs import without_pace

pytestmark = pytest.mark.skipif(os.name != "posix", reason="signals, pipes and mounts as POSIX has them")

PROGRAM = [sys.executable, "-m", "rdeic"]
SIDE = 64


def make_album(folder: Path, count: int) -> Path:
    """Pictures of noise, some of them in a folder within."""
    random = np.random.default_rng(0)
    (folder / "sub").mkdir(parents=True)
    for i in range(count):
        place = folder / "sub" if i % 4 == 3 else folder
        images.write(random.integers(0, 256, (SIDE, SIDE, 3), np.uint8), place / f"{i:03}.png", "png")
    return folder


def outputs(folder: Path) -> dict[str, bytes]:
    """All that is there and not hidden, by name."""
    found = [path for path in folder.rglob("*") if path.is_file() and not path.name.startswith(".")]
    return {str(path.relative_to(folder)): path.read_bytes() for path in found}


def leftovers(folder: Path) -> list[Path]:
    return [path for path in folder.rglob(".*") if path.is_file() and path.name != JOURNAL_FILE]


def killed_after(command: list[str], lines: int, seconds: float) -> bool:
    """SIGKILL `seconds` after the command said that it had finished `lines` pictures. Whether it was still at work."""
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        for _ in range(lines):
            process.stdout.readline()
        try:
            process.wait(timeout=seconds)
        except subprocess.TimeoutExpired:
            process.kill()
            return True
    return False


def check_killed_batch(
    folder: Path, model: Path, codec: Codec, count: int, moments: list[tuple[int, float]]
) -> str:
    """Kills one batch at each of `moments`, then lets it finish. Says what was there in between."""
    album, out = make_album(folder / "album", count), folder / "out"
    command = [*PROGRAM, "compress", str(album), "-o", str(out), "--model", str(model), "--device", "cpu"]
    before: dict[str, bytes] = {}
    half_written = 0
    for lines, seconds in moments:
        assert killed_after(command, lines, seconds)
        after = outputs(out)
        for name, data in after.items():
            info = rdeic.inspect(data)  # its checksum holds
            assert name.endswith(".rdeic") and (info.width, info.height) == (SIDE, SIDE)
        assert before.items() <= after.items()  # what was finished stays as it is
        before = after
        half_written += len(leftovers(out))
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert (
        without_pace(done.stderr) == f"{count - len(before)} done, {len(before)} finished before, 0 failed\n"
    )
    complete = outputs(out)
    assert len(complete) == count and before.items() <= complete.items()
    assert leftovers(out) == []
    assert all(codec.decompress(data).size == (SIDE, SIDE) for data in complete.values())
    return f"{len(moments)} kills, {len(before)} of {count} finished before the last run, {half_written} half-written"


def test_a_batch_goes_on_after_it_was_killed(tmp_path: Path, tiny_folder: Path, tiny: Codec) -> None:
    check_killed_batch(tmp_path, tiny_folder, tiny, count=12, moments=[(3, 0.005), (2, 0.0)])


@pytest.mark.slow
def test_a_batch_of_200_goes_on_after_50_kills(
    tmp_path: Path, tiny_folder: Path, tiny: Codec, capsys: pytest.CaptureFixture[str]
) -> None:
    """At random moments: most of them among the writes, some while the program starts."""
    random = Random(0)
    # Few pictures and little time to each kill, or a fast machine is done before the last of them.
    writing = [(random.randrange(1, 3), random.uniform(0, 0.015)) for _ in range(42)]
    starting = [(0, random.uniform(0, 0.8)) for _ in range(8)]
    moments = [*writing, *starting]
    random.shuffle(moments)
    summary = check_killed_batch(tmp_path, tiny_folder, tiny, 200, moments)
    with capsys.disabled():
        print(f"\n{summary}")


def test_leftovers_of_a_killed_run_are_no_inputs_and_no_outputs(tmp_path: Path) -> None:
    album = make_album(tmp_path, 2)
    left = album / ".rdeic-0123456789abcdef.tmp"
    left.write_bytes(b"half a file")
    inputs = gather([str(album)], plain({".png"}))
    batch.run(inputs, Target(None, ".rdeic", False), Packing(), lambda source: batch.Result(b"result", ""))
    assert outputs(album).keys() == {"000.png", "001.png", "000.rdeic", "001.rdeic"}
    assert leftovers(album) == []


def test_inputs_and_folders_that_vanish_cost_only_themselves(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    album, out = make_album(tmp_path / "album", 4), tmp_path / "out"

    def work(source: Source) -> batch.Result:
        name = source.item.relative.name
        if name == "000.png":
            (album / "001.png").unlink()
        if name == "002.png":
            for path in out.iterdir():
                path.unlink()
            out.rmdir()
        return batch.Result(source.data, "")

    inputs = gather([str(album)], plain({".png"}))
    with pytest.raises(typer.Exit) as exit_:
        batch.run(inputs, Target(str(out), ".rdeic", False), Packing(), work)
    assert exit_.value.exit_code == 1
    assert without_pace(capsys.readouterr().err).splitlines() == [
        f"rdeic: {album}/001.png: cannot be read: No such file or directory",
        f"3 done, 0 finished before, 1 failed: {album}/001.png",
    ]
    assert outputs(out).keys() == {"002.rdeic", "sub/003.rdeic"}


# A batch without a model.
BATCH = """
import sys, typer
from rdeic.cli import batch
from rdeic.cli.inputs import gather, plain
from rdeic.cli.outputs import Target
from rdeic.cli.rules import Packing
app = typer.Typer()
@app.command()
def run(inputs: str, out: str, size: int):
    found = gather([inputs], plain({".png"}))
    batch.run(found, Target(out, ".rdeic", False), Packing(), lambda source: batch.Result(bytes(size), ""))
app()
"""


@pytest.mark.parametrize(
    ("options", "names", "reason"),
    [
        ("size=20k", ["000.rdeic", "001.rdeic"], "No space left on device"),  # the journal has 4k of it
        ("ro", [], "Read-only file system"),
    ],
)
def test_a_full_or_read_only_disk_ends_the_batch_with_one_line(
    tmp_path: Path, options: str, names: list[str], reason: str
) -> None:
    album, out = make_album(tmp_path / "album", 6), tmp_path / "out"
    out.mkdir()
    done = run_on(options, out, [sys.executable, "-c", BATCH, str(album), str(out), "5000"])
    assert (done.code, [name for name in done.names if name != JOURNAL_FILE]) == (1, names)
    count = len(names)
    failed = f"{album}/00{count}.png"
    assert [line for line in done.err[count:] if "a second" not in line] == [
        f"rdeic: {failed}: {out}/00{count}.rdeic: cannot be written: {reason}",
        f"{count} done, 0 finished before, 1 failed: {failed}; {5 - count} not tried: make room and start again",
    ]


# stdout. The results are smaller than a pipe's buffer, so what nobody reads must be closed from the beginning.


@pytest.fixture
def unread() -> int:
    """A pipe whose reader has gone, for writing."""
    reader, writer = os.pipe()
    os.close(reader)
    return writer


def test_a_result_that_nobody_reads_ends_quietly(tmp_path: Path, tiny_folder: Path, unread: int) -> None:
    picture = (make_album(tmp_path, 1) / "000.png").read_bytes()
    command = [*PROGRAM, "compress", "-", "--model", str(tiny_folder), "--device", "cpu"]
    done = subprocess.run(command, input=picture, stdout=unread, stderr=subprocess.PIPE, check=False)
    os.close(unread)
    assert (done.returncode, done.stderr) == (1, b"")


def test_a_list_that_nobody_reads_ends_the_batch_quietly(tmp_path: Path, unread: int) -> None:
    album, out = make_album(tmp_path / "album", 3), tmp_path / "out"
    command = [sys.executable, "-c", BATCH, str(album), str(out), "6"]
    done = subprocess.run(command, stdout=unread, stderr=subprocess.PIPE, check=False)
    os.close(unread)
    assert (done.returncode, done.stderr) == (1, b"")
    assert outputs(out) == {"000.rdeic": bytes(6)}


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
@pytest.mark.parametrize("out", ["-", "folder"])
def test_a_full_stdout_is_one_line(tmp_path: Path, out: str) -> None:
    picture = make_album(tmp_path, 1) / "000.png"
    (tmp_path / "folder").mkdir()
    target = out if out == "-" else str(tmp_path / out)
    command = [sys.executable, "-c", BATCH, str(picture), target, "6"]
    with Path("/dev/full").open("wb") as full:
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    assert done.returncode == 1
    said = f"rdeic: {picture}: stdout: cannot be written: No space left on device\n"
    assert done.stderr == (said if out == "-" else f"{said}0 done, 0 finished before, 1 failed: {picture}\n")

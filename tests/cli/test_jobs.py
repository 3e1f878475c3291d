"""--jobs and --threads: the same results in the same order, only sooner."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
import torch
import typer

from rdeic.cli import batch
from rdeic.cli.inputs import Source, gather, plain
from rdeic.cli.lanes import Lanes
from rdeic.cli.outputs import Target
from rdeic.cli.rules import Packing
from rdeic.errors import ConfigError, ImageError
from rdeic.pictures import images
from rdeic.system import threads
from support.program_runs import Program, model, picture, program, without_pace

__all__ = ["model", "picture", "program"]  # fixtures


@pytest.fixture
def album(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Eight pictures."""
    monkeypatch.chdir(tmp_path)
    Path("album").mkdir()
    random = np.random.default_rng(0)
    for i in range(8):
        images.write(random.integers(0, 256, (64, 64, 3), np.uint8), Path(f"album/{i}.png"), "png")
    return Path("album")


@pytest.fixture(autouse=True)
def torch_as_before() -> object:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def run(work: batch.Work, jobs: int, *, force: bool = False) -> None:
    inputs = gather(["album"], plain({".png"}))
    batch.run(inputs, Target("out", ".rdeic", force), Packing(), work, jobs)


def test_several_at_a_time_give_what_one_gives(program: Program, album: Path, model: tuple[str, ...]) -> None:
    (album / "3.png").write_bytes(b"no picture")
    one = program("compress", album, "-o", "one", *model)
    three = program("compress", album, "-o", "three", *model, "--jobs", "3", "--threads", "1")
    assert (one.code, three.code) == (1, 1)
    assert three.out.decode() == one.out.decode().replace(" one/", " three/")
    assert three.err == one.err
    for name in (f"{i}.rdeic" for i in range(8) if i != 3):
        assert Path("one", name).read_bytes() == Path("three", name).read_bytes()
    restored = program("decompress", "three", *model, "-j", "2")
    assert (restored.code, restored.err) == (0, "7 done, 0 finished before, 0 failed\n")


def test_as_many_work_at_a_time_as_were_asked_for(album: Path) -> None:
    """Each waits for two others: fewer at a time would wait until the barrier breaks, more would be counted."""
    barrier = threading.Barrier(3, timeout=20)
    at_work = most = 0
    counting = threading.Lock()
    (album / "7.png").unlink()
    (album / "6.png").unlink()

    def work(source: Source) -> batch.Result:
        nonlocal at_work, most
        with counting:
            at_work += 1
            most = max(most, at_work)
        barrier.wait()
        with counting:
            at_work -= 1
        return batch.Result(source.data, "")

    run(work, jobs=3)
    assert most == 3
    assert len(list(Path("out").glob("*.rdeic"))) == 6


def test_one_at_a_time_works_in_the_order_of_the_names(album: Path) -> None:
    seen: list[str] = []

    def work(source: Source) -> batch.Result:
        assert len(list(Path("out").glob("*.rdeic"))) == len(seen)  # the one before is written
        seen.append(source.item.relative.name)
        return batch.Result(b"", "")

    run(work, jobs=1)
    assert seen == [f"{i}.png" for i in range(8)]


@pytest.mark.parametrize("jobs", [1, 3])
def test_what_would_befall_every_picture_ends_the_run(album: Path, jobs: int) -> None:
    def work(source: Source) -> batch.Result:
        raise ConfigError("no such model")

    with pytest.raises(ConfigError, match="no such model"):
        run(work, jobs)
    assert not Path("out").exists()


def test_failures_cost_only_themselves(album: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def work(source: Source) -> batch.Result:
        if source.item.relative.stem in "25":
            raise ImageError("unreadable")
        return batch.Result(source.data, "")

    with pytest.raises(typer.Exit):
        run(work, jobs=3)
    assert without_pace(capsys.readouterr().err).splitlines() == [
        "rdeic: album/2.png: unreadable",
        "rdeic: album/5.png: unreadable",
        "6 done, 0 finished before, 2 failed: album/2.png, album/5.png",
    ]


PACED = """
from rdeic.cli import batch
from rdeic.cli.inputs import gather, plain
from rdeic.cli.outputs import Target
from rdeic.cli.rules import Packing

def work(source):
    return batch.Result(source.data, "", 1_000_000)

batch.run(gather(["album"], plain({".png"})), Target("out/", ".rdeic", False), Packing(), work)
"""

WAITS = """
import sys, threading
from rdeic.cli import batch
from rdeic.cli.inputs import gather, plain
from rdeic.cli.outputs import Target
from rdeic.cli.rules import Packing

def work(source):
    print("at work", flush=True)
    threading.Event().wait()

batch.run(gather(["album"], plain({".png"})), Target("out/", ".rdeic", False), Packing(), work, jobs=2)
"""


@pytest.mark.skipif(os.name != "posix", reason="signals as POSIX has them")
def test_ctrl_c_does_not_wait_for_pictures_under_way(album: Path) -> None:
    def heed() -> None:  # a shell that runs the tests in the background has it ignored
        signal.signal(signal.SIGINT, signal.default_int_handler)

    command = [sys.executable, "-c", WAITS]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, preexec_fn=heed
    ) as waiting:
        assert waiting.stdout is not None
        assert [waiting.stdout.readline() for _ in range(2)] == [b"at work\n"] * 2
        waiting.send_signal(signal.SIGINT)
        _, err = waiting.communicate(timeout=20)
    assert (waiting.returncode, err) == (130, b"")


def test_threads_are_shared_among_jobs() -> None:
    torch.set_num_threads(4)

    def inside(lanes: Lanes, needed: int = 0) -> int:
        def enter() -> None:
            with lanes.lane(needed):
                found.append(torch.get_num_threads())

        found: list[int] = []
        worker = threading.Thread(target=enter)
        worker.start()
        worker.join()
        return found[0]

    assert inside(Lanes(jobs=1, threads_each=None)) == 4
    two = Lanes(jobs=2, threads_each=None, room=100)
    assert [inside(two), inside(two, needed=50)] == [2, 2]
    assert inside(two, needed=51) == 4  # two such pictures find no room
    torch.set_num_threads(4)
    assert inside(Lanes(jobs=8, threads_each=None)) == 1
    assert inside(Lanes(jobs=1, threads_each=3)) == 3


def test_a_picture_waits_until_there_is_memory_for_it() -> None:
    """The second finds room beside the first, the third only when both are done; one too large works alone."""
    lanes, events, first_done = Lanes(jobs=4, threads_each=1, room=100), [], threading.Event()
    inside = {name: threading.Event() for name in ("a", "b", "c", "huge")}

    def work(name: str, needed: int, until: threading.Event | None) -> None:
        with lanes.lane(needed):
            events.append(name)
            inside[name].set()
            if until is not None:
                assert until.wait(20)
            events.append(f"{name} done")

    def start(name: str, needed: int, until: threading.Event | None = None) -> threading.Thread:
        worker = threading.Thread(target=work, args=(name, needed, until))
        worker.start()
        return worker

    a = start("a", 60, first_done)
    assert inside["a"].wait(20)
    b = start("b", 40)
    b.join(20)
    waiting = [start("c", 41), start("huge", 1000)]
    first_done.set()
    for worker in (a, *waiting):
        worker.join(20)
    assert events[:4] == ["a", "b", "b done", "a done"]
    assert sorted(events[4:6]) in (["c", "c done"], ["huge", "huge done"])
    assert len(events) == 8


@pytest.mark.parametrize(
    ("pictures", "each", "omp", "jobs"),
    [
        (100, None, "4", 4),
        (3, None, "4", 3),
        (1, None, "4", 1),
        (100, 2, "4", 2),
        (100, 9, "4", 1),
        (100, None, "64", threads.MOST_JOBS),
        (100, None, "6,2", 6),
        (100, None, "", min(threads.cores(), threads.MOST_JOBS)),
    ],
)
def test_a_batch_keeps_every_core_busy(
    monkeypatch: pytest.MonkeyPatch, pictures: int, each: int | None, omp: str, jobs: int
) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", omp)
    assert threads.jobs(pictures, each) == jobs


def test_a_batch_says_how_fast_it_was(program: Program, album: Path, model: tuple[str, ...]) -> None:
    (album / "3.png").write_bytes(b"no picture")
    done = program("compress", album, "-o", "out", *model)
    assert done.pace.startswith("7 pictures of 0.0 megapixels in ")
    words = done.pace.split()
    seconds, pictures = float(words[6]), float(words[8])
    assert pictures * seconds == pytest.approx(7, abs=0.06 * pictures + 0.01)  # as rounded
    assert program("compress", album / "0.png", "-o", "one.rdeic", *model).pace == ""


@pytest.mark.skipif(sys.platform == "win32", reason="terminals as POSIX has them")
def test_a_terminal_sees_the_pace_while_a_batch_runs(album: Path) -> None:
    import pty

    ours, terminal = pty.openpty()
    command = [sys.executable, "-c", PACED]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=terminal) as process:
        os.close(terminal)
        seen = b""
        with contextlib.suppress(OSError):  # the terminal's end
            while part := os.read(ours, 4096):
                seen += part
        os.close(ours)
    assert process.returncode == 0
    assert b"8/8" in seen and re.search(rb"[0-9.]+ pictures/s, [0-9.]+ MP/s", seen)


@pytest.mark.parametrize("option", [["--jobs", "0"], ["--threads", "0"], ["--jobs", "many"]])
def test_nonsense_is_a_usage_error(program: Program, picture: Path, option: list[str]) -> None:
    assert program("compress", picture, *option).code == 2

"""Processes that hang, crash or raise cost their own task and nothing else."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from rdeic.evaluation import pool
from rdeic.evaluation.pool import Failure, Outcome

PATIENCE = 600.0  # seconds; far more than anything here takes


def start() -> Callable[[str], str]:
    return _work


def _work(task: str) -> str:
    if task == "raise":
        raise ValueError("two\nlines")
    if task == "crash":
        os.kill(os.getpid(), signal.SIGSEGV)
    if task == "exit":
        os._exit(3)
    if task.startswith("hang"):
        # Its child holds on to everything it inherits: both must go.
        child = subprocess.Popen([sys.executable, "-S", "-c", "import threading; threading.Event().wait()"])
        Path(task.partition(" ")[2]).write_text(str(child.pid))
        threading.Event().wait()
    return f"{task} done by {os.getpid()}"


def limit(task: str) -> float:
    return 4.0 if task.startswith("hang") else PATIENCE


def outcomes(tasks: list[str], jobs: int) -> dict[str, str | Failure]:
    return {one.task: one.result for one in pool.run(start, tasks, jobs, limit)}


def gone(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return True
    return state == "Z"


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="looks for processes in /proc")
def test_a_task_fails_alone(tmp_path: Path) -> None:
    hang = f"hang {tmp_path / 'pid'}"
    # One after the other: what hangs finds its process running, and has its time for itself.
    found = outcomes(["a", hang, "raise", "crash", "exit", "b"], jobs=1)
    assert found["raise"] == Failure("ValueError: two lines")
    assert found["crash"] == Failure("crashed (SIGSEGV)")
    assert found["exit"] == Failure("crashed (exit status 3)")
    assert found[hang] == Failure("not done within 4 s")
    assert all(str(found[task]).startswith(f"{task} done") for task in "ab")
    assert gone(int((tmp_path / "pid").read_text()))


def test_one_process_does_task_after_task() -> None:
    found = outcomes(["a", "b", "c"], jobs=1)
    assert list(found) == ["a", "b", "c"]
    assert len({str(result).rpartition(" ")[2] for result in found.values()}) == 1


def test_a_start_that_fails_is_told_of_every_task() -> None:
    found = list(pool.run(broken_start, ["a", "b"], 1, limit))
    assert found == [Outcome(task, Failure("RuntimeError: no weights")) for task in ("a", "b")]


def broken_start() -> Callable[[str], str]:
    raise RuntimeError("no weights")


def test_leaving_early_ends_the_processes() -> None:
    running = pool.run(start, ["a", "b"], 1, limit)
    pid = int(str(next(running).result).rpartition(" ")[2])
    running.close()
    assert gone(pid)
    assert list(pool.run(start, [], 2, limit)) == []

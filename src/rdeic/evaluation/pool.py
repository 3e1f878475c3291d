"""Work in processes that may hang or crash: a task that does either fails alone, and its process is replaced."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from multiprocessing import connection
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from typing import Generic, NamedTuple, TypeVar

Task = TypeVar("Task")
Result = TypeVar("Result")


class Failure(NamedTuple):
    """Why there is no result."""

    reason: str  # one line


class Outcome(NamedTuple, Generic[Task, Result]):
    """What became of a task."""

    task: Task
    result: Result | Failure


class _Worker(NamedTuple):
    process: BaseProcess
    pipe: Connection


class _Running(NamedTuple, Generic[Task]):
    worker: _Worker
    task: Task
    deadline: float  # of time.monotonic


def run(
    start: Callable[[], Callable[[Task], Result]],
    tasks: Sequence[Task],
    jobs: int,
    limit: Callable[[Task], float],
) -> Iterator[Outcome[Task, Result]]:
    """What became of each task, in the order they end.

    Each of `jobs` processes calls `start` once and what that returns for every task; both, and tasks and results, must
    be picklable. A task has `limit` seconds. An exception, a crash and a task out of time are a Failure. Leaving the
    iteration early ends the processes and whatever they started.
    """
    waiting = list(reversed(tasks))
    idle: list[_Worker] = []
    running: list[_Running[Task]] = []
    try:
        while waiting or running:
            while waiting and len(running) < jobs:
                task = waiting.pop()
                worker = idle.pop() if idle else _spawn(start)
                # Counted from here, so that a process that hangs while it starts is noticed too.
                running.append(_Running(worker, task, time.monotonic() + limit(task)))
                with contextlib.suppress(OSError):  # of a process that died while idle: seen as a crash below
                    worker.pipe.send(task)
            ready = connection.wait([one.worker.pipe for one in running], _remaining(running))
            for one in list(running):
                if one.worker.pipe in ready:
                    result, alive = _receive(one.worker)
                elif time.monotonic() >= one.deadline:
                    result, alive = Failure(f"not done within {limit(one.task):g} s"), False
                else:
                    continue
                running.remove(one)
                if alive:
                    idle.append(one.worker)
                else:
                    _end(one.worker)
                yield Outcome(one.task, result)
    finally:
        for worker in [*idle, *(one.worker for one in running)]:
            _end(worker)


def _remaining(running: Sequence[_Running[Task]]) -> float:
    return max(0.0, min(one.deadline for one in running) - time.monotonic())


def _spawn(start: Callable[[], Callable[[Task], Result]]) -> _Worker:
    # Not forked: torch's threads do not survive that.
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=_serve, args=(theirs, start), daemon=True)
    process.start()
    theirs.close()
    return _Worker(process, ours)


def _receive(worker: _Worker) -> tuple[Result | Failure, bool]:
    """The result, and whether the process lives on."""
    try:
        return worker.pipe.recv(), True
    except (EOFError, OSError):
        worker.process.join()
        code = worker.process.exitcode or 0
        name = signal.Signals(-code).name if code < 0 else f"exit status {code}"
        return Failure(f"crashed ({name})"), False


def _end(worker: _Worker) -> None:
    """Kills the process and what it started."""
    worker.pipe.close()
    if worker.process.pid is not None and hasattr(os, "killpg"):
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(worker.process.pid, signal.SIGKILL)
    worker.process.kill()
    worker.process.join()


def _serve(pipe: Connection, start: Callable[[], Callable[[Task], Result]]) -> None:
    if hasattr(os, "setsid"):
        os.setsid()  # a group of its own, to be killed with all that it starts, and deaf to Ctrl-C
    work: Callable[[Task], Result] | None = None
    while True:
        try:
            task = pipe.recv()
        except (EOFError, OSError):  # the one that gives out work is gone
            return
        try:
            work = work or start()
            result: Result | Failure = work(task)
        except Exception as error:
            result = Failure(explain(error))
        try:
            pipe.send(result)
        except OSError:  # as above
            return


def explain(error: Exception) -> str:
    """An exception in one line."""
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text}" if text else type(error).__name__

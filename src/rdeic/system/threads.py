"""How many threads torch computes in, and how many pictures are worked on at a time."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator

MOST_JOBS = 8  # pictures at a time; with more, their Python would wait for each other
_TURNS = "10000"  # some microseconds; without a word libgomp takes 30 times as many


def cores() -> int:
    """Number of processor cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def jobs(pictures: int, threads: int | None = None) -> int:
    """How many of so many pictures to work at at a time, in `threads` each, so that no core is idle.

    One thread each is best: networks share a picture among threads only in part, and its files and bits not at all.
    """
    there = os.environ.get("OMP_NUM_THREADS", "").partition(",")[0]
    wanted = int(there) if there.isdigit() and int(there) else cores()
    return max(1, min(pictures, wanted // (threads or 1), MOST_JOBS))


def wait_briefly() -> None:
    """Lets torch's threads soon give their core away when they wait for each other; to be called before torch comes.

    Every layer ends with such a wait. A thread that turns on the spot for long keeps from its core the very thread that
    it waits for, if other programs want cores too. What the environment says of it already, stays.
    """
    if not {"GOMP_SPINCOUNT", "OMP_WAIT_POLICY"} & os.environ.keys():
        os.environ["GOMP_SPINCOUNT"] = _TURNS


def used() -> int:
    """Number of threads that torch computes in, in this thread."""
    import torch

    return torch.get_num_threads()


def use(count: int) -> None:
    """Lets torch compute in `count` threads for the one that calls, and for those that begin later."""
    import torch

    if torch.get_num_threads() != count:
        torch.set_num_threads(count)


@contextlib.contextmanager
def using(count: int) -> Iterator[None]:
    """`use` until the end of the `with` block."""
    before = used()
    use(count)
    try:
        yield
    finally:
        use(before)

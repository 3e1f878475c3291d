"""Several pictures at a time: each waits until there is memory for it, and computes in its share of the threads."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator

from rdeic.system import memory, threads

_UNKNOWN = 1 << 62
_SHARE = 0.8  # of the memory that is free when the first picture comes


class Lanes:
    """Worker threads go through `lane` with every picture."""

    def __init__(self, jobs: int, threads_each: int | None, room: int | None = None) -> None:
        """`room` in bytes for all pictures together; None: most of what is free. Threads: see `lane`."""
        self.jobs = jobs
        self._threads_each, self._room = threads_each, room
        self._threads = 0  # of torch before any lane; 0: not known yet
        self._taken = 0  # bytes
        self._changed = threading.Condition()

    @contextlib.contextmanager
    def lane(self, needed: int) -> Iterator[None]:
        """While a picture is worked at that takes `needed` bytes, which it waits for; alone, none waits.

        It computes in its share of torch's threads: as many share them as work at a time, or as the memory has room
        for where that is fewer. A single one that asks for nothing gets what torch chose, which heeds OMP_NUM_THREADS.
        """
        if self.jobs == 1 and self._threads_each is None:
            yield
            return
        with self._changed:
            room, there = self._there()
            self._changed.wait_for(lambda: not self._taken or self._taken + needed <= room)
            self._taken += needed
        try:
            together = max(1, min(self.jobs, room // max(needed, 1)))
            threads.use(self._threads_each or max(1, there // together))
            yield
        finally:
            with self._changed:
                self._taken -= needed
                self._changed.notify_all()

    def _there(self) -> tuple[int, int]:
        """Bytes and threads to share out."""
        if self._room is None:
            free = memory.free()
            self._room = _UNKNOWN if free is None else int(_SHARE * free)
        self._threads = self._threads or threads.used()
        return self._room, self._threads

"""Which requests are let in, whose turn it is, and which are not wanted any more.

A request takes a place before its body is read, so that bodies in memory have a limit; then it waits for its turn; then
its work runs in one of a few threads. A client that hangs up loses its place: at once while waiting, and as soon as the
network's next layer would begin while working.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from starlette.requests import Request

from rdeic.serve import body, interrupt
from rdeic.serve.interrupt import UnwantedError
from rdeic.serve.metrics import Meters
from rdeic.serve.problems import Problem
from rdeic.serve.settings import Limits
from rdeic.system import threads

T = TypeVar("T")
_MEMORY = 0.8  # of what was known of the pace, when another measurement comes


class ClientGoneError(Exception):
    """The client hung up, so nobody takes the answer."""


class Ticket:
    """One request on its way. The event loop writes it; the thread that works reads `check` and sets `pixels`."""

    def __init__(self, operation: str, work_seconds: float) -> None:
        self.operation, self.pixels = operation, 0  # 0: not known yet
        self.entered, self.began = time.monotonic(), 0.0
        self._seconds, self._unwanted = work_seconds, threading.Event()

    def begin(self) -> None:
        """Records that its turn has come."""
        self.began = time.monotonic()

    @property
    def seconds(self) -> float:
        """How long it has been at work; before its turn, how long it has waited."""
        return time.monotonic() - (self.began or self.entered)

    def drop(self) -> None:
        """Marks it as not wanted any more; `check` then raises."""
        self._unwanted.set()

    def check(self) -> None:
        """Raises UnwantedError if the client is gone, a Problem if the time is over."""
        if self._unwanted.is_set():
            raise UnwantedError
        if time.monotonic() - self.began > self._seconds:
            detail = f"it would take more than {self._seconds:g} s; send a smaller picture"
            raise Problem("too-long", detail, self._seconds)


class Pace:
    """How long requests take on this machine, learnt from those that were served."""

    def __init__(self) -> None:
        self._by_pixel: dict[str, float] = {}  # seconds, by operation
        self._any = 1.0  # seconds of a request, whatever it is

    def learn(self, ticket: Ticket, seconds: float) -> None:
        """Takes the duration of a finished request into the averages."""
        self._any = _MEMORY * self._any + (1 - _MEMORY) * seconds
        if ticket.pixels:
            found = seconds / ticket.pixels
            before = self._by_pixel.get(ticket.operation, found)
            self._by_pixel[ticket.operation] = _MEMORY * before + (1 - _MEMORY) * found

    def expected(self, ticket: Ticket) -> float:
        """Seconds that a request will take: by its pixels where they are known, else as requests do on average."""
        by_pixel = self._by_pixel.get(ticket.operation)
        return by_pixel * ticket.pixels if by_pixel and ticket.pixels else self._any


class Desk:
    """All requests that are let in, in the order in which they came."""

    def __init__(self, limits: Limits, meters: Meters, threads_each: int | None) -> None:
        self.limits, self.pace = limits, Pace()
        self._meters, self._tickets = meters, dict[Ticket, str]()
        self._turns = asyncio.Semaphore(limits.working)  # in order of arrival

        def prepare() -> None:  # torch keeps the number of threads for each thread
            threads.use(threads_each or max(1, threads.used() // limits.working))

        self._pool = ThreadPoolExecutor(limits.working, "rdeic", prepare)
        meters.watch(lambda: self._count(working=False), lambda: self._count(working=True))

    @contextlib.contextmanager
    def place(self, operation: str, name: str) -> Iterator[Ticket]:
        """A place for a request, which calls itself `name` or "". Raises a Problem if all are taken."""
        if len(self._tickets) >= self.limits.working + self.limits.waiting:
            raise Problem("queue-full", f"{self.limits.waiting} requests are waiting", self.wait())
        ticket = Ticket(operation, self.limits.work_seconds)
        self._tickets[ticket] = name
        try:
            yield ticket
        finally:
            if not ticket.began:  # or else the thread gives the place back
                del self._tickets[ticket]

    def find(self, name: str) -> Ticket | None:
        """The request that calls itself `name`, if it has a place."""
        return next((ticket for ticket, known in self._tickets.items() if known == name), None)

    def ahead(self, ticket: Ticket) -> int:
        """How many requests came before it and still have a place."""
        return list(self._tickets).index(ticket)

    def wait(self) -> float:
        """Seconds until about all that are here are done."""
        return sum(map(self.pace.expected, self._tickets)) / self.limits.working

    async def work(self, request: Request, ticket: Ticket, work: Callable[[], T]) -> T:
        """What `work` gives, in a thread, when the ticket's turn comes; the request's body must have been read.

        Raises what it raises, a Problem if it takes too long, ClientGoneError if nobody waits for it any more.
        """
        turn = asyncio.create_task(self._turn(ticket, work))
        leaving = asyncio.create_task(body.gone(request))
        turn.add_done_callback(
            lambda done: done.cancelled() or done.exception()
        )  # seen, also if nobody waits
        try:
            await asyncio.wait({turn, leaving}, return_when=asyncio.FIRST_COMPLETED)
            if not turn.done():
                raise ClientGoneError
            return turn.result()
        finally:
            leaving.cancel()
            ticket.drop()
            if not ticket.began:
                turn.cancel()

    async def _turn(self, ticket: Ticket, work: Callable[[], T]) -> T:
        try:
            async with asyncio.timeout(self.limits.wait_seconds):
                await self._turns.acquire()
        except TimeoutError as error:
            detail = f"no turn within {self.limits.wait_seconds:g} s"
            raise Problem("busy", detail, self.wait()) from error
        ticket.begin()
        try:
            return await asyncio.get_running_loop().run_in_executor(self._pool, self._run, ticket, work)
        finally:
            self._turns.release()
            del self._tickets[ticket]
            self._meters.worked(
                ticket.operation, ticket.began - ticket.entered, time.monotonic() - ticket.began
            )

    def _run(self, ticket: Ticket, work: Callable[[], T]) -> T:
        with interrupt.watched(ticket.check):
            interrupt.check()
            result = work()
        self.pace.learn(ticket, time.monotonic() - ticket.began)
        return result

    async def prepare(self, work: Callable[[], None]) -> None:
        """Does `work` in one of the threads, before any request is let in."""
        await asyncio.get_running_loop().run_in_executor(self._pool, work)

    def _count(self, working: bool) -> int:
        return sum(bool(ticket.began) == working for ticket in list(self._tickets))

    def close(self) -> None:
        """Waits for the work under way and ends the threads."""
        self._pool.shutdown(wait=True)

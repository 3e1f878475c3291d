"""Many inputs: what is done for each, several at a time, and what happens when one fails.

Each result is there completely or not at all, so a batch that was killed goes on when it is started again: what is
there, and was made from the same picture (`rules`), is finished.
"""

from __future__ import annotations

import contextlib
import os
import stat
import sys
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

import typer

from rdeic.cli.console import explain, fail, progress, say, tell
from rdeic.cli.inputs import Inputs, Item, Source, left_out
from rdeic.cli.journal import digest
from rdeic.cli.outputs import Target, is_direct
from rdeic.cli.pace import Pace
from rdeic.cli.rules import Rules
from rdeic.cli.status import INTERRUPTED, NO_ROOM
from rdeic.cli.writing import beside, identity, occupied, to_stdout, writing
from rdeic.errors import CheckpointError, ConfigError, ImageError, RdeicError
from rdeic.system import files

_MODE = 0o777  # never set-user-ID and its like


class Result(NamedTuple):
    """What `work` made of one input."""

    data: bytes
    remark: str
    pixels: int = 0  # of the picture, for the pace


Work: TypeAlias = Callable[[Source], Result]


def run(inputs: Inputs, target: Target, rules: Rules, work: Work, jobs: int = 1) -> None:
    """Does `work` for each item, `jobs` of them at a time; a failure does not stop the others.

    Inputs are read and results written one after the other, in order; only `work` runs in threads.

    Raises typer.Exit(1) if one failed; ConfigError and CheckpointError, which would befall every item, at once, and
    BrokenPipeError when nobody reads stdout any more. A full or read-only output disk ends the run, too.
    """
    for line in [*inputs.missing, *inputs.left_out]:
        fail(line)
    into_folder = target.into_folder(inputs.batch)
    if into_folder:
        places = (target.place(item, inputs.batch) for item in inputs.items)
        for folder in {place.parent for place in places if place is not None}:
            files.sweep(folder)
    pool: Executor = _Now() if jobs == 1 else ThreadPoolExecutor(jobs)
    batch = _Batch(inputs, target, rules, work, pool)
    try:
        with progress(len(inputs.items)) as advance, contextlib.suppress(_NoRoomError):
            batch.run(advance, ahead=0 if jobs == 1 else 2 * jobs)
    except KeyboardInterrupt:
        if (
            jobs > 1
        ):  # or Python would wait until each has finished its picture; results are written in this thread
            os._exit(INTERRUPTED)
        raise
    finally:
        pool.shutdown(wait=False, cancel_futures=True)
    if into_folder:
        batch.summarise()
    if batch.failed or inputs.missing:
        raise typer.Exit(1)


class _NoRoomError(Exception):
    """Ends a run."""


class _Now(Executor):
    """Does at once what it is given."""

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        future: Future[Any] = Future()
        try:
            future.set_result(fn(*args, **kwargs))
        except Exception as error:
            future.set_exception(error)
        return future


class _Claim(NamedTuple):
    """An output, taken by the first input that goes there."""

    name: str
    digest: str  # of the input


class _Job(NamedTuple):
    """Under way."""

    source: Source
    place: Path | None
    future: Future[Result]


class _Batch:
    """A run and what came of it so far."""

    def __init__(self, inputs: Inputs, target: Target, rules: Rules, work: Work, pool: Executor) -> None:
        self.failed: list[str] = []
        self._finished = 0
        self._pace = Pace()
        self._left_out = len(inputs.left_out)
        self._inputs, self._target, self._rules, self._work, self._pool = inputs, target, rules, work, pool
        self._into_folder = target.into_folder(inputs.batch)
        self._claims: dict[str, _Claim] = {}  # by output
        self._written: set[tuple[int, int]] = set()  # device and inode of each output

    def run(self, advance: Callable[[str], None], ahead: int) -> None:
        """Everything, with at most `ahead` items begun before the one that is to be written next."""
        under_way: deque[_Job] = deque()

        def settle() -> None:
            job = under_way.popleft()
            with self._reported(job.source.item):
                self._settle(job)
            advance(self._pace.rates())

        for item in self._inputs.items:
            place = self._target.place(item, self._inputs.batch)
            while place is not None and any(job.place == place for job in under_way):
                settle()  # for if it fails, another may have its place
            job = None
            with self._reported(item):
                job = self._start(item)
            if job is None:
                advance(self._pace.rates())
            else:
                under_way.append(job)
            while len(under_way) > ahead:
                settle()
        while under_way:
            settle()

    def summarise(self) -> None:
        """What was done how fast, and then what became of every input: a line each, on stderr."""
        if self._pace.pictures > 1:
            tell(self._pace.summary())
        items, failed, done = len(self._inputs.items), len(self.failed), self._pace.pictures
        untried = items + len(self._inputs.left_out) - done - self._finished - self._left_out - failed
        parts = [f"{done} done", f"{self._finished} finished before"]
        parts += [f"{self._left_out} left out"] if self._left_out else []
        parts.append(f"{failed} failed" + (f": {', '.join(self.failed)}" if failed else ""))
        rest = f"; {untried} not tried: make room and start again" if untried else ""
        tell(", ".join(parts) + rest)

    @contextlib.contextmanager
    def _reported(self, item: Item) -> Iterator[None]:
        """Turns a failure into a line. Raises _NoRoomError after one that leaves no hope for the others."""
        try:
            yield
        except (ConfigError, CheckpointError, BrokenPipeError):
            raise
        except Exception as error:
            if os.environ.get("RDEIC_DEBUG") == "1" and not isinstance(error, RdeicError | OSError):
                raise
            text = explain(error)
            fail(text if item.name in text else f"{item.name}: {text}")
            self.failed.append(item.name)
            cause = error.__cause__
            if self._target.out is not None and isinstance(cause, OSError) and cause.errno in NO_ROOM:
                raise _NoRoomError from error

    def _start(self, item: Item) -> _Job | None:
        """Begins the work; None if there is none to do."""
        place = self._target.place(item, self._inputs.batch)
        if place is None or is_direct(place):
            source = item.read()
            return _Job(source, place, self._pool.submit(self._work, source))
        there = occupied(place, item)
        passing = there and self._into_folder and not self._target.force
        if passing and (known := self._rules.known(place, item)) is not None:
            self._claims.setdefault(os.path.abspath(place), _Claim(item.name, known))
            self._finished += 1
            return None
        source = item.read()
        if self._inputs.batch and (reason := self._rules.unwanted(source)):
            self._leave_out(item, reason)
            return None
        if not self._claimed(place, source):
            return None
        try:
            if there and not self._target.force and not self._into_folder:
                self._require_ours(place)
            elif passing and self._rules.finished(place, source, None):
                self._finished += 1
                return None
        except ImageError:
            del self._claims[os.path.abspath(place)]
            raise
        return _Job(source, place, self._pool.submit(self._work, source))

    def _claimed(self, place: Path, source: Source) -> bool:
        """Whether the output is this input's; if not, the input is left out. Raises ImageError if that loses it."""
        claim = _Claim(source.item.name, digest(source.data))
        first = self._claims.setdefault(os.path.abspath(place), claim)
        if first is claim:
            return True
        if first.digest == claim.digest:
            self._leave_out(source.item, f"the same content as {first.name}")
            return False
        raise ImageError(f"{claim.name}: would go to {place}, as {first.name} does; rename one of them")

    def _leave_out(self, item: Item, reason: str) -> None:
        fail(left_out(item.name, reason))
        self._left_out += 1

    def _require_ours(self, place: Path) -> None:
        """An output that is there already, and the only one. Raises ImageError if it must not be replaced."""
        if self._target.out is None:
            raise ImageError(f"{place}: exists already; --force overwrites it, -o names another")
        content = place.read_bytes()
        if content and not self._rules.ours(content):
            kind = "sound .rdeic file" if self._target.suffix == ".rdeic" else "picture restored by rdeic"
            raise ImageError(f"{place}: exists and is no {kind}; --force overwrites it, -o names another")

    def _settle(self, job: _Job) -> None:
        """Writes the result. Raises what `work` raised, and ImageError."""
        try:
            data, remark, pixels = job.future.result()
        except Exception:
            if job.place is not None:
                self._claims.pop(os.path.abspath(job.place), None)  # another input may have it
            raise
        line = f"{job.source.item.name} -> {job.place}  {remark}"
        if job.place is None:
            with to_stdout():
                sys.stdout.buffer.write(data)
                sys.stdout.buffer.flush()
        elif is_direct(job.place):
            with writing(job.place):
                files.atomic_write(job.place, data)
            with contextlib.suppress(OSError):
                say(line, beside(job.place))
        elif self._write(job.place, job.source, data):
            with to_stdout():
                say(line, sys.stdout)
        else:
            self._finished += 1
            return
        self._pace.count(pixels)

    def _write(self, place: Path, source: Source, result: bytes) -> bool:
        """Whether it had to be written; what another process has written meanwhile is judged anew."""
        with writing(place):
            if self._into_folder and self._target.out is not None:
                files.make_folders(place.parent)
            with files.locked(place.parent):
                there = occupied(place, source.item)
                if there and identity(place) in self._written:
                    raise ImageError(f"{place}: is the output of another picture too; rename one of them")
                if there and not self._target.force:
                    if not self._into_folder:
                        self._require_ours(place)
                    elif self._rules.finished(place, source, result):
                        return False
                self._rules.note(place, result, source, start=self._into_folder)
                self._put(place, source.status, result)
                self._written.add(identity(place))
        return True

    def _put(self, place: Path, status: os.stat_result | None, result: bytes) -> None:
        mode = times = None
        if status is not None and stat.S_ISREG(status.st_mode):
            mode = stat.S_IMODE(status.st_mode) & _MODE
            times = (status.st_atime_ns, status.st_mtime_ns) if self._target.preserve_times else None
        files.atomic_write(place, result, mode, times)

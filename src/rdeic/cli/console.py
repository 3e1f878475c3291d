"""What the program says: results on stdout, everything else on stderr, one line each."""

from __future__ import annotations

import contextlib
import logging
import os
import sys
import threading
import warnings
from collections.abc import Callable, Iterator
from typing import Protocol, TextIO

from rdeic.errors import RdeicError
from rdeic.system.text import harmless


def fail(line: str) -> None:
    """One line on stderr, about a failure or about something left out."""
    tell(f"rdeic: {line}")


def tell(line: str) -> None:
    """One line on stderr. Where that cannot be written to, work goes on without words."""
    try:
        say(line, sys.stderr)
    except OSError:
        silence(sys.stderr)


def silence(stream: TextIO) -> None:
    """Sends what is left in the stream's buffer nowhere: it would fail again when the interpreter ends."""
    with contextlib.suppress(OSError, ValueError):
        descriptor = os.open(os.devnull, os.O_WRONLY)
        os.dup2(descriptor, stream.fileno())
        os.close(descriptor)


def say(line: str, stream: TextIO | None) -> None:
    """One line, whatever names it holds; nowhere if the stream was closed before the program began."""
    if stream is not None:
        print(harmless(line), file=stream, flush=True)


def remarks() -> Callable[[str], None]:
    """A function that says a line about anything else on stderr, each but once, whichever threads ask for it.

    Nothing is said of an empty one.
    """
    said, lock = {""}, threading.Lock()

    def remark(line: str) -> None:
        with lock:
            if line not in said:
                said.add(line)
                fail(line)

    return remark


def explain(error: Exception) -> str:
    """An exception as a line for the user."""
    if isinstance(error, RdeicError):
        return str(error)
    if isinstance(error, OSError) and error.strerror:
        return f"{error.filename}: {error.strerror}" if error.filename else error.strerror
    kind, text = type(error).__name__, " ".join(str(error).split())
    return f"internal error ({kind}: {text}); please report it, with what RDEIC_DEBUG=1 rdeic ... prints"


@contextlib.contextmanager
def only_our_words() -> Iterator[None]:
    """Meanwhile what libraries warn of and log stays off stderr; in exceptions it is said, with RDEIC_DEBUG=1 all."""
    if os.environ.get("RDEIC_DEBUG") == "1":
        yield
        return
    before, warnings.showwarning = warnings.showwarning, lambda *_, **__: None
    silent = logging.NullHandler()
    logging.getLogger().addHandler(silent)  # or else `logging` prints what nobody listens to
    try:
        yield
    finally:
        warnings.showwarning = before
        logging.getLogger().removeHandler(silent)


class Advance(Protocol):
    """Moves a progress bar by one."""

    def __call__(self, remark: str = "") -> None:
        """`remark` stands beside the bar until the next call."""


@contextlib.contextmanager
def progress(total: int) -> Iterator[Advance]:
    """What moves a progress bar; there is a bar only for several files on a terminal. It tells the time left."""
    if total < 2 or sys.stderr is None or not sys.stderr.isatty():
        yield lambda remark="": None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    # Lines printed meanwhile go above the bar. stdout is left alone when it is not on the terminal.
    with Progress(
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.description}", markup=False),
        TimeRemainingColumn(),
        console=Console(stderr=True),
        redirect_stdout=sys.stdout is not None and sys.stdout.isatty(),
    ) as bar:
        task = bar.add_task("", total=total)
        yield lambda remark="": bar.update(task, advance=1, description=remark)

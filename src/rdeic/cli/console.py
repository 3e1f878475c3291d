"""What the program says: results on stdout, everything else on stderr, one line each."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterator

from rdeic.errors import RdeicError


def fail(line: str) -> None:
    """One line about a failure, on stderr."""
    print("rdeic: " + " ".join(line.split()), file=sys.stderr, flush=True)


def remark(line: str) -> None:
    """One line about anything else, on stderr; nothing if it is empty."""
    if line:
        print(f"rdeic: {line}", file=sys.stderr, flush=True)


def explain(error: Exception) -> str:
    """An exception as a line for the user."""
    if isinstance(error, RdeicError):
        return str(error)
    if isinstance(error, OSError) and error.strerror:
        return f"{error.filename}: {error.strerror}" if error.filename else error.strerror
    kind = type(error).__name__
    return f"internal error ({kind}: {error}); please report it, with what RDEIC_DEBUG=1 rdeic ... prints"


@contextlib.contextmanager
def progress(total: int) -> Iterator[Callable[[], None]]:
    """A function that moves a progress bar by one; there is a bar only for several files on a terminal."""
    if total < 2 or not sys.stderr.isatty():
        yield lambda: None
        return
    from rich.console import Console
    from rich.progress import Progress

    # Lines printed meanwhile go above the bar. stdout is left alone when it is not on the terminal.
    with Progress(console=Console(stderr=True), redirect_stdout=sys.stdout.isatty()) as bar:
        task = bar.add_task("", total=total)
        yield lambda: bar.advance(task)

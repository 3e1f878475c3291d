"""The program `rdeic`: `script` from the shell, `main` inside another program.

What each command needs is imported when it runs.
"""

from __future__ import annotations

import atexit
import contextlib
import gc
import io
import os
import sys

from rdeic.cli import status
from rdeic.errors import RdeicError
from rdeic.system import threads

_COLLECT_AFTER = 100_000  # objects


def script() -> None:
    """`main` in a process of its own, which then ends without taking Python and torch apart, object by object.

    With RDEIC_DEBUG=1 in the environment it ends as every Python program, for tools that watch until then.
    """
    code = status.FAILED

    def leave() -> None:
        unread = False
        for stream in (sys.stdout, sys.stderr):
            try:
                if stream is not None and not stream.closed:
                    stream.flush()
            except OSError:
                unread = True
        os._exit(code or (status.FAILED if unread else 0))

    if os.environ.get("RDEIC_DEBUG") != "1":
        atexit.register(leave)  # before all others, to be called after them
    try:
        main()
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else status.FAILED if end.code else 0
        raise


def main() -> None:
    """Runs the command line and exits: 0 success, 1 a named failure, 2 usage, 130 interrupted. Never a traceback.

    RDEIC_DEBUG=1 in the environment lets unexpected exceptions through.
    """
    # Importing torch makes 250 thousand objects that stay; to search them for garbage every 700 takes 0.1 s.
    gc.set_threshold(_COLLECT_AFTER)
    threads.wait_briefly()
    _reserve_streams()
    if isinstance(sys.stdout, io.TextIOWrapper):  # a file name that is no valid text must not end the program
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        from rdeic.cli.app import run
        from rdeic.cli.console import only_our_words

        with only_our_words():
            run()
    except KeyboardInterrupt:
        sys.exit(status.INTERRUPTED)
    except Exception as error:
        if not isinstance(error, RdeicError) and os.environ.get("RDEIC_DEBUG") == "1":
            raise
        from rdeic.cli.console import explain, fail

        fail(explain(error))
        sys.exit(status.FAILED)


def _reserve_streams() -> None:
    """Where stdin, stdout or stderr was closed, nothing else must get its number: a picture would be written to it."""
    for number in range(3):
        with contextlib.suppress(OSError):
            os.fstat(number)
            continue
        opened = os.open(os.devnull, os.O_RDWR)
        if opened != number:
            os.dup2(opened, number)
            os.close(opened)
    if sys.stderr is None:  # print(file=None) would mean stdout
        sys.stderr = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115 (until the end)

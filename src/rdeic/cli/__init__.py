"""The program `rdeic`. `main` is its only entry; what each command needs is imported when it runs."""

from __future__ import annotations

import io
import os
import sys

from rdeic.cli import status
from rdeic.errors import RdeicError


def main() -> None:
    """Runs the command line and exits: 0 success, 1 a named failure, 2 usage, 130 interrupted. Never a traceback.

    RDEIC_DEBUG=1 in the environment lets unexpected exceptions through.
    """
    if isinstance(sys.stdout, io.TextIOWrapper):  # a file name that is no valid text must not end the program
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        from rdeic.cli.app import app

        app()
    except KeyboardInterrupt:
        sys.exit(status.INTERRUPTED)
    except Exception as error:
        if not isinstance(error, RdeicError) and os.environ.get("RDEIC_DEBUG") == "1":
            raise
        from rdeic.cli.console import explain, fail

        fail(explain(error))
        sys.exit(status.FAILED)

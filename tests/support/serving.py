"""A server for tests: in this process for its test client, or as a program of its own."""

from __future__ import annotations

import contextlib
import subprocess
import sys
from collections.abc import Iterator

from starlette.testclient import TestClient

from rdeic.codec import codec
from rdeic.serve import app
from rdeic.serve.settings import Limits, Settings

HOST = "http://127.0.0.1"


@contextlib.contextmanager
def client(coder: codec.Codec, limits: Limits | None = None, **settings: str) -> Iterator[TestClient]:
    """Of a server around `coder`; its failures are answers, as for anybody else."""
    application = app.create(Settings(**settings, limits=limits or Limits()), coder)
    with TestClient(application, HOST, raise_server_exceptions=False) as found:
        yield found


@contextlib.contextmanager
def program(*arguments: str) -> Iterator[tuple[subprocess.Popen[str], int]]:
    """`rdeic serve` as a process, and its port; it is told to stop in the end if it still runs."""
    command = [sys.executable, "-m", "rdeic", "serve", "--port", "0", *arguments]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        try:
            line = process.stderr.readline()
            assert line.startswith("serving on "), line
            yield process, int(line.split(";")[0].removesuffix("#token=TOKEN").rstrip("/").rpartition(":")[2])
        finally:
            process.terminate()
            process.wait(60)

"""The program as a process of its own: how it ends."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import IO

import pytest

OURS = """
import atexit, sys, threading
from rdeic import cli
sys.argv = ["rdeic", {arguments!r}]
{before}
cli.script()
"""


def run(
    arguments: str, before: str = "pass", stdout: int | IO[bytes] = subprocess.PIPE
) -> tuple[int, str, str]:
    """Exit status, stdout and stderr of `rdeic ARGUMENTS`, where `before` runs first."""
    done = subprocess.run(
        [sys.executable, "-c", OURS.format(arguments=arguments, before=before)],
        stdout=stdout,
        stderr=subprocess.PIPE,
        env={name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"},
        text=True,
        check=False,
    )
    return done.returncode, done.stdout, done.stderr


@pytest.mark.parametrize(("arguments", "code"), [("--version", 0), ("info", 2), ("nonsense", 2)])
def test_the_exit_status_is_that_of_the_command(arguments: str, code: int) -> None:
    assert run(arguments)[0] == code


@pytest.mark.parametrize(("said", "code"), [("", 0), ("'a word'", 1), ("3", 3)])
def test_the_exit_status_is_what_exit_was_called_with(said: str, code: int) -> None:
    assert run("--version", f"cli.main = lambda: sys.exit({said})")[0] == code


def test_what_was_said_arrives_also_where_nothing_flushed_it() -> None:
    words = "sys.stdout.write('first\\n' * 5000), sys.stderr.write('a word')"
    code, out, err = run("--version", f"cli.main = lambda: ({words}, sys.exit(0))")
    assert (code, out, err) == (0, "first\n" * 5000, "a word")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_what_cannot_be_said_is_a_failure() -> None:
    with Path("/dev/full").open("wb") as full:
        assert run("--version", "cli.main = lambda: (sys.stdout.write('lost'), sys.exit(0))", full)[0] == 1


def test_threads_end_and_libraries_clean_up_before_the_process_does() -> None:
    """Also those that begin while the command runs."""
    late = "threading.Thread(target=lambda: (threading.main_thread().join(), print('the thread'))).start()"
    code, out, _ = run(
        "--version",
        f"main = cli.main; cli.main = lambda: ({late}, atexit.register(print, 'the library'), main())",
    )
    assert code == 0
    assert out.splitlines()[1:] == ["the thread", "the library"]


def test_an_unexpected_exception_is_a_failure() -> None:
    code, _, err = run("--version", "cli.main = lambda: 1 / 0")
    assert code == 1
    assert "ZeroDivisionError" in err

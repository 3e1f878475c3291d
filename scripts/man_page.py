"""Writes the manual page of the program, rdeic(1), from the options themselves: what --help says, in one place.

    python scripts/man_page.py [-o docs/man/rdeic.1]      # or: make man

The page is committed, so that a wheel can carry it; `tests/docs/test_man_page.py` fails if it is not what this writes.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import typer

import rdeic
from rdeic.cli.app import app
from rdeic.system.files import atomic_write

PAGE = Path(__file__).resolve().parent.parent / "docs" / "man" / "rdeic.1"
_ABOUT = """\
stores photographs at 0.02 to 0.15 bits per pixel and restores them with a small generative network, by relay residual
diffusion. Details are invented where a file has no room for them: restored pictures are no evidence.
"""
_ENVIRONMENT = {
    "RDEIC_MODELS": "Folder of further model folders, besides the model in the package.",
    "RDEIC_DEBUG": "1 lets unexpected errors through with their traceback, and the words of libraries.",
    "OMP_NUM_THREADS": "Threads of the processor that torch works with.",
    "GOMP_SPINCOUNT": "How long these wait for each other before they sleep. Default here: 10000 turns.",
}
_STATUS = {
    "0": "Success.",
    "1": "Something failed, as stderr says.",
    "2": "The command line makes no sense.",
    "130": "Interrupted; a batch and a training go on when they are started again.",
}
_FILES = {".rdeic-batch.jsonl": "Beside the results of a batch: from which pictures they were made."}


def page() -> str:
    """In the macros of man(7)."""
    program: Any = typer.main.get_command(app)
    context = program.make_context("rdeic", [], resilient_parsing=True)
    lines = [
        f'.TH RDEIC 1 "" "rdeic {rdeic.__version__}" "User Commands"',
        ".SH NAME",
        r"rdeic \- extreme image compression with a relay residual diffusion decoder",
        ".SH SYNOPSIS",
        *_usage(program, context),
        ".SH DESCRIPTION",
        ".B rdeic",
        *map(_plain, _ABOUT.splitlines()),
        *_parameters(program, context),
        ".SH COMMANDS",
    ]
    for name, command in program.commands.items():
        if not command.hidden:
            inner = command.make_context(name, [], parent=context, resilient_parsing=True)
            lines += [f'.SS "rdeic {name}"', *_usage(command, inner)]
            lines += [*_prose(command.help), *_parameters(command, inner)]
    for heading, entries in (("ENVIRONMENT", _ENVIRONMENT), ("EXIT STATUS", _STATUS), ("FILES", _FILES)):
        lines += [f".SH {heading}", *(line for item in entries.items() for line in _entry(*item))]
    lines += [".SH SEE ALSO", ".BR avifenc (1),", ".BR cjxl (1),", ".BR cwebp (1)"]
    return "\n".join(lines) + "\n"


def _usage(command: Any, context: Any) -> list[str]:
    pieces = " ".join(command.collect_usage_pieces(context))
    return [f".B {_plain(context.command_path)}", _plain(pieces)]


def _parameters(command: Any, context: Any) -> list[str]:
    records = [param.get_help_record(context) for param in command.get_params(context)]
    return [line for record in records if record for line in _entry(*record)]


def _entry(name: str, text: str) -> Iterator[str]:
    yield ".TP"
    yield f".B {_plain(name)}"
    yield _plain(" ".join(text.split())) or "\\&"


def _prose(text: str) -> Iterator[str]:
    for paragraph in text.strip().split("\n\n"):
        yield from (".PP", _plain(" ".join(paragraph.split())))


def _plain(text: str) -> str:
    """Text that means itself: no escapes, no requests at the start of a line, and hyphens that can be copied."""
    safe = text.replace("\\", "\\e").replace("-", "\\-")
    return f"\\&{safe}" if safe[:1] in (".", "'") else safe


def main() -> None:
    """The command line of this script."""
    options = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    options.add_argument("-o", type=Path, default=PAGE, metavar="FILE")
    out: Path = options.parse_args().o
    out.parent.mkdir(parents=True, exist_ok=True)
    atomic_write(out, page().encode())


if __name__ == "__main__":
    main()

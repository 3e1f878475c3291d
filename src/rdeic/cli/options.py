"""Options and arguments that several commands have, each with its unit, range and help."""

from __future__ import annotations

from typing import Annotated

import typer

from rdeic.errors import ConfigError
from rdeic.system import arguments

IN = "Files, directories (searched recursively) and patterns; - is stdin."
DEVICE = "Device such as cpu or cuda:1. Default: the first GPU, or else the CPU."


def _memory(text: str) -> int:
    try:
        return arguments.byte_count("--max-memory", text)
    except ConfigError as error:
        raise typer.BadParameter(str(error)) from error


Out = Annotated[
    str | None,
    typer.Option(
        "-o",
        "--output",
        metavar="OUT|DIR",
        help="Output file; a folder if it is one, ends in /, or the inputs are several, a folder or a pattern; - is "
        "stdout. Default: beside the input.",
    ),
]
Device = Annotated[str | None, typer.Option(help=DEVICE)]
Compile = Annotated[
    bool | None,
    typer.Option(
        "--compile/--no-compile",
        help="On a GPU, record the work for a size of pictures with the first of them, or never. Default: with the "
        "second, so that single pictures need not wait.",
    ),
]
MaxPixels = Annotated[
    int, typer.Option(min=1, metavar="N", help="Refuse pictures of more pixels, width times height.")
]
MaxMemory = Annotated[
    int | None,
    typer.Option(
        parser=_memory,
        metavar="SIZE",
        help="What the program may occupy, such as 2GB or 800MiB: large pictures run in tiles, in smaller ones where "
        "memory is short. Default: what is free.",
    ),
]
Jobs = Annotated[
    int | None,
    typer.Option(
        "--jobs",
        "-j",
        min=1,
        metavar="N",
        help="Pictures at a time; the model is loaded once. Default: one for each core, fewer where memory is short, "
        "at most eight.",
    ),
]
Threads = Annotated[
    int | None,
    typer.Option(
        min=1,
        metavar="N",
        help="Processor threads for each picture. Default: all, shared among the pictures at work.",
    ),
]
PreserveTimes = Annotated[
    bool, typer.Option("--preserve-times", "-p", help="Give results the time of their inputs.")
]
Force = Annotated[
    bool,
    typer.Option(
        "--force",
        "-f",
        help="Overwrite whatever is there; otherwise results made from another input, and files of other programs, "
        "stay.",
    ),
]

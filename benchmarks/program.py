"""What the benchmarks share as programs: options and their values, errors in a line, and how results are told."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import rdeic
from rdeic.evaluation import report


def parser(doc: str | None) -> argparse.ArgumentParser:
    """Its help is `doc`, a module's, as it stands."""
    return argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)


def add_output(options: argparse.ArgumentParser) -> None:
    options.add_argument("-o", "--output", type=Path, metavar="CSV")


def numbers(text: str) -> list[float]:
    return [float(part) for part in text.split(",") if part]


def size(text: str) -> tuple[int, int]:
    """WxH -> width and height."""
    width, height = map(int, text.split("x"))
    return width, height


def sizes(text: str) -> list[tuple[int, int]]:
    return [size(one) for one in text.split(",")]


def among(choices: Sequence[str]) -> Callable[[str], list[str]]:
    """Reads names of these with commas between them."""

    def names(text: str) -> list[str]:
        found = [part for part in text.split(",") if part]
        if unknown := sorted(set(found) - set(choices)):
            raise argparse.ArgumentTypeError(f"{', '.join(unknown)}: choose from {', '.join(choices)}")
        return found

    return names


def remarks(*more: str) -> list[str]:
    """By which command and on what machine, and what else there is to say of results."""
    return [f"`{report.command()}`", report.machine(), *more]


def tell(
    table: str,
    said: Sequence[str],
    output: Path | None,
    header: Sequence[str],
    rows: Sequence[Sequence[object]],
) -> None:
    """Prints `table` and the remarks, and writes the rows with them into `output`, if there is one."""
    print(table, *said, sep="\n\n")
    if output:
        report.write_csv(output, header, rows, said)


def leave(run: Callable[[], int | None], *errors: type[Exception]) -> None:
    """Runs a program to its exit status; an RdeicError, or one of these, is a line on stderr."""
    expected: tuple[type[Exception], ...] = (rdeic.RdeicError, *errors)
    try:
        sys.exit(run())
    except expected as error:
        sys.exit(f"{Path(sys.argv[0]).stem}: {error}")

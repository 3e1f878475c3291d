"""What the benchmarks share as programs: options and their values, errors in a line, and how results are told."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import Any

import rdeic
from rdeic.evaluation import datasets, report
from rdeic.evaluation.datasets import Entry

EXAMPLE = Path(__file__).resolve().parent.parent / "examples" / "kodim23.png"  # 768x512


def numbers(text: str) -> list[float]:
    return [float(part) for part in text.split(",") if part]


def counts(text: str) -> list[int]:
    return [int(part) for part in text.split(",") if part]


# What several programs take. `parser.set_defaults` gives a program its own default.
SHARED: dict[str, dict[str, Any]] = {
    "folder": {"type": Path, "metavar": "PICTURES", "help": "a folder"},
    "--pictures": {"type": int, "metavar": "N", "help": "at most, at even distances; default: all"},
    "--model": {"default": "mini", "metavar": "NAME|DIR", "help": "an installed model, or a model folder"},
    "--device": {"help": "cpu, cuda, mps; default: the best there is"},
    "--threads": {"type": int, "metavar": "N", "help": "of torch; default: its own choice"},
    "--runs": {"type": int, "default": 5, "metavar": "N"},
    "--qualities": {"type": numbers, "default": "0,25,50,75,100", "metavar": "Q,Q,...", "help": "0 to 100"},
    "--perceptual": {"metavar": "FILE", "help": 'weights of SqueezeNet 1.0 (safetensors), or "lpips"'},
    "-o --output": {"type": Path, "metavar": "CSV"},
}


def parser(doc: str | None, *shared: str) -> argparse.ArgumentParser:
    """Its help is `doc`, a module's, as it stands; it takes these of SHARED."""
    options = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    for flags in shared:
        options.add_argument(*flags.split(), **SHARED[flags])
    return options


def use_threads(count: int | None) -> None:
    """As --threads says."""
    if count:
        import torch

        torch.set_num_threads(count)


def scan(folder: Path, most: int | None = None) -> list[Entry]:
    """Pictures below a folder, by name; `most` of them at even distances. Raises ConfigError if there are none."""
    found = datasets.scan(folder)
    count = min(most or len(found), len(found))
    return [found[i * len(found) // count] for i in range(count)]


def size(text: str) -> tuple[int, int]:
    """WxH -> width and height."""
    width, height = map(int, text.split("x"))
    return width, height


def sizes(text: str) -> list[tuple[int, int]]:
    return [size(one) for one in text.split(",")]


def among(choices: Collection[str]) -> Callable[[str], list[str]]:
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

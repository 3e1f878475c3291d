"""Tables of measurements, each with the command and the machine that made it."""

from __future__ import annotations

import csv
import io
import os
import platform
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from rdeic.errors import ConfigError
from rdeic.system import files

_REMARK = "# "


class Table(NamedTuple):
    """What a Markdown table or a CSV file shows."""

    header: Sequence[str]
    rows: Sequence[Sequence[str]]


class Stored(NamedTuple):
    """A CSV file of measurements, read."""

    remarks: tuple[str, ...]  # the lines above the header
    rows: list[dict[str, str]]


def machine() -> str:
    """Processor, cores, operating system, Python, torch and its threads in this process, in one line."""
    import torch

    return f"{host()}, threads: {torch.get_num_threads()}"


def host() -> str:
    """`machine` as other processes see it too: without the threads."""
    import torch

    gpu = f", {torch.cuda.get_device_name()}" if torch.cuda.is_available() else ""
    return (
        f"{_processor()}, {os.cpu_count()} cores{gpu}, {platform.system()}, Python {platform.python_version()}, "
        f"torch {torch.__version__}"
    )


def command() -> str:
    """How this program was called; of absolute paths, which mean nothing elsewhere, only the last part."""
    # As installed, and as python -m rdeic.
    own = Path(sys.argv[0]).name in ("rdeic", "__main__.py")
    start = ["rdeic"] if own else ["python", _portable(sys.argv[0])]
    return shlex.join([*start, *(_portable(argument) for argument in sys.argv[1:])])


def markdown(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table; all columns but the first are numbers, flush right."""
    lines = [header, ["---", *["---:"] * (len(header) - 1)], *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def write_csv(
    path: Path, header: Sequence[str], rows: Sequence[Sequence[object]], remarks: Sequence[str]
) -> None:
    """A CSV file with `remarks` as comment lines on top, written atomically. Raises OSError."""
    text = io.StringIO()
    text.writelines(f"{_REMARK}{remark}\n" for remark in remarks)
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(header)
    writer.writerows(rows)
    files.atomic_write(path, text.getvalue().encode())


def read_csv(path: Path) -> Stored:
    """What `write_csv` wrote; any other CSV file with a header is a table without remarks.

    Raises ConfigError if it cannot be read.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: cannot be read as a table: {error}") from error
    remarks = tuple(line.removeprefix(_REMARK) for line in lines if line.startswith(_REMARK))
    return Stored(remarks, list(csv.DictReader(line for line in lines if not line.startswith(_REMARK))))


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def _portable(argument: str) -> str:
    return Path(argument).name if Path(argument).is_absolute() else argument

"""What restoring a picture takes while another program computes: threads that wait for each other briefly, or for long.

    python benchmarks/beside_others.py [PICTURE] [--model NAME|DIR] [--runs 5] [-o beside_others.csv]

Each run is `rdeic decompress` from the shell, a new process. The baseline is libgomp's own patience, 300,000 turns,
which `rdeic` lowers (`system/threads.py`); ways take turns. The other program multiplies matrices in as many threads as
torch chooses by itself. Printed is a Markdown table. Where torch computes with another library than libgomp, the two
ways are one.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import program
import rdeic
from rdeic.evaluation import report

LIBGOMP = {"GOMP_SPINCOUNT": "300000"}
OTHER = "import torch\na = torch.randn(600, 600)\nprint(flush=True)\nwhile True: a @ a"


class Row(NamedTuple):
    machine: str
    libgomp_s: float  # medians
    rdeic_s: float
    ratio: float  # to libgomp's


@contextlib.contextmanager
def other_program() -> Iterator[None]:
    with subprocess.Popen([sys.executable, "-c", OTHER], stdout=subprocess.PIPE) as other:
        try:
            assert other.stdout is not None
            other.stdout.readline()  # it has begun
            yield
        finally:
            other.kill()


def measured(machine: str, command: list[str], runs: int) -> Row:
    """`runs` of each way, in turn; a first run of each is not counted."""
    plain = {name: value for name, value in os.environ.items() if not name.startswith(("GOMP_", "OMP_WAIT"))}
    seconds: tuple[list[float], list[float]] = ([], [])
    for _ in range(runs + 1):
        for said, found in zip((LIBGOMP, {}), seconds, strict=True):
            start = time.perf_counter()
            subprocess.run(command, env=plain | said, check=True, capture_output=True)
            found.append(time.perf_counter() - start)
    libgomp, ours = (statistics.median(found[1:]) for found in seconds)
    return Row(machine, libgomp, ours, ours / libgomp)


def run(options: argparse.Namespace) -> None:
    with tempfile.TemporaryDirectory() as name:
        file, restored = Path(name) / "file.rdeic", Path(name) / "restored.png"
        file.write_bytes(rdeic.load(options.model, "cpu").compress(options.picture))
        command = [sys.executable, "-m", "rdeic", "decompress", str(file), "-o", str(restored), "--force"]
        command += ["--model", options.model, "--device", "cpu"]
        rows = [measured("idle", command, options.runs)]
        with other_program():
            rows.append(measured("one other program", command, options.runs))
    lines = [
        (row.machine, f"{row.libgomp_s:.2f} s", f"{row.rdeic_s:.2f} s", f"{row.ratio:.2f}") for row in rows
    ]
    table = report.markdown(("machine", "libgomp's own", "rdeic's", "ratio"), lines)
    remarks = program.remarks(f"{options.runs} runs each; load average before: {os.getloadavg()[0]:.1f}")
    program.tell(table, remarks, options.output, Row._fields, rows)


def parser() -> argparse.ArgumentParser:
    options = program.parser(__doc__, "--model", "--runs", "-o --output")
    options.add_argument("picture", type=Path, nargs="?", default=program.EXAMPLE, metavar="PICTURE")
    return options


if __name__ == "__main__":
    program.leave(lambda: run(parser().parse_args()), subprocess.CalledProcessError)

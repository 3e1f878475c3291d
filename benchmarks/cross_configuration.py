"""Does a file made under any configuration decode to the very same symbols under every other?

    python benchmarks/cross_configuration.py PICTURES [--model NAME|DIR] [--qualities 10,50,90] [--first N]
        [--other NAME PYTHON]... [--float] [-o matrix.csv]

Each configuration is a process of its own: it encodes all pictures at all qualities and notes the SHA-256 of the
symbols it coded. Then each decodes everybody's files and compares. Encoders may differ, as the picture's analysis is
floating point; a decoder may not. `--other` adds another Python interpreter, say with another torch (Debian 12 has 1.13
as python3-torch), and may be given again; it needs numpy, constriction, safetensors and Pillow. `--float` does the same
with the floating-point networks the exact ones are made from: that must fail somewhere, or this test would prove
nothing. Printed is a Markdown table, encoders down, decoders across: files that gave the encoder's symbols, of all.
Exits 1 if that is not all, or, with --float, if it is.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import cross_worker
import program
import rdeic
from cross_worker import Configuration, Task
from rdeic.checkpoints import registry

WEAKEST = {
    "ATEN_CPU_CAPABILITY": "default",
    "MKL_ENABLE_INSTRUCTIONS": "SSE4_2",
    "ONEDNN_MAX_CPU_ISA": "SSE41",
}


HERE = (
    Configuration("1 thread"),
    Configuration("2 threads", threads=2),
    Configuration("no mkldnn", mkldnn=False),
    Configuration("channels last", channels_last=True),
    Configuration("float64", outside="float64"),
    Configuration("bfloat16", outside="bfloat16"),
    Configuration("SSE4.2", weakest=True),
)


def start(what: str, task: Task, configuration: Configuration) -> None:
    """Runs a worker to its end. Raises subprocess.CalledProcessError."""
    here = str(Path(rdeic.__file__).parent.parent)
    threads = str(configuration.threads)
    environment = {**os.environ, "PYTHONPATH": here, "OMP_NUM_THREADS": threads, "MKL_NUM_THREADS": threads}
    if configuration.weakest:
        environment |= WEAKEST
    arguments = [
        configuration.python,
        cross_worker.__file__,
        what,
        json.dumps(task),
        json.dumps(configuration),
    ]
    subprocess.run(arguments, env=environment, check=True)


def matrix(task: Task, configurations: list[Configuration]) -> list[list[int]]:
    """[encoder][decoder] files that gave the encoder's symbols."""
    for what, configuration in itertools.product(("encode", "decode"), configurations):
        print(f"{what}: {configuration.name}", file=sys.stderr)
        start(what, task, configuration)
    notes = [json.loads((Path(task.work) / f"{one.name}.json").read_text()) for one in configurations]
    return [[note[one.name] for note in notes] for one in configurations]


def distinct(task: Task, configurations: list[Configuration]) -> int:
    """Different files, of all that the encoders made."""
    files = {
        (path.name, *cross_worker.read(path).content)
        for one in configurations
        for path in (Path(task.work) / one.name).iterdir()
    }
    return len(files)


def chosen(options: argparse.Namespace) -> list[Configuration]:
    import torch

    # Floating-point coding networks would hand bfloat16 to numpy, which does not know it.
    found = [one for one in HERE if not (options.float and one.outside == "bfloat16")]
    found += [Configuration(name, python=python) for name, python in options.other]
    return [*found, Configuration("GPU", device="cuda")] if torch.cuda.is_available() else found


def run(options: argparse.Namespace) -> bool:
    """Whether every decoder found every encoder's symbols."""
    from rdeic.evaluation import report

    paths = [entry.path for entry in program.scan(options.folder)]
    configurations = chosen(options)
    with tempfile.TemporaryDirectory() as folder:
        qualities = tuple(round(quality * 2.55) for quality in options.qualities)
        pictures = tuple(str(path) for path in paths[: options.first])
        task = Task(str(registry.find(options.model)), pictures, qualities, options.float, folder)
        found = matrix(task, configurations)
        files = distinct(task, configurations)
    total = len(pictures) * len(qualities)
    rows = [
        [one.name, *(f"{count}/{total}" for count in row)]
        for one, row in zip(configurations, found, strict=True)
    ]
    header = ["encoder, decoder", *(one.name for one in configurations)]
    wrong = sum(total - count for row in found for count in row)
    kind = "floating-point" if options.float else "exact"
    counts = (
        f"{len(pictures)} pictures at {len(qualities)} qualities, {files} different files of {total * len(found)}; "
        f"{kind} coding networks: {wrong} of {total * len(found) ** 2} decoded to other symbols than were coded, or "
        "were refused"
    )
    remarks = program.remarks(counts)
    program.tell(report.markdown(header, rows), remarks, options.output, header, rows)
    return wrong == 0


def parser() -> argparse.ArgumentParser:
    options = program.parser(__doc__, "folder", "--model", "--qualities", "-o --output")
    options.set_defaults(qualities="10,50,90")
    options.add_argument("--first", type=int, metavar="N", help="pictures; default: all")
    options.add_argument("--other", nargs=2, action="append", default=[], metavar=("NAME", "PYTHON"))
    options.add_argument("--float", action="store_true", help="the floating-point networks; must fail")
    return options


def main() -> int:
    """-> exit status: 1 if the networks agreed where they must not, or did not where they must."""
    arguments = parser().parse_args()
    return int(run(arguments) == arguments.float)


if __name__ == "__main__":
    program.leave(main, subprocess.CalledProcessError)

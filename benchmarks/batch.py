"""Throughput of a batch beside the same pictures one by one, both directions.

    python benchmarks/batch.py FOLDER [--pictures 12] [--rounds 3] [--before CHECKOUT/src] [-o batch.csv]

One by one is `--jobs 1`: one picture after the other, each with all threads. Beside it is what the program does by
itself. Where FOLDER has fewer pictures than wanted, they come again, shifted by a few pixels, as batches leave out what
they have seen. Each way is a process that has imported torch before the clock starts; a time is that of the whole
command, the model's loading included. Ways take turns, and the fastest of the rounds counts. `--before` lets another
version of the program go one by one.
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

import program
import rdeic
from rdeic.evaluation import datasets, report
from rdeic.pictures import images

HERE = str(Path(rdeic.__file__).parent.parent)
SHIFT = 7  # columns, each time that a picture comes again


# Runs the commands that come on stdin, a line of JSON each, and answers with their seconds.
RUNNER = """
import io, json, sys, time
import torch
from rdeic import cli, load
answers, sys.stdout = sys.stdout, io.StringIO()
for line in sys.stdin:
    sys.argv = json.loads(line)
    start = time.perf_counter()
    try:
        cli.main()
    except SystemExit as end:
        if end.code:
            raise
    print(time.perf_counter() - start, file=answers, flush=True)
"""


class Way:
    """One of those compared, in a process of its own."""

    def __init__(self, name: str, source: str, options: tuple[str, ...]) -> None:
        """`source` is where its package is."""
        self.name, self._options = name, options
        self._process = subprocess.Popen(
            [sys.executable, "-c", RUNNER],
            env=os.environ | {"PYTHONPATH": source},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def seconds(self, *arguments: str) -> float:
        """Of `rdeic ARGUMENTS`."""
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.write(json.dumps(["rdeic", *arguments, *self._options]) + "\n")
        self._process.stdin.flush()
        answer = self._process.stdout.readline()
        if not answer:
            raise SystemExit(f"{self.name}: failed")
        print(f"{arguments[0]}, {self.name}: {float(answer):.2f} s", file=sys.stderr, flush=True)
        return float(answer)

    def close(self) -> None:
        self._process.kill()
        self._process.wait()


class Row(NamedTuple):
    direction: str
    way: str
    seconds: float
    pictures_per_second: float
    ratio: float  # to one by one


def fill(folder: Path, pictures: int, out: Path) -> None:
    """Writes so many pictures."""
    paths = [entry.path for entry in datasets.scan(folder)]
    for number, path in zip(range(pictures), itertools.cycle(paths)):
        picture = np.roll(images.read(path), SHIFT * (number // len(paths)), axis=1)
        Image.fromarray(picture).save(out / f"{number:04}.png", compress_level=1)


def measure(options: argparse.Namespace) -> list[Row]:
    with contextlib.ExitStack() as stack:
        name = stack.enter_context(tempfile.TemporaryDirectory())
        ways = [Way("one by one", options.before or HERE, ("--jobs", "1")), Way("batch", HERE, ())]
        for way in ways:
            stack.callback(way.close)
        album, packed, restored = (Path(name, one) for one in ("album", "packed", "restored"))
        album.mkdir()
        fill(options.folder, options.pictures, album)
        rows = []
        for command, inputs, out in (("compress", album, packed), ("decompress", packed, restored)):
            taken: dict[str, float] = {}
            for way in ways * options.rounds:
                shutil.rmtree(out, ignore_errors=True)
                line = (command, str(inputs), "-o", f"{out}/", "--model", options.model, "--device", "cpu")
                taken[way.name] = min(way.seconds(*line), taken.get(way.name, float("inf")))
            for way in ways:
                seconds = taken[way.name]
                rows.append(
                    Row(
                        command,
                        way.name,
                        seconds,
                        options.pictures / seconds,
                        taken[ways[0].name] / seconds,
                    )
                )
        return rows


def parser() -> argparse.ArgumentParser:
    options = program.parser(__doc__, "folder", "--model", "-o --output")
    options.add_argument("--pictures", type=int, default=12)
    options.add_argument("--rounds", type=int, default=3)
    options.add_argument("--before", metavar="SRC", help="folder with another version's package rdeic")
    return options


def run(options: argparse.Namespace) -> None:
    load = os.getloadavg()[0]
    rows = measure(options)
    lines = [
        (
            row.direction,
            row.way,
            f"{row.seconds:.1f} s",
            f"{row.pictures_per_second:.2f}",
            f"{row.ratio:.2f}",
        )
        for row in rows
    ]
    remarks = program.remarks(
        f"{options.pictures} pictures; load average before: {load:.1f}",
    )
    header = ("direction", "way", "time", "pictures a second", "ratio")
    program.tell(report.markdown(header, lines), remarks, options.output, Row._fields, rows)


if __name__ == "__main__":
    program.leave(lambda: run(parser().parse_args()))

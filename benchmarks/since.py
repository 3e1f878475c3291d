"""An earlier version of the program beside today's, in turn: pictures of several sizes compressed and restored.

    python benchmarks/since.py CHECKOUT/src [PHOTOGRAPH] [--sizes 0.39,1,4,12] [--model NAME|DIR] [--runs 5]
        [--threads 2] [-o since.csv]

CHECKOUT is another working tree (`git worktree add CHECKOUT COMMIT`). SIZES are megapixels, of the pictures that
`large_pictures.py` makes from the photograph. "loaded" is a process of each version that has loaded the model and
coded the same picture before the clock starts; "shell" is `rdeic compress` or `rdeic decompress` from its start to its
end, whose peak of memory is that of the process. Each version restores its own files. A run is every size in both
directions, ways and versions; medians of the runs are compared.
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import IO, NamedTuple

from PIL import Image

import large_pictures
import launch
import program
import rdeic
from rdeic.evaluation import report
from rdeic.pictures import images

# Answers a line of JSON (direction, source, target) with the seconds that coding took, files left out.
WORKER = """
import json, sys, time
from pathlib import Path
import numpy, rdeic
from PIL import Image
codec = rdeic.load(sys.argv[1], "cpu")
for line in sys.stdin:
    direction, source, target = json.loads(line)
    given = numpy.asarray(Image.open(source)) if direction == "compress" else Path(source).read_bytes()
    start = time.perf_counter()
    made = getattr(codec, direction)(given)
    seconds = time.perf_counter() - start
    if direction == "compress":
        Path(target).write_bytes(made)
    print(seconds, flush=True)
"""
DIRECTIONS = ("compress", "decompress")


class Row(NamedTuple):
    direction: str
    megapixels: float
    way: str  # "loaded" or "shell"
    before_s: float  # medians
    after_s: float
    ratio: float  # after to before
    after_s_per_mp: float
    before_peak_gb: float | None  # largest of all runs; None: not measured alone
    after_peak_gb: float | None


class Version:
    """One of the two, in a process that has its model loaded, and from the shell."""

    def __init__(self, source: str, model: str, folder: Path) -> None:
        """`source` is where its package is; its files are written into `folder`."""
        self._model, self._folder = model, folder
        self._environment = {"PYTHONPATH": source}
        self._process = subprocess.Popen(
            [sys.executable, "-c", WORKER, model],
            env=os.environ | self._environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def loaded(self, direction: str, picture: Path) -> float:
        """Seconds of coding."""
        source, target = self._files(direction, picture)
        _of(self._process.stdin).write(json.dumps([direction, str(source), str(target)]) + "\n")
        _of(self._process.stdin).flush()
        answer = _of(self._process.stdout).readline()
        if not answer:
            raise SystemExit(f"since: {self._environment['PYTHONPATH']}: failed")
        return float(answer)

    def shell(self, direction: str, picture: Path) -> launch.Cost:
        source, target = self._files(direction, picture)
        command = ["-m", "rdeic", direction, str(source), "-o", str(target), "-f", "--model", self._model]
        return launch.cost([*command, "--device", "cpu"], self._environment)

    def close(self) -> None:
        self._process.kill()
        self._process.wait()

    def _files(self, direction: str, picture: Path) -> tuple[Path, Path]:
        file = self._folder / f"{picture.stem}.rdeic"
        return (picture, file) if direction == "compress" else (file, self._folder / picture.name)


def _of(stream: IO[str] | None) -> IO[str]:
    assert stream is not None
    return stream


def rows(pictures: dict[float, Path], versions: tuple[Version, Version], runs: int) -> list[Row]:
    """Of all pictures, by megapixels. A run is each of them once, so that slow minutes are shared among sizes too."""
    keys = list(itertools.product(pictures, DIRECTIONS))
    for megapixels, direction in keys:
        for version in versions:
            version.loaded(direction, pictures[megapixels])  # tunes and allocates
    warm: dict[tuple[float, str], list[list[float]]] = {key: [] for key in keys}
    cold: dict[tuple[float, str], list[list[launch.Cost]]] = {key: [] for key in keys}
    for megapixels, direction in keys * runs:
        picture, key = pictures[megapixels], (megapixels, direction)
        warm[key].append([version.loaded(direction, picture) for version in versions])
        cold[key].append([version.shell(direction, picture) for version in versions])
        print(f"{direction} {megapixels:g}: {warm[key][-1]}", file=sys.stderr, flush=True)
    found = []
    for megapixels, direction in keys:
        before, after = map(statistics.median, zip(*warm[megapixels, direction], strict=True))
        found.append(Row(direction, megapixels, "loaded", *compared(before, after, megapixels), None, None))
        costs = list(zip(*cold[megapixels, direction], strict=True))
        before, after = (statistics.median(one.seconds for one in column) for column in costs)
        peaks = [max(one.peak_bytes for one in column) / 1e9 for column in costs]
        found.append(
            Row(direction, megapixels, "shell", *compared(before, after, megapixels), peaks[0], peaks[1])
        )
    return found


def compared(before: float, after: float, megapixels: float) -> tuple[float, float, float, float]:
    """As a row has them."""
    return before, after, after / before, after / megapixels


def measure(options: argparse.Namespace) -> list[Row]:
    photograph = images.read(options.photograph)
    here = str(Path(rdeic.__file__).parent.parent)
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        versions = []
        for name, source in (("before", str(options.before.resolve())), ("after", here)):
            (folder / name).mkdir()
            versions.append(Version(source, options.model, folder / name))
            stack.callback(versions[-1].close)
        pictures = {}
        for megapixels in options.sizes:
            pictures[megapixels] = folder / f"{megapixels:g}.png"
            made = large_pictures.picture(photograph, *large_pictures.extent(megapixels))
            Image.fromarray(made).save(pictures[megapixels], compress_level=1)
        return rows(pictures, (versions[0], versions[1]), options.runs)


def table(found: list[Row]) -> str:
    header = ("", "megapixels", "", "before", "after", "ratio", "after, a megapixel", "peak before", "after")
    lines = [
        (
            row.direction,
            f"{row.megapixels:g}",
            row.way,
            f"{row.before_s:.3f} s",
            f"{row.after_s:.3f} s",
            f"{row.ratio:.2f}",
            f"{row.after_s_per_mp:.2f} s",
            *("" if peak is None else f"{peak:.2f} GB" for peak in (row.before_peak_gb, row.after_peak_gb)),
        )
        for row in found
    ]
    return report.markdown(header, lines)


def run(options: argparse.Namespace) -> None:
    if options.threads:
        os.environ["OMP_NUM_THREADS"] = str(options.threads)  # of the processes started below
    # Without bytecode, Python would compile our hundred modules at each start: an eighth of a second.
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    load = os.getloadavg()[0]
    found = measure(options)
    remarks = program.remarks(f"{options.runs} runs each; load average before: {load:.1f}")
    program.tell(table(found), remarks, options.output, Row._fields, found)


def parser() -> argparse.ArgumentParser:
    options = program.parser(__doc__, "--model", "--runs", "--threads", "-o --output")
    options.add_argument(
        "before", type=Path, metavar="SRC", help="the folder with the other version's package rdeic"
    )
    options.add_argument("photograph", type=Path, nargs="?", default=program.EXAMPLE, metavar="PHOTOGRAPH")
    options.add_argument("--sizes", type=program.numbers, default="0.39,1,4,12", metavar="MEGAPIXELS,...")
    return options


if __name__ == "__main__":
    program.leave(lambda: run(parser().parse_args()), subprocess.CalledProcessError)

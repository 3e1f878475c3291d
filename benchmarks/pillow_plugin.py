"""How long `Image.open` takes for an .rdeic file, beside a JPEG of the same picture in the same run.

    python benchmarks/pillow_plugin.py [--runs 300]

Opening means size, mode, EXIF and `verify()`; no pixels. The first in a process is measured in 9 processes, in which
nothing but `rdeic.pillow` was imported. Medians.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from PIL import Image

import program
import rdeic.pillow
from rdeic.evaluation import report
from rdeic.pictures import exif

PHOTO = Path(__file__).resolve().parent.parent / "examples" / "kodim23.png"
_PROCESSES = 9
_FIRST = """
import sys, time
import program
import rdeic.pillow
from PIL import Image
begun = time.perf_counter()
with Image.open(sys.argv[1]) as image:
    image.size, image.mode, image.getexif()
    image.verify()
print(1000 * (time.perf_counter() - begun))
assert "torch" not in sys.modules
"""


def opened(path: Path) -> None:
    with Image.open(path) as image:
        assert image.size == (768, 512) and image.mode == "RGB"
        image.getexif()
        image.verify()


def median_ms(work: Callable[[], object], runs: int) -> float:
    times = []
    for _ in range(runs):
        begun = time.perf_counter()
        work()
        times.append(1000 * (time.perf_counter() - begun))
    return statistics.median(times)


def first_ms(path: Path) -> float:
    command = [sys.executable, "-c", _FIRST, str(path)]
    runs = (subprocess.run(command, capture_output=True, text=True, check=True) for _ in range(_PROCESSES))
    return statistics.median(float(run.stdout) for run in runs)


def main() -> None:
    options = program.parser(__doc__, "--runs")
    options.set_defaults(runs=300)
    runs = options.parse_args().runs
    with tempfile.TemporaryDirectory() as folder:
        ours, jpeg = Path(folder, "photo.rdeic"), Path(folder, "photo.jpg")
        with Image.open(PHOTO) as photo:
            photo.save(jpeg, exif=exif.to_bytes(rdeic.Metadata(comment="a photograph")))
            photo.save(ours, quality=40)
        print(f"{report.machine()}\n")
        base, own, first = (
            median_ms(lambda: opened(jpeg), runs),
            median_ms(lambda: opened(ours), runs),
            first_ms(ours),
        )
        print(f"opening {jpeg.stat().st_size} bytes of JPEG   {base:.3f} ms")
        print(f"opening {ours.stat().st_size} bytes of RDEIC   {own:.3f} ms, {own / base:.2f} times as long")
        print(f"the first in a process         {first:.3f} ms")


if __name__ == "__main__":
    program.leave(main)

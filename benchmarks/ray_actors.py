"""Pictures a second of two actors of a local Ray cluster beside one: pip install 'rdeic[ray]'.

    python benchmarks/ray_actors.py examples/kodim23.png --pictures 100

The first rate is that of actors at work: from when each has done its first batch to when the first has nothing left to
do. The second is that of the whole call, in which actors start and load the model. An actor has one CPU, and so one
thread.
"""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from typing import NamedTuple

import ray

import program
from rdeic.ray import folders

_BATCH = 4
_ACTORS = (1, 2)


class Rates(NamedTuple):
    """Pictures a second."""

    warm: float
    whole: float


def rates(picture: Path, count: int, actors: int) -> Rates:
    """Of compressing so many copies of a picture."""
    with tempfile.TemporaryDirectory() as work:
        source, out = Path(work, "in"), Path(work, "out")
        source.mkdir()
        for number in range(count):
            shutil.copy(picture, source / f"{number:06d}{picture.suffix}")
        workers = folders.Workers(actors=actors, batch=_BATCH)
        done = folders.compress(str(source), str(out), f"{work}/manifest", workers)
        assert done.done == count, done
        written = sorted(path.stat().st_mtime_ns for path in out.iterdir())
    first, last = 2 * _BATCH * max(_ACTORS), count - _BATCH * max(_ACTORS)
    warm = (last - first) / (written[last - 1] - written[first - 1]) * 1e9
    return Rates(warm, count / done.seconds)


def main() -> None:
    parser = program.parser(__doc__)
    parser.add_argument("picture", type=Path)
    parser.add_argument("--pictures", type=int, default=100)
    options = parser.parse_args()
    ray.init(include_dashboard=False)
    one, two = (rates(options.picture, options.pictures, actors) for actors in _ACTORS)
    print("| pictures a second | one actor | two actors | ratio |\n|---|---:|---:|---:|")
    for name, a, b in zip(("actors at work", "start included"), one, two, strict=True):
        print(f"| {name} | {a:.2f} | {b:.2f} | {b / a:.2f} |")
    print(f"\n{program.remarks()[0]}, {program.remarks()[1]}")


if __name__ == "__main__":
    program.leave(main)

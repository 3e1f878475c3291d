"""Pictures a second of two actors of a local Ray cluster beside one: pip install 'rdeic[ray]'.

    python benchmarks/ray_actors.py examples/kodim23.png --pictures 64

Each number of actors compresses a few pictures and then many; the difference of the two times leaves out what starting
actors takes.
"""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

import ray

import program
from rdeic.ray import folders

_FEW = 8  # pictures that starting is measured with


def seconds(picture: Path, count: int, actors: int) -> float:
    """For so many copies of a picture, starting included."""
    with tempfile.TemporaryDirectory() as work:
        source = Path(work, "in")
        source.mkdir()
        for number in range(count):
            shutil.copy(picture, source / f"{number:06d}{picture.suffix}")
        workers = folders.Workers(actors=actors, batch=4)
        done = folders.compress(str(source), f"{work}/out", f"{work}/manifest", workers)
        assert done.done == count, done
        return done.seconds


def main() -> None:
    parser = program.parser(__doc__)
    parser.add_argument("picture", type=Path)
    parser.add_argument("--pictures", type=int, default=64)
    arguments = parser.parse_args()
    ray.init(include_dashboard=False)
    rates = []
    for actors in (1, 2):
        start = seconds(arguments.picture, _FEW, actors)
        whole = seconds(arguments.picture, arguments.pictures + _FEW, actors)
        rates.append(arguments.pictures / (whole - start))
        print(
            f"{actors} actors: {rates[-1]:.2f} pictures a second ({start:.1f} s for {_FEW}, start included)"
        )
    print(f"two beside one: {rates[1] / rates[0]:.2f}")


if __name__ == "__main__":
    program.leave(main)

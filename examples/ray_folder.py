"""Compress a folder of pictures on all cores of this machine, through Ray: pip install 'rdeic[ray]'.

    python examples/ray_folder.py photographs small --bpp 0.05 --actors 2

What is there already is left alone, so a run that was killed goes on when it is started again; small/manifest says
what became of each picture. On a real cluster three things change: `ray.init(address="auto")`, run on a node of it;
addresses of buckets instead of folders (s3://..., gs://...), as every node must reach them; and `--gpus 0.25` where
nodes have GPUs, so that four actors share one.
"""

from __future__ import annotations

import argparse

import ray

from rdeic.ray import folders


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("source", help="folder or URI with pictures")
    parser.add_argument("out", help="folder or URI for the .rdeic files")
    parser.add_argument("--bpp", type=float, default=0.05, help="bits per pixel (default: 0.05)")
    parser.add_argument("--actors", type=int, default=2, help="workers that hold the model (default: 2)")
    parser.add_argument("--gpus", type=float, default=0.0, help="GPUs for each of them (default: 0)")
    arguments = parser.parse_args()
    ray.init(include_dashboard=False)
    workers = folders.Workers(actors=arguments.actors, gpus=arguments.gpus)
    manifest = f"{arguments.out.rstrip('/')}/manifest"
    done = folders.compress(arguments.source, arguments.out, manifest, workers, bpp=arguments.bpp)
    print(
        f"{done.done} done, {done.finished_before} finished before, {done.failed} failed, "
        f"{done.done / done.seconds:.1f} pictures a second"
    )


if __name__ == "__main__":
    main()

"""Millions of pictures: what a Ray cluster needs (the extra `ray`).

    dataset.map_batches(Compress, fn_constructor_kwargs={"bpp": 0.05}, ...)     pictures from anywhere Ray reads
    folders.compress("s3://photographs", "s3://small", settings)                folders and buckets, with a manifest

`examples/ray_folder.py` runs the second on this machine; docs/cluster.md has both.
"""

from __future__ import annotations

from rdeic.ray.actors import Compress, Decompress

__all__ = ["Compress", "Decompress"]

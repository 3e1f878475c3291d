"""Compresses and restores a picture, prints what it costs, and writes both side by side.

python scripts/demo.py [PICTURE [SIDE_BY_SIDE.png]]
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

import numpy as np

import rdeic
from rdeic.pictures import images

BPP = 0.08
GAP = 8  # white pixels between the two pictures
ROOT = Path(__file__).resolve().parent.parent


def main() -> None:
    picture_path = Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT / "examples" / "kodim23.png"
    side_by_side = Path(sys.argv[2]) if len(sys.argv) > 2 else ROOT / "demo.png"
    picture = images.read(picture_path)
    begin = time.perf_counter()
    codec = rdeic.load()
    codec.compress(np.zeros((64, 64, 3), np.uint8))  # loads the model, which the other times leave out

    start = time.perf_counter()
    blob = codec.compress(picture, bpp=BPP)
    compressed = time.perf_counter()
    restored = np.asarray(codec.decompress(blob))
    decompressed = time.perf_counter()

    info = rdeic.inspect(blob)
    error = np.mean((picture.astype(np.float64) - restored) ** 2)
    print(
        f"picture     {picture_path.name}, {info.width}x{info.height}, {picture_path.stat().st_size:,} bytes"
    )
    print(f"model       {codec.config.name}, loaded in {start - begin:.2f} s")
    print(
        f"compressed  {len(blob):,} bytes, {info.bpp:.4f} bpp, {compressed - start:.2f} s (quality search included)"
    )
    print(f"restored    {decompressed - compressed:.2f} s, PSNR {10 * np.log10(255**2 / error):.2f} dB")

    gap = np.full((info.height, GAP, 3), 255, np.uint8)
    images.write(np.hstack([picture, gap, restored]), side_by_side, "png")
    print(f"side by side, original on the left: {side_by_side}")


if __name__ == "__main__":
    try:
        main()
    except rdeic.RdeicError as error:
        sys.exit(f"demo: {error}")

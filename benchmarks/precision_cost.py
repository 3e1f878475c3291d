"""What computing in the default precision costs in bytes and in likeness, beside float32, over a folder of pictures.

    python benchmarks/precision_cost.py KODAK [--model NAME|DIR] [--qualities 0,50,100]

Each picture is compressed and restored twice: everything in float32, and by default. Printed is a Markdown table of
means, with how far the default's pictures of the default's files are from float32's of the same files.
"""

from __future__ import annotations

from statistics import fmean
from typing import NamedTuple

import numpy as np

import program
import rdeic
from rdeic.evaluation import metrics, report
from rdeic.pictures import images

METRICS = ("psnr", "ms_ssim")


class Cost(NamedTuple):
    """Of one picture."""

    size: int  # bytes
    scores: tuple[float, ...]  # METRICS


def measure(codec: rdeic.Codec, judges: metrics.Judges, picture: images.Picture, quality: float) -> Cost:
    blob = codec.compress(picture, quality)
    found = dict(metrics.scores(judges, np.asarray(codec.decompress(blob)), picture))
    return Cost(len(blob), tuple(found[name] for name in METRICS))


def apart(fast: rdeic.Codec, plain: rdeic.Codec, picture: images.Picture, quality: float) -> float:
    """PSNR of both decoders' pictures of one file, dB."""
    blob = fast.compress(picture, quality)
    a, b = (np.asarray(codec.decompress(blob), np.float64) for codec in (fast, plain))
    return float(10 * np.log10(255**2 / np.mean((a - b) ** 2)))


def row(
    plain: rdeic.Codec,
    fast: rdeic.Codec,
    judges: metrics.Judges,
    pictures: list[images.Picture],
    quality: float,
) -> list[str]:
    costs = [[measure(codec, judges, one, quality) for one in pictures] for codec in (plain, fast)]
    sizes = [fmean(cost.size for cost in one) for one in costs]
    cells = [
        f"{quality:g}",
        f"{sizes[0]:,.0f}",
        f"{sizes[1]:,.0f}",
        f"{100 * (sizes[1] / sizes[0] - 1):+.2f}%",
    ]
    for place, digits in ((0, 2), (1, 4)):
        cells += [f"{fmean(cost.scores[place] for cost in one):.{digits}f}" for one in costs]
    return [*cells, f"{min(apart(fast, plain, one, quality) for one in pictures):.1f}"]


def main() -> None:
    parser = program.parser(__doc__, "folder", "--model", "--qualities")
    parser.set_defaults(qualities="0,50,100")
    options = parser.parse_args()
    plain = rdeic.load(options.model, "cpu", None, "fp32", "fp32")
    fast = rdeic.load(options.model, "cpu")
    judges = metrics.load(METRICS, None, "cpu")
    pictures = [images.read(entry.path) for entry in program.scan(options.folder)]
    rows = [row(plain, fast, judges, pictures, quality) for quality in options.qualities]
    header = (
        "quality",
        "bytes, fp32",
        "default",
        "",
        "PSNR, fp32",
        "default",
        "MS-SSIM, fp32",
        "default",
        "apart, dB",
    )
    print(report.markdown(header, rows))
    print(f"\n`{report.command()}`\n\n{report.machine()}; {len(pictures)} pictures")


if __name__ == "__main__":
    program.leave(main)

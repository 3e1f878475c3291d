"""Rate and distortion on a folder of pictures, through real files.

    python benchmarks/rate_distortion.py KODAK --baselines jpeg,webp,avif --perceptual squeezenet.safetensors -o rd.csv

Each picture is compressed to a file at every quality (and every --bpps and --byte-limits), read back and restored.
Baselines come at the size of rdeic's file, picture by picture; the best of their variants counts (see
rdeic.evaluation.conventional). bpp = file bytes * 8 / original pixels. The metrics are those of `rdeic evaluate`
(docs/evaluation.md). Printed is a Markdown table of the means; the CSV has every picture too.
"""

from __future__ import annotations

import argparse
import itertools
import math
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple, ParamSpec, TypeVar

import numpy as np

import program
import rdeic
from rdeic.evaluation import metrics, report
from rdeic.evaluation.conventional import CODECS, Conventional
from rdeic.evaluation.metrics import Judges
from rdeic.pictures import images

P = ParamSpec("P")
T = TypeVar("T")
MEAN = "mean"


class Goal(NamedTuple):
    """How large rdeic's files are to be; two of three are None."""

    label: str
    quality: float | None = None
    bpp: float | None = None
    max_bytes: int | None = None


class Row(NamedTuple):
    """One picture, or the mean of all, through one codec."""

    image: str
    width: int
    height: int
    codec: str
    setting: str  # of rdeic; baselines are matched to its file
    variant: str  # of a baseline: its own settings
    bytes: float
    bpp: float
    psnr: float  # nan here and below: not measured, or the picture is too small
    ms_ssim: float
    perceptual: float
    gradients: float
    ssimulacra2: float
    compress_s: float
    decompress_s: float


METRICS = ("psnr", "ms_ssim", "perceptual", "gradients", "ssimulacra2")
MEASURED = ("bytes", "bpp", *METRICS, "compress_s", "decompress_s")


class Bench(NamedTuple):
    """What stays the same from picture to picture."""

    codec: rdeic.Codec
    goals: list[Goal]
    baselines: list[str]
    judges: Judges
    folder: Path  # for the files


def measure(bench: Bench, path: Path) -> Iterator[Row]:
    """The rows of one picture. A goal out of its reach is reported on stderr and left out."""
    picture = images.read(path)
    rivals = {name: Conventional(name, picture) for name in bench.baselines}
    for goal in bench.goals:
        try:
            blob, compress_s = timed(bench.codec.compress, picture, goal.quality, goal.bpp, goal.max_bytes)
        except rdeic.RateError as error:
            print(f"{path.name}, {goal.label}: {error}", file=sys.stderr)
            continue
        file = bench.folder / "file.rdeic"
        file.write_bytes(blob)
        image, decompress_s = timed(bench.codec.decompress, file)
        size = file.stat().st_size
        scores = judge(bench.judges, np.asarray(image), picture)
        yield row(path, picture, ("rdeic", goal.label, ""), size, scores, (compress_s, decompress_s))
        for name, rival in rivals.items():
            attempt = rival.closest(size)
            data, compress_s = timed(attempt.codec.encode, picture, attempt.setting)
            restored, decompress_s = timed(attempt.codec.decode, data)
            variant = f"1/{attempt.downscale} {attempt.setting}"
            scores = judge(bench.judges, restored, picture)
            yield row(
                path, picture, (name, goal.label, variant), len(data), scores, (compress_s, decompress_s)
            )


def judge(judges: Judges, restored: images.Picture, picture: images.Picture) -> list[float]:
    """Both (H, W, 3) uint8 -> the METRICS, nan where there is none."""
    found = dict(metrics.scores(judges, restored, picture))
    return [found.get(name, math.nan) for name in METRICS]


def row(
    path: Path,
    picture: images.Picture,
    names: tuple[str, str, str],
    size: int,
    scores: Sequence[float],
    seconds: tuple[float, float],
) -> Row:
    height, width, _ = picture.shape
    about = (path.name, width, height, *names, size, 8 * size / (width * height))
    return Row._make((*about, *scores, *seconds))


def timed(work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> tuple[T, float]:
    """What `work` returns, and the seconds it takes."""
    start = time.perf_counter()
    result = work(*args, **kwargs)
    return result, time.perf_counter() - start


def means(rows: Sequence[Row]) -> list[Row]:
    """One row for each codec and setting, in the order of their first picture."""
    groups: dict[tuple[str, str], list[Row]] = {}
    for one in rows:
        groups.setdefault((one.codec, one.setting), []).append(one)
    return [
        Row(MEAN, 0, 0, codec, setting, f"{len(group)} images", *(mean(group, name) for name in MEASURED))
        for (codec, setting), group in groups.items()
    ]


def mean(rows: Sequence[Row], name: str) -> float:
    """Of the pictures that have it."""
    values = [value for one in rows if not math.isnan(value := getattr(one, name))]
    return sum(values) / len(values) if values else math.nan


def findings(rows: Sequence[Row], goals: Sequence[Goal]) -> Iterator[str]:
    """Whether sizes rise with quality on every picture, and how well wanted sizes were met."""
    ours = [one for one in rows if one.codec == "rdeic"]
    ladder = [goal.label for goal in sorted(goals, key=lambda g: g.quality or 0) if goal.quality is not None]
    falls = []
    for image in dict.fromkeys(one.image for one in ours):
        sizes = {one.setting: one.bytes for one in ours if one.image == image}
        steps = [sizes[label] for label in ladder if label in sizes]
        if any(b < a for a, b in itertools.pairwise(steps)):
            falls.append(image)
    if len(ladder) > 1:
        yield f"Bytes rise with quality on every image: {'no: ' + ', '.join(falls) if falls else 'yes'}"
    for goal in goals:
        met = [one for one in ours if one.setting == goal.label]
        if goal.bpp is not None and met:
            worst = max(abs(one.bpp / goal.bpp - 1) for one in met)
            yield f"{goal.label}: {len(met)} images, furthest from the wanted rate by {worst:.2%}"
        if goal.max_bytes is not None and met:
            yield f"{goal.label}: {len(met)} images, largest file {max(one.bytes for one in met):.0f} bytes"


def table(rows: Sequence[Row]) -> str:
    header = (
        "codec",
        "setting",
        "images",
        "bytes",
        "bpp",
        "PSNR",
        "MS-SSIM",
        "perceptual",
        "gradients",
        "SSIMULACRA2",
        "compress",
        "decompress",
    )
    lines = [
        (
            one.codec,
            one.setting,
            one.variant.removesuffix(" images"),
            f"{one.bytes:.0f}",
            f"{one.bpp:.4f}",
            f"{one.psnr:.2f} dB",
            number(one.ms_ssim),
            number(one.perceptual),
            number(one.gradients),
            "-" if math.isnan(one.ssimulacra2) else f"{one.ssimulacra2:.1f}",
            f"{one.compress_s:.2f} s",
            f"{one.decompress_s:.2f} s",
        )
        for one in rows
    ]
    return report.markdown(header, lines)


def number(value: float) -> str:
    return "-" if math.isnan(value) else f"{value:.4f}"


def cell(value: object) -> object:
    """Of the CSV: six significant digits, empty where there is nothing."""
    return value if not isinstance(value, float) else "" if math.isnan(value) else f"{value:.6g}"


def run(arguments: argparse.Namespace) -> None:
    paths = [entry.path for entry in program.scan(arguments.folder)]
    goals = [Goal(f"q{value:g}", quality=value) for value in arguments.qualities]
    goals += [Goal(f"{value:g} bpp", bpp=value) for value in arguments.bpps]
    goals += [Goal(f"{value:.0f} bytes", max_bytes=round(value)) for value in arguments.byte_limits]
    codec = rdeic.load(arguments.model, arguments.device, encoder_precision=arguments.encoder_precision)
    codec.decompress(codec.compress(np.zeros((64, 64, 3), np.uint8)))  # loads the model: no part of any time
    judges = metrics.load(arguments.metrics, arguments.perceptual, arguments.device)
    missing = [f"not measured: {one.metric} ({one.reason})" for one in judges.unavailable]
    rows: list[Row] = []
    with tempfile.TemporaryDirectory() as folder:
        bench = Bench(codec, goals, arguments.baselines, judges, Path(folder))
        for done, path in enumerate(paths, start=1):
            rows += measure(bench, path)
            print(f"{done}/{len(paths)} {path.name}", file=sys.stderr)
    averages = means(rows)
    remarks = program.remarks(*findings(rows, goals), *missing)
    cells = [[cell(value) for value in one] for one in [*rows, *averages]]
    program.tell(table(averages), remarks, arguments.output, Row._fields, cells)


def parser() -> argparse.ArgumentParser:
    shared = ("folder", "--model", "--device", "--qualities", "--perceptual", "-o --output")
    options = program.parser(__doc__, *shared)
    options.add_argument("--encoder-precision", default="fp32", metavar="fp32|bf16|fp16")
    options.add_argument(
        "--bpps", type=program.numbers, default="", metavar="B,B,...", help="wanted bits per pixel"
    )
    options.add_argument("--byte-limits", type=program.numbers, default="", metavar="N,N,...")
    options.add_argument(
        "--baselines", type=program.among(CODECS), default="", metavar="CODEC,...", help=", ".join(CODECS)
    )
    options.add_argument(
        "--metrics",
        type=program.among(METRICS),
        default=",".join(METRICS),
        metavar="NAME,...",
        help="default: all",
    )
    return options


if __name__ == "__main__":
    program.leave(lambda: run(parser().parse_args()))

"""At which rates a smaller stored picture looks better: the figures behind `rdeic.codec.scaling`.

    python benchmarks/scaling.py KODAK --perceptual squeezenet1_0.safetensors [--pictures 8] [--enlarge 2] [-o CSV]

Each picture is stored at 1/1, 1/2, ... of its sides at several qualities, restored from the file, scaled back and
compared with the original. Every metric of a picture is read off straight lines over the logarithm of the rate and
averaged over the pictures. Printed are the averages at each rate, the best scale marked; the rate below which each
scale beats the next larger one; the rates that each scale can reach; and what `rdeic.codec.scaling.Rule` makes of it: a
scale is left where the next smaller one is better by two of the three metrics, or where none of the pictures gets so
small.

`--enlarge K` stands in for photographs of more pixels than there are: the middle of each picture, K times as large
(Lanczos), with grain. That is a window of 768x384 in a photograph of 12 megapixels whose finest detail is K pixels
wide; of the bytes around the payload it counts its share.
"""

from __future__ import annotations

import argparse
import itertools
import math
import statistics
import sys
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

import program
import rdeic
from rdeic.codec import scaling
from rdeic.config import ModelConfig
from rdeic.container import container, stored_size
from rdeic.container.container import OVERHEAD
from rdeic.container.stored_size import Size
from rdeic.evaluation import metrics as judges
from rdeic.evaluation import report
from rdeic.evaluation.types import Score
from rdeic.pictures import images

METRICS = ("ssim", "ms_ssim", "perceptual")
LOWER_IS_BETTER = ("perceptual",)
GRAIN = 2.0  # standard deviation, of 255
WINDOW = (768, 384)  # 1/2, 1/3 and 1/6 of these sides are coded without padding
WHOLE = 12_000_000  # pixels of the picture that a window is part of
GRID = [0.001 * 2.0 ** (step / 4) for step in range(36)]  # bits per pixel


class Row(NamedTuple):
    """One picture, stored at one scale and quality."""

    image: str
    width: int
    height: int
    factor: int
    quality: float
    payload: int  # bytes
    bytes: float  # of the file, or a window's share
    bpp: float
    ssim: float
    ms_ssim: float
    perceptual: float


def measure(
    codec: rdeic.Codec,
    metrics: judges.Judges,
    picture: images.Picture,
    name: str,
    options: argparse.Namespace,
) -> Iterator[Row]:
    height, width, _ = picture.shape
    for factor in options.factors:
        small = scaling.shrink(picture, scaling.stored(Size(width, height), factor))
        for quality in options.qualities:
            blob = codec.compress(small, quality)
            payload = len(container.unpack(blob).payload)
            around = OVERHEAD + (stored_size.FILE_BYTES if factor > 1 else 0)
            size = payload + around * (1 if options.enlarge == 1 else width * height / WHOLE)
            restored = scaling.enlarge(codec.decompress(blob), Size(width, height))
            found = by_name(judges.scores(metrics, np.asarray(restored), picture))
            yield Row(
                name, width, height, factor, quality, payload, size, 8 * size / (width * height), *found
            )


def by_name(scores: Sequence[Score]) -> list[float]:
    values = {score.metric: score.value for score in scores}
    return [values.get(name, math.nan) for name in METRICS]


def enlarged(picture: images.Picture, factor: int) -> images.Picture:
    """The middle of a picture, `factor` times as large, with grain."""
    if factor == 1:
        return picture
    height, width, _ = picture.shape
    w, h = min(width, WINDOW[0] // factor), min(height, WINDOW[1] // factor)
    left, top = (width - w) // 2, (height - h) // 2
    middle = Image.fromarray(picture).crop((left, top, left + w, top + h))
    large = np.asarray(middle.resize((w * factor, h * factor), Image.Resampling.LANCZOS), np.float64)
    grain = np.random.default_rng(0).normal(0, GRAIN, large.shape[:2])[..., None]
    return (large + grain).round().clip(0, 255).astype(np.uint8)


def curves(rows: Sequence[Row], metric: str) -> dict[int, NDArray[np.float64]]:
    """By factor: the metric at the rates of GRID, the mean over pictures; nan where a picture does not reach."""
    pictures = list(dict.fromkeys(row.image for row in rows))
    found = {}
    for factor in dict.fromkeys(row.factor for row in rows):
        lines = [line([r for r in rows if (r.image, r.factor) == (one, factor)], metric) for one in pictures]
        found[factor] = np.mean(lines, axis=0)
    return found


def line(rows: Sequence[Row], metric: str) -> NDArray[np.float64]:
    ordered = sorted(rows, key=lambda row: row.bpp)
    rates = [math.log(row.bpp) for row in ordered]
    values = [getattr(row, metric) for row in ordered]
    return np.asarray(np.interp(np.log(GRID), rates, values, left=math.nan, right=math.nan))


class Crossing(NamedTuple):
    """Two neighbouring scales in one metric."""

    metric: str
    larger: int
    smaller: int
    bpp: float  # below it the smaller one is better; 0 if it never is
    common: float  # bpp, the highest that both have; nan if there is none

    def __str__(self) -> str:
        pair = f"{self.metric}, 1/{self.larger} and 1/{self.smaller}:"
        if math.isnan(self.common):
            return f"{pair} no rate in common"
        if self.bpp in (0.0, self.common):
            better = self.smaller if self.bpp else self.larger
            return f"{pair} 1/{better} is better wherever both can be had, up to {self.common:.4f} bpp"
        return f"{pair} 1/{self.smaller} is better below {self.bpp:.4f} bpp"


def crossings(found: dict[int, NDArray[np.float64]], metric: str) -> Iterator[Crossing]:
    sign = -1 if metric in LOWER_IS_BETTER else 1
    for larger, smaller in itertools.pairwise(found):
        gain = sign * (found[smaller] - found[larger])  # positive: the smaller picture is better
        known = np.flatnonzero(~np.isnan(gain))
        common = GRID[known[-1]] if known.size else math.nan
        yield Crossing(metric, larger, smaller, crossing(gain), common)


def crossing(gain: NDArray[np.float64]) -> float:
    """The highest rate of GRID, or between two of them, up to which `gain` is positive; 0 if it never is."""
    positive = np.flatnonzero(np.nan_to_num(gain) > 0)
    if not positive.size:
        return 0.0
    last = positive[-1]
    if last + 1 == len(GRID) or math.isnan(gain[last + 1]):
        return float(GRID[last])
    share = gain[last] / (gain[last] - gain[last + 1])
    return float(GRID[last] * (GRID[last + 1] / GRID[last]) ** share)


def reaches(rows: Sequence[Row]) -> Iterator[str]:
    """Which rates the pictures have at the lowest and the highest quality of each scale."""
    for factor in dict.fromkeys(row.factor for row in rows):
        ends = []
        for quality in (min(row.quality for row in rows), max(row.quality for row in rows)):
            rates = sorted(row.bpp for row in rows if (row.factor, row.quality) == (factor, quality))
            ends.append(
                f"quality {quality:g}: {rates[0]:.4f}, {statistics.median(rates):.4f}, {rates[-1]:.4f}"
            )
        yield f"1/{factor}, bpp (lowest, median, highest): {'; '.join(ends)}"


def rule(rows: Sequence[Row], found: Sequence[Crossing], config: ModelConfig) -> str:
    """What `scaling.Rule` is to say."""
    names, least = {1: "full", 2: "half", 3: "third", 4: "quarter"}, {}
    lowest = min(row.quality for row in rows)
    for factor in sorted({row.factor for row in rows} & names.keys()):
        here = [row for row in rows if (row.factor, row.quality) == (factor, lowest)]
        leave = statistics.median([0.0, *(one.bpp for one in found if one.larger == factor)][-len(METRICS) :])
        rates = []
        for row in here:
            size, around = Size(row.width, row.height), row.bytes - row.payload
            wanted = max(row.payload, leave * row.width * row.height / 8 - around)
            rates.append(scaling.stored_rate(size, factor, wanted, config))
        least[names[factor]] = min(rates)
    return f"Rule({', '.join(f'{name}={rate:.4f}' for name, rate in least.items())})"


def table(found: dict[int, NDArray[np.float64]], metric: str) -> str:
    rows = []
    for i, rate in enumerate(GRID):
        values = {factor: values[i] for factor, values in found.items() if not math.isnan(values[i])}
        if not values:
            continue
        best = (min if metric in LOWER_IS_BETTER else max)(values, key=values.__getitem__)
        cells = [cell(values.get(factor), factor == best) for factor in found]
        rows.append([f"{rate:.4f}", *cells])
    return report.markdown([f"{metric}, bpp", *(f"1/{factor}" for factor in found)], rows)


def cell(value: float | None, best: bool) -> str:
    if value is None:
        return "-"
    return f"**{value:.3f}**" if best else f"{value:.3f}"


def run(options: argparse.Namespace) -> None:
    program.use_threads(options.threads)
    entries = program.scan(options.folder, options.pictures)
    codec = rdeic.load(options.model, options.device)
    metrics = judges.load(METRICS, options.perceptual, options.device)
    rows: list[Row] = []
    for done, entry in enumerate(entries, start=1):
        picture = enlarged(images.read(entry.path), options.enlarge)
        rows += measure(codec, metrics, picture, entry.name, options)
        print(f"{done}/{len(entries)} {entry.name}", file=sys.stderr)
    remarks = program.remarks()
    pairs: list[Crossing] = []
    tables = []
    for metric in METRICS:
        found = curves(rows, metric)
        pairs += crossings(found, metric)
        tables.append(table(found, metric))
    remarks += [*map(str, pairs), *reaches(rows), rule(rows, pairs, codec.config)]
    program.tell("\n\n".join(tables), remarks, options.output, Row._fields, rows)


def parser() -> argparse.ArgumentParser:
    shared = ("folder", "--pictures", "--model", "--device", "--threads", "--qualities", "--perceptual")
    options = program.parser(__doc__, *shared, "-o --output")
    options.set_defaults(qualities="0,10,30,60,100")
    options.add_argument("--factors", type=program.counts, default="1,2,3,4,6,8", metavar="F,F,...")
    options.add_argument("--enlarge", type=int, default=1, metavar="K")
    return options


if __name__ == "__main__":
    program.leave(lambda: run(parser().parse_args()))

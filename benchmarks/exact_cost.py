"""What exact arithmetic costs, in bits and in seconds, against the same networks in float32.

    python benchmarks/exact_cost.py PICTURES [--model NAME|DIR] [--qualities 0,50,100] [--pictures N] [--runs 3]
        [--threads 1]

For each quality a Markdown row of bits, summed over the pictures, each beside the one before:

    float        ideal code length of y under the float networks' Gaussians
    arithmetic   the same under the exact networks': weights, activations, mu and sigma on their grids
    scales       sigma taken from the table of 64
    frequencies  integer frequencies, escapes included
    y stream     the bytes that the range coder wrote
    file         with hyper indices, header and checksum

Then CPU seconds of one picture: E and g_a; coding y with either set of networks, by the same walk and range coder.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

import program
from analyses.allocation import symbol_bits
from rdeic.checkpoints import checkpoints, registry
from rdeic.container import payload
from rdeic.container.container import OVERHEAD
from rdeic.entropy import tables
from rdeic.evaluation import report
from rdeic.model.entropy_model import EntropyModel
from rdeic.model.latent_codec import Walked, encode_y, quantise_all
from rdeic.model.model import Rdeic
from rdeic.model.networks import QUALITY_STEPS
from rdeic.nn.rate import bits
from rdeic.pictures import images
from rdeic.types import CodedLatent, EntropyParams


class Bits(NamedTuple):
    """Of one picture, or a sum."""

    plain: float
    arithmetic: float
    scales: float
    frequencies: float
    y_stream: float
    file: float


class Seconds(NamedTuple):
    """CPU seconds, the least of several runs."""

    analysis: float
    plain: float
    exact: float


class Scaled(NamedTuple):
    """y at one quality, and what both sets of networks make of its hyper-latent."""

    y: Tensor
    indices: Tensor
    hyper: Tensor  # float32
    exact_hyper: Tensor


def scaled(model: Rdeic, y: Tensor, quality: int) -> Scaled:
    level = torch.tensor([quality / QUALITY_STEPS])
    found = model.compression.scale_y(y, level)
    entropy, exact = model.compression.entropy, model.exact
    indices = entropy.codebook.nearest(model.compression.h_a(found))
    return Scaled(
        found,
        indices,
        entropy.hyper(entropy.codebook.lookup(indices), level),
        exact.hyper(exact.codebook.lookup(indices), level.double()),
    )


def count_bits(model: Rdeic, y: Tensor, quality: int) -> Bits:
    at = scaled(model, y, quality)
    float_walk = quantise_all(model.compression.entropy, at.y, at.hyper)
    walk = quantise_all(model.exact, at.y.double(), at.exact_hyper)
    scales = tables.scale_index(walk.params.sigma.numpy())
    sigma = torch.from_numpy(tables.SCALES[scales])
    stream = encode_y(model.exact, at.y.double(), at.exact_hyper)
    packed = payload.join(CodedLatent(at.indices[0].numpy(), stream), model.config)
    return Bits(
        float(bits(float_walk.y_hat, float_walk.params)),
        float(bits(walk.y_hat, walk.params)),
        float(bits(walk.y_hat, EntropyParams(mu=walk.params.mu, sigma=sigma))),
        table_bits(walk, scales),
        8 * len(stream),
        8 * (len(packed) + OVERHEAD),
    )


def table_bits(walk: Walked, scales: NDArray[np.int64]) -> float:
    """-log2 of the integer frequencies of all symbols."""
    symbols = (walk.y_hat - walk.params.mu).round().numpy().astype(np.int64)
    return float(symbol_bits(symbols, scales).sum())


def cpu_seconds(runs: int, work: Callable[[], Any]) -> float:
    seconds = []
    for _ in range(runs + 1):
        start = time.process_time()
        work()
        seconds.append(time.process_time() - start)
    return min(seconds[1:])


def time_parts(model: Rdeic, pixels: Tensor, quality: int, runs: int) -> Seconds:
    y = model.analyse(pixels)
    at = scaled(model, y, quality)
    level = torch.tensor([quality / QUALITY_STEPS])

    def code(entropy: EntropyModel, dtype: torch.dtype) -> None:
        hyper = entropy.hyper(entropy.codebook.lookup(at.indices), level.to(dtype))
        encode_y(entropy, at.y.to(dtype), hyper)

    return Seconds(
        cpu_seconds(runs, lambda: model.analyse(pixels)),
        cpu_seconds(runs, lambda: code(model.compression.entropy, torch.float32)),
        cpu_seconds(runs, lambda: code(model.exact, torch.float64)),
    )


def pixels_of(path: Path, multiple: int) -> Tensor:
    padded = images.pad(images.read(path), multiple)
    return torch.from_numpy(padded).permute(2, 0, 1)[None] / 127.5 - 1  # (1, 3, H, W)


def bits_table(totals: dict[int, Bits]) -> str:
    rows = []
    for quality, total in totals.items():
        steps = zip(total[1:], total, strict=False)
        cells = [f"{now:,.0f} ({100 * (now / before - 1):+.2f}%)" for now, before in steps]
        share = 100 * (total.frequencies / total.plain - 1)
        rows.append([f"{100 * quality / QUALITY_STEPS:g}", f"{total.plain:,.0f}", *cells, f"{share:+.2f}%"])
    return report.markdown(["quality", "float", *Bits._fields[1:], "float to frequencies"], rows)


def seconds_table(seconds: Seconds) -> str:
    both = seconds.analysis + seconds.plain, seconds.analysis + seconds.exact
    rows = [
        ["E and g_a", f"{seconds.analysis:.3f}", f"{seconds.analysis:.3f}", ""],
        [
            "coding y",
            f"{seconds.plain:.3f}",
            f"{seconds.exact:.3f}",
            f"{seconds.exact / seconds.plain - 1:+.0%}",
        ],
        ["both", f"{both[0]:.3f}", f"{both[1]:.3f}", f"{both[1] / both[0] - 1:+.0%}"],
    ]
    return report.markdown(["CPU seconds", "float", "exact", "more"], rows)


def run(options: argparse.Namespace) -> None:
    program.use_threads(options.threads)
    paths = [entry.path for entry in program.scan(options.folder, options.pictures)]
    model, _ = checkpoints.load_model(registry.find(options.model), "cpu")
    qualities = [round(q * QUALITY_STEPS / 100) for q in options.qualities]
    with torch.inference_mode():
        pixels = [pixels_of(path, model.config.hyper_stride) for path in paths]
        latents = [model.analyse(one) for one in pixels]
        totals = {
            quality: Bits(*map(sum, zip(*(count_bits(model, y, quality) for y in latents), strict=True)))
            for quality in qualities
        }
        seconds = time_parts(model, pixels[0], qualities[len(qualities) // 2], options.runs)
    names = ", ".join(path.stem for path in paths)
    print(bits_table(totals), seconds_table(seconds), sep="\n\n")
    print(f"\n`{report.command()}`\n\n{report.machine()}\n\n{len(paths)} pictures: {names}")


def parser() -> argparse.ArgumentParser:
    options = program.parser(__doc__, "folder", "--pictures", "--model", "--qualities", "--runs", "--threads")
    options.set_defaults(qualities="0,50,100", runs=3, threads=1)
    return options


if __name__ == "__main__":
    program.leave(lambda: run(parser().parse_args()))

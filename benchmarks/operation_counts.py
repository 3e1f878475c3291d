"""What each part of a model computes and moves, counted on the networks' shapes: nothing is computed, no GPU is needed.

    python benchmarks/operation_counts.py [--model sd21] [--sizes 768x512,1920x1088] [--norms library,torch,kernels]
        [--bandwidth 4.8] [--throughput 790] [-o operation_counts.csv]

For E, a denoising step (control network and noise estimator), D, and the exact networks from hyper indices to all of
y_hat: operations (a multiplication and an addition are
two), bytes of activations and weights read and written by all launches together, launches, and the most activations
alive at a time. The least times are those of `--throughput` TFLOP/s and of `--bandwidth` TB/s. Counted as on CUDA:

    library   group norm copies channels-last input (reads, writes), adds up (reads), scales (reads, writes), in 4
              launches, one of them of tables; SiLU reads and writes; the convolution after it copies back (reads,
              writes)
    torch     nn/norm.py without Triton, as its operations say; on a GPU only large activations go that way
    kernels   nn/norm_triton.py: 3 launches, reads twice, writes once, SiLU included

A convolution reads its input and weights and writes its output; its bias is one more launch that reads and writes. An
attention is one launch that reads q, k, v and writes the result.
"""

from __future__ import annotations

import argparse
import functools
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

import program
from rdeic.config import PRESETS, ModelConfig
from rdeic.evaluation import report
from rdeic.model.entropy_model import EntropyModel
from rdeic.model.latent_codec import symbols_of
from rdeic.model.model import Rdeic
from rdeic.nn.exact import exact_copy
from tally import CHANNELS_LAST, FusedAttention, Tally, instrument

PRECISIONS = {"fp32": torch.float32, "bf16": torch.bfloat16}
NORMS = ("library", "torch", "kernels")
EXACT = "exact"


class Row(NamedTuple):
    size: str
    part: str
    precision: str
    norms: str
    operations: float
    bytes: int  # of which:
    bytes_of_norms: int  # SiLU and the copies around them included
    bytes_of_products: int  # convolutions and matrices
    bytes_of_attention: int
    launches: int
    launches_of_norms: int
    peak_bytes: int


def count(config: ModelConfig, size: tuple[int, int], part: str, precision: str, norms: str) -> Row:
    width, height = size
    tally = Tally(norms == "kernels")
    with torch.device("meta"):
        model = Rdeic(config).eval().requires_grad_(False)
        model.set_precision(PRECISIONS[precision], PRECISIONS[precision])
        h, w = (side // config.autoencoder.stride for side in (height, width))
        x, z, guide = (
            torch.zeros(1, *shape).contiguous(memory_format=CHANNELS_LAST)
            for shape in (
                (3, height, width),
                (config.autoencoder.latent_channels, h, w),
                (config.compression.width, h, w),
            )
        )
        t = torch.zeros(1)
    works: dict[str, Callable[[], Tensor]] = {
        "E": lambda: model.autoencoder.feature(x),
        "step": lambda: model.predict_noise(z, t, guide),
        "D": lambda: model.autoencoder.decode(z),
    }
    instrument(model, tally, norms != "library")
    with torch.no_grad(), tally, FusedAttention(tally):
        works[part]()
    return _row(size, part, precision, norms, tally)


@functools.cache
def exact_networks(config: ModelConfig) -> EntropyModel:
    """On the meta device, where only their shapes matter; made on the CPU, as their making looks at weights."""
    return exact_copy(EntropyModel(config.compression)).to("meta")


def count_exact(config: ModelConfig, size: tuple[int, int]) -> Row:
    tally, exact = Tally(kernels=False), exact_networks(config)
    height, width = (-(-side // config.hyper_stride) for side in reversed(size))
    with torch.device("meta"):
        indices = torch.zeros(1, height, width, dtype=torch.int64)
        y = torch.zeros(1, config.compression.y_channels, 4 * height, 4 * width, dtype=torch.float64)
        level = torch.zeros(1, dtype=torch.float64)
        with torch.no_grad(), tally:
            symbols_of(exact, y, exact.hyper(exact.codebook.lookup(indices), level))
    return _row(size, EXACT, "fp64", "", tally)


def _row(size: tuple[int, int], part: str, precision: str, norms: str, tally: Tally) -> Row:
    return Row(
        f"{size[0]}x{size[1]}",
        part,
        precision,
        norms,
        tally.operations,
        tally.bytes.total(),
        tally.bytes["norm"],
        tally.bytes["products"] + tally.bytes["bias"],
        tally.bytes["attention"],
        tally.launches.total(),
        tally.launches["norm"],
        tally.peak,
    )


def table(rows: list[Row], throughput: float, bandwidth: float) -> str:
    header = (
        "part",
        "precision",
        "norms",
        "TFLOP",
        "GB moved",
        "by norms",
        "by products",
        "by attention",
        "launches",
        "by norms",
        "peak",
        f"ms at {throughput:g} TFLOP/s",
        f"ms at {bandwidth:g} TB/s",
    )
    lines = [
        (
            row.part,
            row.precision,
            row.norms,
            f"{row.operations / 1e12:.2f}",
            f"{row.bytes / 1e9:.2f}",
            f"{row.bytes_of_norms / 1e9:.2f}",
            f"{row.bytes_of_products / 1e9:.2f}",
            f"{row.bytes_of_attention / 1e9:.2f}",
            str(row.launches),
            str(row.launches_of_norms),
            f"{row.peak_bytes / 2**30:.2f} GiB",
            "" if row.part == EXACT else f"{row.operations / throughput / 1e9:.2f}",
            f"{row.bytes / bandwidth / 1e9:.2f}",
        )
        for row in rows
    ]
    return report.markdown(header, lines)


def run(options: argparse.Namespace) -> None:
    config, rows = PRESETS[options.model], list[Row]()
    for size in options.sizes:
        found = [
            count(config, size, part, precision, norms)
            for part, precisions in (("E", ("fp32", "bf16")), ("step", ("bf16",)), ("D", ("bf16",)))
            for precision in precisions
            for norms in options.norms
        ]
        found.append(count_exact(config, size))
        print(f"{found[0].size}\n\n{table(found, options.throughput, options.bandwidth)}\n", flush=True)
        rows += found
    remarks = [f"`{report.command()}`", f"{options.model}, batch 1"]
    print(*remarks, sep="\n\n")
    if options.output:
        report.write_csv(options.output, Row._fields, rows, remarks)


def parser() -> argparse.ArgumentParser:
    options = program.parser(__doc__, "-o --output")
    options.add_argument("--model", choices=PRESETS, default="sd21")
    options.add_argument("--sizes", type=program.sizes, default="768x512,1920x1088", metavar="WxH,...")
    options.add_argument("--norms", type=program.among(NORMS), default=NORMS, metavar=",".join(NORMS))
    options.add_argument("--throughput", type=float, default=790.0, metavar="TFLOP/S")
    options.add_argument("--bandwidth", type=float, default=4.8, metavar="TB/S")
    return options


if __name__ == "__main__":
    program.leave(lambda: run(parser().parse_args()))

"""Peak memory of activations where a picture runs in tiles, counted on the networks' shapes: nothing is computed.

    python benchmarks/tiled_counts.py [--model sd21] [--sizes 1920x1080,4000x3000] [--precision fp16|bf16|fp32]

For E, relay diffusion and D: the batch that group norms take their statistics from, and one tile or window, as
`rdeic.model.tiled` cuts them without a limit of memory; beside them the same network on the whole picture. Alive are
activations and what norms need in between, not weights, whose size is printed below. Attention counts as a kernel that
holds no scores.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

import program
from rdeic.config import PRESETS, ModelConfig
from rdeic.evaluation import report
from rdeic.model.model import Rdeic
from rdeic.model.tiles import Sample, Tiling
from rdeic.nn import moments
from tally import CHANNELS_LAST, FusedAttention, Tally

PRECISIONS = {"fp16": torch.float16, "bf16": torch.bfloat16, "fp32": torch.float32}


class Row(NamedTuple):
    part: str
    shape: str
    peak: int


def networks(config: ModelConfig, dtype: torch.dtype) -> dict[str, Callable[[int, int, int], Tensor]]:
    """By part: what computes a batch of so many pictures of a height and width in pixels."""
    with torch.device("meta"):
        model = Rdeic(config).eval().requires_grad_(False).set_precision(dtype, dtype)
        model = model.to(memory_format=CHANNELS_LAST)  # type: ignore[call-overload]

    def zeros(batch: int, channels: int, height: int, width: int, stride: int) -> Tensor:
        shape = (batch, channels, height // stride, width // stride)
        return torch.zeros(shape, device="meta").contiguous(memory_format=CHANNELS_LAST)

    latents, stride, width_of_guide = (
        config.autoencoder.latent_channels,
        config.autoencoder.stride,
        config.compression.width,
    )

    def step(batch: int, height: int, width: int) -> Tensor:
        z, guide = (zeros(batch, channels, height, width, stride) for channels in (latents, width_of_guide))
        estimate: Tensor = model.predict_noise(z, torch.zeros(batch, device="meta"), guide)
        return estimate

    return {
        "E": lambda batch, height, width: model.autoencoder.feature(zeros(batch, 3, height, width, 1)),
        "step": step,
        "D": lambda batch, height, width: model.autoencoder.decode(
            zeros(batch, latents, height, width, stride)
        ),
    }


def peak(work: Callable[[int, int, int], Tensor], batch: int, height: int, width: int) -> int:
    tally = Tally(kernels=False)
    with torch.no_grad(), tally, FusedAttention(tally):
        work(batch, height, width)
    return tally.peak


def count(config: ModelConfig, size: tuple[int, int], dtype: torch.dtype) -> list[Row]:
    tiling, rows = Tiling(), []
    width, height = (-(-side // config.hyper_stride) * config.hyper_stride for side in size)
    for part, work in networks(config, dtype).items():
        rows.append(_row(f"{part}, whole", work, 1, height, width))
        diffusion = part == "step"
        sample: Sample = tiling.window_sample if diffusion else tiling.sample
        side = tiling.window if diffusion else tiling.side + 2 * tiling.halo
        tile = (min(side, height), min(side, width))
        if diffusion and tile == (height, width):
            continue  # one window
        square = sample.side + 2 * sample.halo
        with moments.recorded(sample.halo / square) as known:
            rows.append(_row(f"{part}, statistics", work, sample.count, square, square))
        with moments.given(known):
            rows.append(_row(f"{part}, {'window' if diffusion else 'tile'}", work, 1, *tile))
    return rows


def _row(part: str, work: Callable[[int, int, int], Tensor], batch: int, height: int, width: int) -> Row:
    return Row(part, f"{batch} x {width}x{height}", peak(work, batch, height, width))


def run(options: argparse.Namespace) -> None:
    config, dtype = PRESETS[options.model], PRECISIONS[options.precision]
    for size in options.sizes:
        rows = count(config, size, dtype)
        lines = [(row.part, row.shape, f"{row.peak / 2**30:.2f} GiB") for row in rows]
        print(f"{size[0]}x{size[1]}\n\n{report.markdown(('', 'computed', 'peak'), lines)}\n", flush=True)
    with torch.device("meta"):
        model = Rdeic(config).set_precision(dtype, dtype)
    weights = sum(value.nbytes for value in model.state_dict().values())
    print(f"`{report.command()}`, {options.model}, {options.precision}; weights: {weights / 2**30:.2f} GiB")


def parser() -> argparse.ArgumentParser:
    options = program.parser(__doc__)
    options.add_argument("--model", choices=PRESETS, default="sd21")
    options.add_argument("--sizes", type=program.sizes, default="1920x1080", metavar="WxH,...")
    options.add_argument("--precision", choices=PRECISIONS, default="bf16")
    return options


if __name__ == "__main__":
    program.leave(lambda: run(parser().parse_args()))

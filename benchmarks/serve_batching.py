"""Would the server gain by restoring several pictures of one shape at once? Pictures a second, by their number.

    python benchmarks/serve_batching.py --threads 2

The networks after the bits (g_s, denoising steps, D) are those that could share a pass; the range coder cannot. The
ratio is that to one picture at a time, in the same run. "same" says whether the first picture of a pass is to the bit
what it is alone, as a server has to promise.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

import program
from rdeic.checkpoints import checkpoints, registry
from rdeic.codec import codec, decoder
from rdeic.container import container, payload
from rdeic.evaluation.bench import times
from rdeic.model import precision as precisions
from rdeic.model.model import Rdeic
from rdeic.types import CompressedFeatures

_BATCHES = (1, 2, 4)
_STEPS = 2


class Restored(NamedTuple):
    """Pictures of one pass, and the seconds that it took."""

    pictures: Tensor  # (B, 3, H, W)
    seconds: float


def decoded(model: Rdeic, width: int, height: int) -> list[CompressedFeatures]:
    """What the bits of several files of one shape say."""
    coder, texture, found = codec.load(device="cpu"), times.texture(width, height), []
    for number in range(max(_BATCHES)):
        file = container.unpack(coder.compress(np.roll(texture, 61 * number, axis=1)))
        with torch.inference_mode():
            coded = payload.split(file.header, file.payload, model.config)
            found.append(model.decode(coded, file.header.quality))
    return found


def noises(like: Sequence[CompressedFeatures]) -> Iterator[Tensor]:
    """Each picture's own noise."""
    each = [decoder.noises(seed, features.z_c) for seed, features in enumerate(like)]
    while True:
        yield torch.cat([next(one) for one in each])


def restore(model: Rdeic, features: Sequence[CompressedFeatures]) -> Restored:
    """All in one pass."""
    together = CompressedFeatures(*(torch.cat(parts) for parts in zip(*features, strict=True)))
    began = time.perf_counter()
    with torch.inference_mode():
        pictures = model.restore(together, noises(features), _STEPS, 1.0)
    return Restored(pictures, time.perf_counter() - began)


def rows(model: Rdeic, size: str, runs: int) -> Iterator[str]:
    """Of the table, for one size."""
    features = decoded(model, *program.size(size))
    taken = {batch: list[float]() for batch in _BATCHES}
    same = {}
    alone = restore(model, features[:1]).pictures
    for run in range(runs + 1):  # in turn; the first warms up
        for batch in _BATCHES:
            found = restore(model, features[:batch])
            taken[batch] += [found.seconds] if run else []
            same[batch] = "yes" if torch.equal(found.pictures[:1], alone) else "no"
    rates = {batch: batch / statistics.median(seconds) for batch, seconds in taken.items()}
    name = str(model.precision).removeprefix("torch.")
    for batch, rate in rates.items():
        yield f"| {name} | {size} | {batch} | {rate:.2f} | {rate / rates[1]:.2f} | {same[batch]} |"


def main() -> None:
    parser = program.parser(__doc__, "--threads", "--runs")
    parser.add_argument("--sizes", default="256x256,768x512")
    options = parser.parse_args()
    program.use_threads(options.threads)
    cpu = torch.device("cpu")
    print("| precision | size | pictures at once | pictures a second | to one at a time | same |")
    print("|---|---|---:|---:|---:|---|")
    served = precisions.automatic(cpu, precisions.capabilities())
    for chosen in dict.fromkeys((torch.float32, served or torch.float32)):
        model, _ = checkpoints.load_model(registry.find("mini"), cpu, precision=chosen)
        for size in options.sizes.split(","):
            print(*rows(model, size, options.runs), sep="\n", flush=True)


if __name__ == "__main__":
    program.leave(main)

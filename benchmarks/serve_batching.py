"""Would the server gain by restoring several pictures of one shape at once? Pictures a second, by their number.

    python benchmarks/serve_batching.py --threads 2

The networks after the bits (g_s, denoising steps, D) are those that could share a pass; the range coder cannot. The
ratio is that to one picture at a time, in the same run.
"""

from __future__ import annotations

import statistics
import time

import torch
from PIL import Image

import program
from rdeic.checkpoints import checkpoints, registry
from rdeic.codec import codec, decoder
from rdeic.container import container, payload
from rdeic.model.model import Rdeic
from rdeic.types import CompressedFeatures

_BATCHES = (1, 2, 4)


def seconds(model: Rdeic, features: CompressedFeatures, batch: int, seed: int) -> float:
    """Of one pass over `batch` pictures."""
    together = CompressedFeatures(*(part.expand(batch, -1, -1, -1).contiguous() for part in features))
    began = time.perf_counter()
    with torch.inference_mode():
        model.restore(together, decoder.noises(seed, together.z_c), 2, 1.0)
    return time.perf_counter() - began


def main() -> None:
    parser = program.parser(__doc__, "--threads", "--runs")
    parser.add_argument("--sizes", default="256x256,768x512")
    options = parser.parse_args()
    program.use_threads(options.threads)
    model, _ = checkpoints.load_model(registry.find("mini"), torch.device("cpu"))
    print("| size | pictures at once | pictures a second | to one at a time |\n|---|---:|---:|---:|")
    for size in options.sizes.split(","):
        width, height = map(int, size.split("x"))
        picture = Image.linear_gradient("L").convert("RGB").resize((width, height))
        file = container.unpack(codec.load(device="cpu").compress(picture))
        coded = payload.split(file.header, file.payload, model.config)
        with torch.inference_mode():
            features = model.decode(coded, file.header.quality)
        taken = {batch: list[float]() for batch in _BATCHES}
        for run in range(options.runs + 1):  # in turn; the first warms up
            for batch in _BATCHES:
                took = seconds(model, features, batch, run)
                taken[batch] += [took] if run else []
        rates = {batch: batch / statistics.median(times) for batch, times in taken.items()}
        for batch, rate in rates.items():
            print(f"| {size} | {batch} | {rate:.2f} | {rate / rates[1]:.2f} |")


if __name__ == "__main__":
    program.leave(main)

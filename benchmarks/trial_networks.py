"""Networks for mini's autoencoder side by side: each trained from scratch for the same time, then judged held out.

    python benchmarks/trial_networks.py mini mini-next --config configs/mini-next/autoencoder.toml --minutes 12 \
        --data PHOTOGRAPHS

Time is the processor's, not the clock's: other programs beside it change the end of a trial, not its result. One line
for each network: parameters, seconds to restore a latent of 768x512 (bfloat16, one thread), steps, metrics.
"""

from __future__ import annotations

import argparse
import dataclasses
import sys
import time
from pathlib import Path

import torch

import program
from rdeic.config import PRESETS, ModelConfig, from_json
from rdeic.model.model import Rdeic
from rdeic.training import config as settings
from rdeic.training import sources
from rdeic.training.data import Holding, ImageSet, Sampling, centre_crops
from rdeic.training.stages import build_stage
from rdeic.training.trainer import Trainer

PICTURE = (512, 768)
HORIZON = 1_000_000  # steps that no trial reaches: the batches are drawn up to here
SCHEDULE = 10_000  # the learning rate follows the time, in so many parts


def network(name: str) -> ModelConfig:
    """A preset, or a model configuration in a JSON file."""
    return PRESETS[name] if name in PRESETS else from_json(Path(name).read_text(encoding="utf-8"))


def restoring_seconds(model: Rdeic) -> float:
    """The quickest of five: D on one picture's latent."""
    decoder, stride = model.autoencoder, model.config.autoencoder.stride
    z = torch.randn(1, model.config.autoencoder.latent_channels, PICTURE[0] // stride, PICTURE[1] // stride)
    times = []
    with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16):
        for _ in range(6):
            start = time.process_time()
            decoder.decode(z.to(memory_format=torch.channels_last))
            times.append(time.process_time() - start)
    return min(times[1:])


def trial(name: str, arguments: argparse.Namespace) -> str:
    """Trains one network from scratch; what came of it."""
    config = dataclasses.replace(settings.read(arguments.config), steps=SCHEDULE, warmup_steps=SCHEDULE // 50)
    torch.manual_seed(config.seed)
    model = Rdeic(network(name))
    trainer = Trainer(build_stage("autoencoder", model, config), config)
    training, held_out = sources.split(sources.find(arguments.data))
    sampling = Sampling(config.batch, config.crop, config.seed)
    pictures = ImageSet(training, sampling, range(config.batch), Holding(config.cache_mb << 20, None))
    seconds, steps, start = 60.0 * arguments.minutes, 0, time.process_time()
    for batch in pictures.batches(0, HORIZON):
        done = (time.process_time() - start) / seconds
        if done >= 1:
            break
        trainer.step = int(done * SCHEDULE)  # so that the learning rate ends with the time
        step = trainer.advance(batch)
        steps += 1
        if steps % 100 == 0:
            print(f"{name} {steps} {done:.2f} {step.loss.total.item():.4f}", file=sys.stderr, flush=True)
    metrics = trainer.validate(centre_crops(held_out, config.validation_images, 256))
    parameters = sum(p.numel() for p in model.autoencoder.parameters()) / 1e6
    judged = "  ".join(f"{metric} {value:.4g}" for metric, value in metrics)
    return f"{name}: {parameters:.2f} M, D {restoring_seconds(model):.3f} s, {steps} steps, {judged}"


def main() -> None:
    options = program.parser(__doc__)
    options.add_argument("networks", nargs="+", metavar="PRESET|JSON")
    options.add_argument("--config", type=Path, required=True, help="of the autoencoder stage")
    options.add_argument("--data", type=Path, action="append", required=True)
    options.add_argument("--minutes", type=float, default=20.0, help="of one processor, each")
    arguments = options.parse_args()
    torch.set_num_threads(1)
    for name in arguments.networks:
        print(trial(name, arguments), flush=True)


if __name__ == "__main__":
    program.leave(main)

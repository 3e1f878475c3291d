"""Floating-point operations of a training run, counted on the networks' shapes without computing anything.

    python benchmarks/training_cost.py independent configs/sd21/independent-first.toml [--sustained 40]

A multiplication and an addition are two. Counted are the frozen E, the compression module, the noise estimator with
its control network, in the fixed-step stage L times and with D, and all gradients; not the perceptual distance and the
optimiser (below 1% each at full size), nor what `checkpoint_activations` computes again (up to a third more). Hours
are operations over --sustained (TFLOP/s), which is an assumption.
"""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils.flop_counter import FlopCounterMode

import program
from rdeic.config import PRESETS, ModelConfig
from rdeic.evaluation import report
from rdeic.model.model import Rdeic
from rdeic.training import config as settings
from rdeic.training.method import reshaped

STAGES = ("independent", "fixed-step")


def operations(stage: str, config: ModelConfig, crop: int) -> float:
    """Of one crop through one training step."""
    with FakeTensorMode():
        model = Rdeic(config).requires_grad_(False)
        for part in (model.compression, model.control):
            part.requires_grad_(True)
        side = crop // config.autoencoder.stride
        x = torch.zeros(1, 3, crop, crop)
        noise = torch.zeros(1, config.compression.y_channels, side // 2, side // 2)
        t = torch.zeros(1)
        with FlopCounterMode(display=False) as counter:
            with torch.no_grad():
                encoded = model.autoencoder.encode(x)
            compressed = model.compression(encoded.feature, t, noise)
            z: Tensor = compressed.features.z_c
            fixed = stage == "fixed-step"
            for _ in range(config.diffusion.default_steps if fixed else 1):
                z = z - model.predict_noise(z, t, compressed.features.guide)
            restored = model.autoencoder.decode(z) if fixed else z
            (restored.sum() + compressed.bits.sum() + compressed.codebook_loss).backward()
    return float(counter.get_total_flops())


def line(stage: str, path: Path, sustained: float) -> tuple[str, ...]:
    """One row of the table."""
    config = settings.read(path)
    crop = operations(stage, reshaped(PRESETS[config.name], config.method), config.crop)
    total = crop * config.batch * config.steps
    hours = total / (sustained * 1e12 * 3600)
    return (
        path.stem,
        f"{crop / 1e12:.2f}",
        str(config.batch),
        f"{config.steps:,}",
        f"{total:.1e}",
        f"{hours:.1f}",
    )


def main() -> None:
    options = program.parser(__doc__)
    options.add_argument("stage", choices=STAGES)
    options.add_argument("configs", type=Path, nargs="+", metavar="TOML")
    options.add_argument("--sustained", type=float, default=40.0, metavar="TFLOP/S")
    chosen = options.parse_args()
    header = (
        "run",
        "TFLOP a crop",
        "crops a step",
        "steps",
        "FLOP",
        f"hours at {chosen.sustained:g} TFLOP/s",
    )
    lines = [line(chosen.stage, path, chosen.sustained) for path in chosen.configs]
    print(report.markdown(header, lines))


if __name__ == "__main__":
    program.leave(main)

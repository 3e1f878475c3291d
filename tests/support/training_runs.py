"""Training configurations: a plain one to change, the same written down, and weights of a distance to train with."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

from rdeic.training import perceptual
from rdeic.training.config import CriticConfig, LossWeights, TrainConfig
from rdeic.training.method import MethodConfig

PLAIN = TrainConfig(
    name="tiny",
    model="tiny",
    steps=100,
    minutes=0.0,
    batch=2,
    accumulate=1,
    crop=64,
    learning_rate=3e-3,
    gain_lr_factor=1.0,
    weight_decay=0.1,
    warmup_steps=0,
    final_lr_fraction=1.0,
    clip_norm=1.0,
    ema_decay=0.9,
    precision="fp32",
    checkpoint_activations=False,
    compile=False,
    seed=0,
    threads=0,
    cache_mb=1,
    images_on="host",
    log_every=1,
    validate_every=1,
    validation_images=1,
    checkpoint_every=1,
    keep_last=1,
    keep_best="",
    rounded_rate=False,
    train_decoder=False,
    decoder_lr_factor=1.0,
    features="",
    perceptual="",
    loss=LossWeights(
        kl=1e-4,
        lambda_min=0.5,
        lambda_max=8.0,
        balance=0.0,
        mse=1.0,
        perceptual=0.0,
        ms_ssim=0.0,
        latent=1.0,
        z_c=1.0,
        z_c_shown=0.5,
        latent_noise=0.0,
        anchor=0.0,
        rate_targets=(),
        rate_speed=0.0,
    ),
    critic=CriticConfig(pixel=0.0, feature=0.0, width=8, learning_rate=1e-3, start=0, ramp=0),
    method=MethodConfig(framework="relay", relay_start=300, steps=2, codebook=16),
)


def changed(loss: Mapping[str, float], **changes: Any) -> TrainConfig:
    """`PLAIN` with other weights of the loss, and other settings."""
    return dataclasses.replace(PLAIN, loss=dataclasses.replace(PLAIN.loss, **loss), **changes)


def save_distance(folder: Path) -> Path:
    """A SqueezeNet with random weights, for the perceptual distance."""
    torch.manual_seed(0)
    path = folder / "squeezenet.safetensors"
    save_file(perceptual.SqueezeNetDistance().state_dict(), path)
    return path


def write_config(config: TrainConfig, changes: Mapping[str, object], path: Path) -> Path:
    """`config` with `changes`, which it may not allow, as the TOML file `path`."""
    values = dataclasses.asdict(config) | dict(changes)
    tables = [f"[{name}]\n{_lines(values.pop(name))}" for name in ("loss", "critic", "method")]
    path.write_text("\n".join([_lines(values), *tables]))
    return path


def _lines(values: Mapping[str, object]) -> str:
    return "".join(f"{name} = {json.dumps(value)}\n" for name, value in values.items())

"""Something small to try the agenda with, on any machine: the same commands, a tiny model, made pictures."""

from __future__ import annotations

import argparse
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from safetensors.torch import save_file

from rdeic.checkpoints.checkpoints import save_model
from rdeic.config import MINI, AutoencoderConfig, ControlConfig
from rdeic.model.model import Rdeic
from rdeic.training.perceptual import SqueezeNetDistance

TINY = replace(
    MINI,
    name="tiny",
    autoencoder=AutoencoderConfig(
        (8, 16, 16), 1, 4, patch=2, mid_attention=False, subpixel=True, latent_scale=1.0
    ),
    compression=replace(
        MINI.compression,
        width=16,
        y_channels=16,
        slices=(4, 12),
        blocks=1,
        context_widths=(16, 16),
        codebook_size=16,
        quality_levels=3,
    ),
    unet=replace(MINI.unet, widths=(16, 32), attention_levels=(1,), head_channels=16),
    control=ControlConfig(ratio=0.5, head_channels=8),
)
PICTURES = 6


def make_tiny(arguments: argparse.Namespace) -> None:
    """Replaces what is large by something small, and makes what was not given."""
    folder: Path = arguments.work / "tiny"
    arguments.full_size, arguments.sizes, arguments.runs, arguments.precision = "tiny", "128x128", 1, "fp32"
    if "train" not in arguments.only:
        return
    folder.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(0)
    if not arguments.data:
        arguments.data.append(make_pictures(folder / "pictures"))
    if arguments.start is None:
        arguments.start = folder / "start"
        save_model(Rdeic(TINY), arguments.start)
    if arguments.perceptual is None:
        arguments.perceptual = folder / "perceptual.safetensors"
        save_file(SqueezeNetDistance().state_dict(), arguments.perceptual)
    arguments.train = [[stage, shrunk(Path(path), folder), share] for stage, path, share in arguments.train]


def make_pictures(folder: Path) -> Path:
    folder.mkdir(exist_ok=True)
    rng = np.random.default_rng(0)
    for number in range(PICTURES):
        small = Image.fromarray(rng.integers(0, 256, (9, 12, 3), dtype=np.uint8))
        small.resize((272, 208), Image.Resampling.BICUBIC).save(folder / f"{number}.png")
    return folder


def shrunk(path: Path, folder: Path) -> str:
    """The settings in `path` with small numbers => where they were written."""
    text = path.read_text(encoding="utf-8")
    crop = 64 if "ms_ssim = 0.0" in text else 192  # as MS-SSIM needs
    for name, value in (("batch", 2), ("crop", crop), ("validation_images", 1), ("log_every", 5)):
        text = re.sub(rf"^{name} = \d+", f"{name} = {value}", text, count=1, flags=re.M)
    small = folder / path.name
    small.write_text(text, encoding="utf-8")
    return str(small)

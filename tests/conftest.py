"""A tiny model with random weights: everything works with it, nothing looks good."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from rdeic import codec, images
from rdeic.config import (
    AutoencoderConfig,
    CompressionConfig,
    ControlConfig,
    DiffusionConfig,
    ModelConfig,
    UNetConfig,
)

TINY = ModelConfig(
    name="tiny",
    autoencoder=AutoencoderConfig(
        widths=(8, 16, 16),
        blocks_per_level=1,
        latent_channels=4,
        patch=2,
        mid_attention=False,
        subpixel=True,
        latent_scale=1.0,
    ),
    compression=CompressionConfig(
        width=16,
        y_channels=16,
        slices=(4, 12),
        blocks=1,
        context_widths=(16, 16),
        codebook_size=16,
        quality_levels=3,
    ),
    unet=UNetConfig(
        widths=(16, 32),
        blocks_per_level=1,
        attention_levels=(1,),
        head_channels=16,
        context_channels=0,
        patch=2,
    ),
    control=ControlConfig(ratio=0.5, head_channels=8),
    diffusion=DiffusionConfig(),
)


def save_random_model(config: ModelConfig, folder: Path, seed: int) -> Path:
    """A model folder with weights drawn from `seed`."""
    import torch

    from rdeic.checkpoints import save_model
    from rdeic.model import Rdeic

    torch.manual_seed(seed)
    save_model(Rdeic(config), folder)
    return folder


@pytest.fixture(scope="session")
def tiny_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_random_model(TINY, tmp_path_factory.mktemp("models") / "tiny", seed=0)


@pytest.fixture(scope="session")
def tiny(tiny_folder: Path) -> codec.Codec:
    return codec.load(tiny_folder, "cpu")


@pytest.fixture(scope="session")
def photo() -> images.Picture:
    """(96, 130, 3): smooth, with some texture, and sides that are no multiples of 64."""
    y, x = np.mgrid[:96, :130].astype(np.float64)
    waves = [np.sin(x / 9 + y / 17), np.cos(y / 7 - x / 31), np.sin(x * y / 900)]
    noise = np.random.default_rng(0).normal(0, 6, (96, 130, 3))
    return (np.stack(waves, -1) * 90 + 128 + noise).clip(0, 255).astype(np.uint8)

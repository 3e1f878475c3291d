"""Tiny models with random weights: everything works with them, nothing looks good."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from rdeic.config import (
    AutoencoderConfig,
    CompressionConfig,
    ControlConfig,
    DiffusionConfig,
    LocalAutoencoderConfig,
    ModelConfig,
    UNetConfig,
)

if TYPE_CHECKING:
    from torch import Tensor

    from rdeic.model.entropy_model import EntropyModel


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


# Norm groups of two channels. TINY normalises every channel alone, which swallows whatever is constant over a channel:
# the time embedding and the biases before a norm.
WIDE = dataclasses.replace(
    TINY,
    autoencoder=dataclasses.replace(TINY.autoencoder, widths=(34, 36, 40)),
    unet=dataclasses.replace(TINY.unet, widths=(40, 48)),
    control=dataclasses.replace(TINY.control, ratio=1.0),
)


def save_random_model(config: ModelConfig, folder: Path, seed: int) -> Path:
    """A model folder with weights drawn from `seed`."""
    import torch

    from rdeic.checkpoints.checkpoints import save_model
    from rdeic.model.model import Rdeic

    torch.manual_seed(seed)
    save_model(Rdeic(config), folder)
    return folder


def lively_entropy_model(seed: int, low: float = 0.1, high: float = 4.0) -> EntropyModel:
    """TINY's entropy model, its last layers such that mu varies by units and sigma from about `low` to `high`."""
    import torch

    from rdeic.model.entropy_model import EntropyModel

    torch.manual_seed(seed)
    entropy = EntropyModel(TINY.compression).eval().requires_grad_(False)
    entropy.codebook.entries.normal_()
    assert entropy.hyper_quality is not None
    entropy.hyper_quality.knots.normal_(std=0.3)
    for context in entropy.context:
        for last in (context.anchor_params[-1], context.non_anchor_params[-1]):
            sigma, mu = last.bias.chunk(2)
            sigma.uniform_(float(np.log(low)), float(np.log(high))).exp_()
            mu.normal_(std=2.0)
            last.weight.chunk(2)[0].mul_(low)
            last.weight.chunk(2)[1].mul_(3.0)
    return entropy


def likely_y(entropy: EntropyModel, hyper: Tensor, seed: int) -> Tensor:
    """y (B, M, h, w), drawn from the entropy model itself."""
    import torch

    from rdeic.model.entropy_model import Pass

    generator = torch.Generator().manual_seed(seed)
    y = torch.zeros(hyper.shape[0], sum(entropy.slices), *hyper.shape[2:])

    def visit(step: Pass) -> Tensor:
        noise = torch.randn(step.params.mu.shape, generator=generator)
        value = step.params.mu + step.params.sigma.clamp(min=0.11) * noise
        y[:, step.channels] += step.half.spread(value)
        return (value - step.params.mu).round() + step.params.mu

    entropy.walk(hyper, visit)
    return y


LOCAL = LocalAutoencoderConfig(
    encoder_widths=(8, 8, 16),
    encoder_blocks=(1, 1, 1),
    decoder_widths=(8, 8, 16, 16),
    decoder_blocks=(1, 1, 1, 1),
    refine_channels=4,
    latent_channels=4,
    latent_scale=1.0,
)

"""What training stages need: settings, a fresh model, noise, a batch."""

from __future__ import annotations

import torch
from torch import Tensor

from rdeic.config import ModelConfig
from rdeic.model.model import Rdeic
from rdeic.training.config import LossWeights, TrainConfig
from rdeic.training.method import MethodConfig
from rdeic.training.noise import Noise
from support.tiny import TINY
from support.training_runs import NO_CRITIC


def config(train_decoder: bool = False) -> TrainConfig:
    return TrainConfig(
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
        train_decoder=train_decoder,
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
            latent_noise=0.0,
            anchor=0.0,
            rate_targets=(),
            rate_speed=0.0,
        ),
        critic=NO_CRITIC,
        method=MethodConfig(framework="relay", relay_start=300, steps=2, codebook=16),
    )


def fresh(shape: ModelConfig = TINY) -> Rdeic:
    torch.manual_seed(0)
    return Rdeic(shape)


def noise(seed: int) -> Noise:
    """For a whole batch of `pictures`."""
    return Noise(torch.Generator().manual_seed(seed), 0, 2)


def pictures(size: int = 64) -> Tensor:
    """(2, 3, size, size) uint8: smooth, with edges and some noise."""
    ramp = torch.linspace(0, 6, size)
    waves = torch.stack([torch.sin(ramp[:, None] * k + ramp[None, :] * (3 - k)) for k in (1, 2, 3)])
    noise = torch.randn(2, 3, size, size, generator=torch.Generator().manual_seed(0))
    both = torch.stack([waves, waves.flip(2).sign()])
    return (both * 80 + 128 + 8 * noise).clamp(0, 255).to(torch.uint8)

"""Settings of a training run, read strictly from TOML: every setting must be written down, none has a default."""

from __future__ import annotations

import itertools
import tomllib
from dataclasses import dataclass, fields
from pathlib import Path

from rdeic.config import build
from rdeic.errors import ConfigError
from rdeic.training.method import MethodConfig

PRECISIONS = ("fp32", "bf16", "fp16")
PLACES = ("host", "device")
MAX_CROP = 4096  # pixels; far beyond, the machine rather than the program runs out of memory


@dataclass(frozen=True)
class LossWeights:
    """Weights of the loss terms; a stage ignores those it does not use."""

    kl: float  # KL divergence of the autoencoder's posterior from N(0, 1)
    lambda_min: float  # rate-distortion trade-off at quality 0
    lambda_max: float  # rate-distortion trade-off at quality 255
    balance: float  # each picture's loss is divided by lambda_r to this power; 0: as in the paper
    mse: float  # squared error of pixels
    perceptual: float  # distance of `perceptual.load`
    ms_ssim: float  # 1 - MS-SSIM, fixed-step stage only; crops of 192 pixels or more
    latent: float  # squared error of the restored latent z0_hat; of eps where that is learned
    z_c: float  # squared error of the compressed latent z_c
    z_c_shown: (
        float  # so much of it, 0 to 1, as D shows it, to first order; the rest for all of the latent alike
    )
    latent_noise: float  # autoencoder stage: D sees z0 with up to so many deviations of noise
    anchor: float  # fixed-step stage, where D learns: squared error of D(z0), the first sixth of each batch
    rate_targets: tuple[
        float, ...
    ]  # bits per pixel that lambda_r holds, at equally spaced qualities; () for none
    rate_speed: float  # how fast: of log lambda_r, a step, for a rate off by a factor of e

    def __post_init__(self) -> None:
        for field in fields(self):
            if field.name != "rate_targets":
                _require(getattr(self, field.name) >= 0, f"loss.{field.name}", "at least 0")
        _require(self.z_c_shown <= 1, "loss.z_c_shown", "at most 1")
        rates = (0.0, *self.rate_targets)
        rising = all(low < high for low, high in itertools.pairwise(rates))
        _require(
            len(rates) != 2 and rising, "loss.rate_targets", "empty, or two or more rates above 0 that rise"
        )


@dataclass(frozen=True)
class CriticConfig:
    """Networks that judge how real restored pictures look; none where both weights are 0."""

    pixel: float  # weight of the critic that sees the picture and its latent
    feature: float  # weight of the critic that sees features of the perceptual network
    width: int  # channels of the first layer of the pixel critic
    learning_rate: float  # at its peak
    start: int  # steps before they begin
    ramp: int  # steps in which their weights rise from 0

    def __post_init__(self) -> None:
        for name in ("pixel", "feature", "start", "ramp"):
            _require(getattr(self, name) >= 0, f"critic.{name}", "at least 0")
        _require(self.width >= 1, "critic.width", "at least 1")
        _require(self.learning_rate > 0, "critic.learning_rate", "above 0")

    def weight(self, step: int) -> float:
        """What part of the weights counts after `step` steps, 0 to 1."""
        return min(max(step - self.start, 0) / self.ramp, 1.0) if self.ramp else float(step >= self.start)


@dataclass(frozen=True)
class TrainConfig:
    """One run of one stage."""

    name: str  # of the model that comes out
    model: str  # where to start: a preset for a fresh network, or a folder of weights
    steps: int  # at most, where `minutes` is above 0
    minutes: float  # of training after which a run ends; 0: after `steps` alone
    batch: int  # crops per step, of all processes and micro-batches together
    accumulate: int  # micro-batches that a process makes of its share of a batch, one after the other
    crop: int  # pixels a side, a multiple of 64
    learning_rate: float  # of AdamW, at its peak
    gain_lr_factor: float  # the gains that quality scales y with learn this many times as fast as the rest
    weight_decay: float  # on matrices and kernels; biases and gains are left alone
    warmup_steps: int  # linear rise to the peak
    final_lr_fraction: float  # the cosine's end, as a fraction of the peak
    clip_norm: float  # global gradient norm
    ema_decay: float  # of the averaged weights, which are what is validated and exported
    precision: str  # "fp32", or autocast to "bf16" or (CUDA only, with a scaled loss) "fp16"
    checkpoint_activations: bool  # blocks run again for the gradient: less memory, more time, same result
    compile: bool  # translate the networks first: less time a step, a minute or more before the first
    seed: int
    threads: int  # of torch on the CPU; 0 leaves the choice to torch
    cache_mb: int  # decoded pictures that a process holds; the rest is decoded at every use
    images_on: str  # where it holds them: "host", or "device" to crop there as well
    log_every: int
    validate_every: int
    validation_images: int  # at most this many held-out centre crops
    checkpoint_every: int
    keep_last: int  # checkpoints kept
    keep_best: str  # held-out metric whose best model is kept as `best`, or ""
    rounded_rate: bool  # R of the rounded y, as coded; false: of y + uniform noise, as in the paper's system
    train_decoder: bool  # fixed-step stage: D learns along (beyond the paper); other stages ignore it
    decoder_lr_factor: float  # as fast as this, where it does
    features: str  # folder that holds E's features of all pictures, for stages that see no pixel; "" for none
    perceptual: str  # "lpips", a path to SqueezeNet 1.0 safetensors, or "" for none
    loss: LossWeights
    critic: CriticConfig
    method: MethodConfig

    def __post_init__(self) -> None:
        for name in ("steps", "batch", "accumulate", "log_every", "validate_every", "validation_images"):
            _require(getattr(self, name) >= 1, name, "at least 1")
        for name in ("checkpoint_every", "keep_last"):
            _require(getattr(self, name) >= 1, name, "at least 1")
        for name in ("minutes", "weight_decay", "warmup_steps", "seed", "threads", "cache_mb"):
            _require(getattr(self, name) >= 0, name, "at least 0")
        for name in ("learning_rate", "gain_lr_factor", "decoder_lr_factor", "clip_norm"):
            _require(getattr(self, name) > 0, name, "above 0")
        _require(
            64 <= self.crop <= MAX_CROP and self.crop % 64 == 0, "crop", f"a multiple of 64 up to {MAX_CROP}"
        )
        _require(0 <= self.final_lr_fraction <= 1, "final_lr_fraction", "between 0 and 1")
        _require(0 <= self.ema_decay < 1, "ema_decay", "at least 0 and below 1")
        _require(self.precision in PRECISIONS, "precision", f"one of {', '.join(PRECISIONS)}")
        _require(self.images_on in PLACES, "images_on", f"one of {', '.join(PLACES)}")
        _require(self.batch % self.accumulate == 0, "batch", "a multiple of accumulate")


def read(path: Path) -> TrainConfig:
    """The settings in the TOML file `path`. Raises ConfigError naming the file and the setting."""
    try:
        settings = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"cannot read the training settings {path}: {error.strerror}") from error
    except ValueError as error:
        raise ConfigError(f"{path} is not valid TOML: {error}") from error
    return build(TrainConfig, settings, str(path))


def _require(holds: bool, name: str, demand: str) -> None:
    if not holds:
        raise ConfigError(f"training setting {name} must be {demand}")

"""Frozen configurations of every network, and the two presets `mini` and `sd21`.

A configuration says everything that shapes a model; together with a folder of weights it *is* the model. It is
stored as JSON beside the weights, strictly: an unknown or missing field is an error, never a default.
"""

from __future__ import annotations

import dataclasses
import json
import types
import typing
from dataclasses import dataclass
from typing import Any, TypeVar

from rdeic.errors import ConfigError

Config = TypeVar("Config")


@dataclass(frozen=True)
class AutoencoderConfig:
    """KL autoencoder E, D: picture (3, H, W) in [-1, 1] <-> latent z0 (latent_channels, H/s, W/s), s = `stride`."""

    widths: tuple[int, ...]  # channels per resolution level, finest first
    blocks_per_level: int
    latent_channels: int
    patch: int  # pixel-unshuffle factor before the first convolution; 1 for Stable Diffusion
    mid_attention: bool  # single-head attention at the coarsest level (quadratic in the number of positions)
    subpixel: bool  # upsample by pixel shuffle; False: nearest neighbour and convolution, as Stable Diffusion
    latent_scale: float  # z0 = latent_scale * posterior sample; also applied to the encoder feature

    @property
    def stride(self) -> int:
        """s: pixels of the picture for each position of z0 and of the feature, in each direction."""
        return self.patch * 2 ** (len(self.widths) - 1)

    @property
    def feature_channels(self) -> int:
        """Channels of the last encoder feature, the analysis transform's input."""
        return self.widths[-1]

    @property
    def values_per_pixel(self) -> int:
        """Values in the largest activations of E and D, per pixel of the picture."""
        return self.widths[0] // self.patch**2

    @property
    def slow(self) -> bool:
        """Whether E convolves at full resolution: reading bits then costs little beside making them."""
        return self.patch == 1


@dataclass(frozen=True)
class LocalAutoencoderConfig:
    """KL autoencoder of plain convolutions (nn/local_autoencoder.py), s = 8 with three levels of E."""

    encoder_widths: tuple[int, ...]  # channels at 1/2, 1/4, 1/8 of the picture's resolution
    encoder_blocks: tuple[int, ...]
    decoder_widths: tuple[int, ...]  # the same, and one level more, the trunk
    decoder_blocks: tuple[int, ...]
    refine_channels: int  # between the two layers at full resolution
    latent_channels: int
    latent_scale: float  # as in AutoencoderConfig

    def __post_init__(self) -> None:
        levels = len(self.encoder_widths)
        lengths = (len(self.encoder_blocks), len(self.decoder_widths) - 1, len(self.decoder_blocks) - 1)
        if levels < 2 or lengths != (levels,) * 3:
            raise ConfigError("the decoder has one level more than the encoder, which has at least two")

    @property
    def stride(self) -> int:
        """s: pixels of the picture for each position of z0 and of the feature, in each direction."""
        return int(2 ** len(self.encoder_widths))

    @property
    def feature_channels(self) -> int:
        """Channels of the last encoder feature, the analysis transform's input."""
        return self.encoder_widths[-1]

    @property
    def values_per_pixel(self) -> int:
        """Values in the largest activations of E and D, per pixel of the picture."""
        return max(self.refine_channels, self.encoder_widths[0] // 4, self.decoder_widths[0] // 4)

    @property
    def slow(self) -> bool:
        """False: E does not convolve at full resolution."""
        return False


@dataclass(frozen=True)
class CompressionConfig:
    """Transforms, codebook and context model. y lives at half the latent's resolution, hyper at an eighth."""

    width: int  # N: channels of the transforms and of a codebook entry
    y_channels: int  # M: channels of y, the sum of `slices`
    slices: tuple[int, ...]  # uneven channel slices of the context model, coded first to last
    blocks: int  # residual blocks on each side of the strided convolution of the transforms
    context_widths: tuple[int, int]  # hidden channels of the channel context
    codebook_size: int
    quality_levels: int  # knots of the continuous-rate tables; 0: one fixed rate

    def __post_init__(self) -> None:
        if sum(self.slices) != self.y_channels:
            raise ConfigError(
                f"slices {self.slices} sum to {sum(self.slices)}, but y has {self.y_channels} channels"
            )
        if self.quality_levels == 1:
            raise ConfigError("quality_levels is 0 (one fixed rate) or at least 2")


@dataclass(frozen=True)
class UNetConfig:
    """The noise estimator eps_sd, a U-Net."""

    widths: tuple[int, ...]  # channels per resolution level, finest first
    blocks_per_level: int
    attention_levels: tuple[int, ...]  # levels with transformer blocks; the middle always has one
    head_channels: int
    context_channels: int  # width of the text context; 0: unconditional, no cross-attention
    patch: int  # the latent is folded patch x patch before the first convolution; 1 for Stable Diffusion


@dataclass(frozen=True)
class ControlConfig:
    """Control network: the U-Net's encoder and middle at a fraction of its width (Section IV-A2)."""

    ratio: float
    head_channels: int


@dataclass(frozen=True)
class DiffusionConfig:
    """Noise schedule of Stable Diffusion and the relay start N."""

    train_steps: int = 1000  # T
    beta_start: float = 0.00085
    beta_end: float = 0.0120
    relay_start: int = 300  # N; z_N is at index N - 1
    default_steps: int = 2  # L the model was fine-tuned for


@dataclass(frozen=True)
class ModelConfig:
    """Everything that shapes one model."""

    name: str
    autoencoder: AutoencoderConfig | LocalAutoencoderConfig
    compression: CompressionConfig
    unet: UNetConfig
    control: ControlConfig
    diffusion: DiffusionConfig

    @property
    def y_stride(self) -> int:
        """Pixels per position of y."""
        return 2 * self.autoencoder.stride

    @property
    def hyper_stride(self) -> int:
        """Pixels per position of the hyper-latent; pictures are padded to a multiple of it."""
        return 8 * self.autoencoder.stride


MINI = ModelConfig(
    name="mini",
    autoencoder=AutoencoderConfig(
        widths=(48, 96, 160),
        blocks_per_level=1,
        latent_channels=16,
        patch=2,
        mid_attention=False,
        subpixel=True,
        latent_scale=1.0,
    ),
    compression=CompressionConfig(
        width=112,
        y_channels=80,
        slices=(8, 8, 16, 20, 28),
        blocks=2,
        context_widths=(80, 48),
        codebook_size=1024,
        quality_levels=6,
    ),
    unet=UNetConfig(
        widths=(176, 160),
        blocks_per_level=1,
        attention_levels=(),
        head_channels=32,
        context_channels=0,
        patch=2,
    ),
    control=ControlConfig(ratio=0.25, head_channels=16),
    diffusion=DiffusionConfig(),
)

SD21 = ModelConfig(
    name="sd21",
    autoencoder=AutoencoderConfig(
        widths=(128, 256, 512, 512),
        blocks_per_level=2,
        latent_channels=4,
        patch=1,
        mid_attention=True,
        subpixel=False,
        latent_scale=0.18215,
    ),
    compression=CompressionConfig(
        width=256,
        y_channels=256,
        slices=(8, 8, 8, 8, 16, 16, 32, 32, 64, 64),
        blocks=3,
        context_widths=(224, 128),
        codebook_size=16384,
        quality_levels=0,
    ),
    unet=UNetConfig(
        widths=(320, 640, 1280, 1280),
        blocks_per_level=2,
        attention_levels=(0, 1, 2),
        head_channels=64,
        context_channels=1024,
        patch=1,
    ),
    control=ControlConfig(ratio=0.2, head_channels=16),
    diffusion=DiffusionConfig(),
)

# Trained from fresh weights by configs/mini-next; MINI shapes the embedded weights until these are better.
MINI_NEXT = ModelConfig(
    name="mini",
    autoencoder=LocalAutoencoderConfig(
        encoder_widths=(32, 64, 128),
        encoder_blocks=(1, 1, 3),
        decoder_widths=(32, 64, 128, 256),
        decoder_blocks=(2, 3, 4, 6),
        refine_channels=8,
        latent_channels=16,
        latent_scale=1.0,
    ),
    compression=dataclasses.replace(MINI.compression, blocks=3),
    unet=dataclasses.replace(MINI.unet, widths=(208, 192)),
    control=MINI.control,
    diffusion=dataclasses.replace(MINI.diffusion, default_steps=1),
)

PRESETS = types.MappingProxyType({"mini": MINI, "mini-next": MINI_NEXT, "sd21": SD21})


def to_json(config: ModelConfig) -> str:
    """The configuration as JSON text, stable from run to run."""
    return json.dumps(dataclasses.asdict(config), indent=2) + "\n"


def from_json(text: str) -> ModelConfig:
    """Inverse of `to_json`. Raises ConfigError on anything but a complete configuration."""
    try:
        fields = json.loads(text)
    except ValueError as error:
        raise ConfigError(f"the model configuration is not valid JSON: {error}") from error
    return build(ModelConfig, fields, "model")


def build(kind: type[Config], fields: Any, where: str) -> Config:
    """A frozen dataclass from parsed JSON or TOML; every field must be there and of its declared type."""
    if not isinstance(fields, dict):
        raise ConfigError(f"{where}: expected a table of settings, got {type(fields).__name__}")
    hints = typing.get_type_hints(kind)
    unknown, missing = sorted(fields.keys() - hints.keys()), sorted(hints.keys() - fields.keys())
    if unknown or missing:
        raise ConfigError(f"{where}: unknown settings {unknown}, missing settings {missing}")
    return kind(**{name: _value(hint, fields[name], f"{where}.{name}") for name, hint in hints.items()})


def _value(hint: Any, value: Any, where: str) -> Any:
    if isinstance(hint, types.UnionType):
        hint = _fitting(typing.get_args(hint), value)
    if dataclasses.is_dataclass(hint):
        return build(typing.cast("type[Any]", hint), value, where)
    if typing.get_origin(hint) is tuple:
        if not isinstance(value, list | tuple):
            raise ConfigError(f"{where}: expected a list, got {value!r}")
        return tuple(_value(typing.get_args(hint)[0], item, where) for item in value)
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if not isinstance(value, hint) or (hint is int and isinstance(value, bool)):
        raise ConfigError(f"{where}: expected {hint.__name__}, got {value!r}")
    return value


def _fitting(kinds: tuple[Any, ...], value: Any) -> Any:
    """Of several dataclasses the one whose fields `value` has most of; the first of equals."""
    names = value.keys() if isinstance(value, dict) else ()
    return max(kinds, key=lambda kind: sum(field.name in names for field in dataclasses.fields(kind)))

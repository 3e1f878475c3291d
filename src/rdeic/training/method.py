"""What a run trains: the paper's method, or a variant of it that Section V compares with."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

from rdeic.config import ModelConfig
from rdeic.diffusion.schedule import BASELINE, RELAY_DDPM, Sampler
from rdeic.errors import ConfigError

# How z0 is reached; None: not at all, D sees z_c.
SAMPLERS: dict[str, Sampler | None] = {"relay": RELAY_DDPM, "pure-noise": BASELINE, "none": None}
MAX_STEPS = 255  # a file gives them one byte


@dataclass(frozen=True)
class MethodConfig:
    """The choices of Section V. They shape the model that a run starts from, and stay in the one that comes out."""

    framework: (
        str  # "relay" (Eq. 10), "pure-noise" (Eq. 1 over all T, as DiffEIC) or "none" (no diffusion at all)
    )
    relay_start: int  # N
    steps: int  # L: the fixed-step stage trains exactly these, and files are restored with as many
    codebook: int  # entries; another number than the model has makes a fresh codebook

    def __post_init__(self) -> None:
        if self.framework not in SAMPLERS:
            names = ", ".join(SAMPLERS)
            raise ConfigError(
                f"training setting method.framework must be one of {names}, not {self.framework!r}"
            )
        if self.relay_start < 1 or self.codebook < 2:
            raise ConfigError(
                "training settings method.relay_start and method.codebook must be at least 1 and 2"
            )
        most = self.relay_start if self.framework == "relay" else MAX_STEPS
        if not 1 <= self.steps <= min(most, MAX_STEPS):
            raise ConfigError(f"training setting method.steps must be between 1 and {min(most, MAX_STEPS)}")

    @property
    def sampler(self) -> Sampler | None:
        """For `Rdeic.restore` of a model trained this way."""
        return SAMPLERS[self.framework]


def reshaped(config: ModelConfig, method: MethodConfig) -> ModelConfig:
    """The model's configuration with N, L and the codebook of `method`.

    Raises ConfigError if the noise schedule is shorter than N.
    """
    longest = config.diffusion.train_steps
    if method.relay_start > longest:
        raise ConfigError(
            f"training setting method.relay_start must be at most {longest}, the length of the noise schedule"
        )
    return dataclasses.replace(
        config,
        compression=dataclasses.replace(config.compression, codebook_size=method.codebook),
        diffusion=dataclasses.replace(
            config.diffusion, relay_start=method.relay_start, default_steps=method.steps
        ),
    )

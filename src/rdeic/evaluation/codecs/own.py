"""Models of this package as codecs."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

import rdeic
from rdeic.checkpoints import registry
from rdeic.codec.codec import Codec
from rdeic.codec.weights import Settings
from rdeic.errors import ConfigError
from rdeic.pictures.images import Picture

CONTINUOUS = ("q0", "q25", "q50", "q75", "q100")  # of a model with one network for all qualities
FIXED = ("fixed",)  # of a model with one fixed rate
_SETTING = re.compile(r"q(?P<quality>\d+(\.\d+)?)|(?P<bpp>\d+(\.\d+)?)bpp|fixed")
_HIGHEST = 100  # quality
_TRAINED = "model"  # what training calls the folder of any model


@dataclass(frozen=True)
class OwnCodec:
    """An installed model. Settings: "q25" is a quality, "0.05bpp" a wanted rate, "fixed" the only one there is."""

    name: str
    folder: Path  # of the model
    settings: tuple[str, ...]
    device: str | None  # None: the first GPU, or else the CPU
    timeout: float  # seconds

    @cached_property
    def version(self) -> str:
        """Package, model, and the fingerprints of its weights."""
        prints = ", ".join(registry.fingerprint(rate).hex() for rate in registry.rates(self.folder))
        return f"rdeic {rdeic.__version__} {registry.describe(self.folder).config.name} ({prints})"

    def prepare(self) -> None:
        """Runs a tiny picture through every rate's weights. Raises what loading them raises."""
        tiny = np.zeros((64, 64, 3), np.uint8)
        for setting in self.settings if len(registry.rates(self.folder)) > 1 else self.settings[:1]:
            quality = None if setting.endswith("bpp") else _parse(setting)[0]
            self._codec.decompress(self._codec.compress(tiny, quality))

    def encode(self, picture: Picture, setting: str) -> bytes:
        """Raises what `rdeic.Codec.compress` raises: RateError where a picture cannot reach a wanted rate."""
        quality, bpp = _parse(setting)
        return self._codec.compress(picture, quality, bpp)

    def decode(self, data: bytes) -> Picture:
        """Restores as the file says. Raises what `rdeic.Codec.decompress` raises."""
        return np.array(self._codec.decompress(data))

    @cached_property
    def _codec(self) -> Codec:
        return Codec(self.folder, Settings(self.device))


def create(model: str, settings: tuple[str, ...], device: str | None, timeout: float) -> OwnCodec:
    """The codec of an installed model's name or a model folder; no settings: the default ones of its kind.

    It is called rdeic if the model is mini and no wheel's, rdeic-NAME otherwise. Raises ConfigError for the model or a
    setting that it does not have.
    """
    folder = registry.find(model)
    found = registry.describe(folder)
    own = found.name == "mini" and not registry.in_wheel(folder)
    name = "rdeic" if own else f"rdeic-{model_name(folder)}"
    grid = _grid(folder)
    for setting in settings:
        _check(name, setting, fixed=grid == FIXED)
    return OwnCodec(name, folder, settings or grid, device, timeout)


def model_name(folder: Path) -> str:
    """What to call the model in a folder: by the folder, or by the one above it where training named it.

    A wheel's is called NAME-FINGERPRINT, so that models of one name can be compared.
    """
    if registry.in_wheel(folder):
        return registry.lasting_name(folder)
    place = folder.resolve()
    return place.parent.name if place.name == _TRAINED else place.name


def _grid(folder: Path) -> tuple[str, ...]:
    rates = len(registry.rates(folder))
    if rates > 1:
        return tuple(f"q{100 * i / (rates - 1):g}" for i in range(rates))
    return CONTINUOUS if registry.describe(folder).config.compression.quality_levels else FIXED


def _check(name: str, setting: str, fixed: bool) -> None:
    """Raises ConfigError for a setting that no picture could be coded at."""
    quality, bpp = _parse(setting) if _SETTING.fullmatch(setting) else (None, None)
    valid = (quality is not None and quality <= _HIGHEST) or (bpp is not None and bpp > 0)
    if not (setting in FIXED if fixed else valid):
        choice = FIXED[0] if fixed else "q0 to q100 for a quality, or a rate such as 0.05bpp"
        raise ConfigError(f"{name} has no setting {setting!r}: choose from {choice}")


def _parse(setting: str) -> tuple[float | None, float | None]:
    """Quality and bpp; at most one is given."""
    found = _SETTING.fullmatch(setting)
    assert found is not None  # `create` saw to it
    quality, bpp = found["quality"], found["bpp"]
    return (float(quality) if quality else None), (float(bpp) if bpp else None)

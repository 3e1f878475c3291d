"""Learned codecs through the packages that keep them. They run on the CPU, where their entropy coders belong."""

from __future__ import annotations

import importlib
import re
import struct
from dataclasses import dataclass
from functools import cached_property
from importlib import metadata
from typing import Any

import numpy as np
import torch
from torch import Tensor

from rdeic.errors import ConfigError, ImageError
from rdeic.evaluation.types import UnavailableCodec
from rdeic.pictures.images import Picture, pad

COMPRESSAI = {  # highest quality of each model in its zoo
    "bmshj2018-hyperprior": 8,
    "mbt2018-mean": 8,
    "mbt2018": 8,
    "cheng2020-anchor": 6,
    "cheng2020-attn": 6,
}
MSILLM = "msillm"
MSILLM_HIGHEST = 6
WITHOUT_WEIGHTS = {
    "elic": "CompressAI has no weights of ELIC; describe the program you have, as examples/codecs does",
    "hific": "NeuralCompression has no weights of HiFiC; describe the program you have, as examples/codecs does",
}
NAMES = (*COMPRESSAI, MSILLM, *WITHOUT_WEIGHTS)
_STRIDE = 64  # of the hyper-latent
_HEAD = struct.Struct("<HHI")  # width, height, bytes of the latent; those of the hyper-latent are the rest


@dataclass(frozen=True)
class LearnedCodec:
    """A hyperprior model. Settings: "q1" and up are the qualities of its package."""

    name: str
    settings: tuple[str, ...]
    timeout: float  # seconds

    @property
    def version(self) -> str:
        """Name and version of the Python package."""
        package = "neuralcompression" if self.name == MSILLM else "compressai"
        return f"{package} {metadata.version(package)}"

    def prepare(self) -> None:
        """Loads all networks, by download if need be. Raises whatever the package raises."""
        for setting in self.settings:
            self._network(setting)

    def encode(self, picture: Picture, setting: str) -> bytes:
        """(H, W, 3) uint8 -> a quality byte, the sizes, and both streams. Raises whatever the package raises."""
        height, width, _ = picture.shape
        pixels = torch.from_numpy(pad(picture, _STRIDE)).permute(2, 0, 1)[None] / 255
        with torch.inference_mode():
            y, z = self._compress(self._network(setting), pixels)
        # The decoder has to know which network: its quality takes the place of a container's model field.
        return bytes([int(setting[1:])]) + _HEAD.pack(width, height, len(y)) + y + z

    def decode(self, data: bytes) -> Picture:
        """Raises ImageError for a file that is too short, and whatever the package raises."""
        if len(data) <= 1 + _HEAD.size:
            raise ImageError(f"{self.name}: {len(data)} bytes are too few for a file")
        width, height, size = _HEAD.unpack_from(data, 1)
        body = data[1 + _HEAD.size :]
        shape = (-(-height // _STRIDE) * _STRIDE, -(-width // _STRIDE) * _STRIDE)
        with torch.inference_mode():
            pixels = self._decompress(self._network(f"q{data[0]}"), body[:size], body[size:], shape)
        restored = (pixels[0, :, :height, :width].clamp(0, 1) * 255).round().to(torch.uint8)
        return np.ascontiguousarray(restored.permute(1, 2, 0).numpy())

    @cached_property
    def _networks(self) -> dict[str, Any]:
        return {}

    def _network(self, setting: str) -> Any:
        if setting not in self._networks:
            quality = int(setting[1:])
            if self.name == MSILLM:
                zoo = importlib.import_module("neuralcompression.zoo")
                network = getattr(zoo, f"msillm_quality_{quality}")(pretrained=True).eval()
                network.update()
            else:
                zoo = importlib.import_module("compressai.zoo")
                network = zoo.image_models[self.name](quality, metric="mse", pretrained=True).eval()
            self._networks[setting] = network
        return self._networks[setting]

    def _compress(self, network: Any, pixels: Tensor) -> tuple[bytes, bytes]:
        """(1, 3, H, W) in 0..1, sides multiples of _STRIDE -> coded latent and hyper-latent."""
        made = network.compress(pixels)
        if self.name == MSILLM:
            return made.latent_strings[0], made.hyper_latent_strings[0]
        (y,), (z,) = made["strings"]
        return y, z

    def _decompress(self, network: Any, y: bytes, z: bytes, shape: tuple[int, int]) -> Tensor:
        if self.name == MSILLM:
            outputs = importlib.import_module("neuralcompression._outputs")
            return network.decompress(outputs.HyperpriorCompressedOutput([y], [z], shape, shape))
        return network.decompress([[y], [z]], tuple(side // _STRIDE for side in shape))["x_hat"]


def create(name: str, settings: tuple[str, ...], timeout: float) -> LearnedCodec | UnavailableCodec:
    """The codec of one of NAMES; no settings: all. Raises ConfigError for a setting."""
    if name in WITHOUT_WEIGHTS:
        return UnavailableCodec(name, WITHOUT_WEIGHTS[name])
    highest = MSILLM_HIGHEST if name == MSILLM else COMPRESSAI[name]
    for setting in settings:
        if not re.fullmatch(r"q\d", setting) or not 1 <= int(setting[1:]) <= highest:
            raise ConfigError(f"{name} knows no setting {setting!r}: write q1 to q{highest}")
    codec = LearnedCodec(name, settings or tuple(f"q{i}" for i in range(1, highest + 1)), timeout)
    package = "neuralcompression" if name == MSILLM else "compressai"
    try:
        importlib.import_module(f"{package}.zoo")
        codec.prepare()
    except Exception as error:  # packages, their own dependencies, and downloads: anything may go wrong here
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        return UnavailableCodec(name, f"{reason}; pip install {package}, and connect once for its weights")
    return LearnedCodec(name, codec.settings, timeout)  # without the networks: it is sent to other processes

"""The codec that analyses work on: the one everybody uses, with a window to the model behind a file."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from rdeic.checkpoints import registry
from rdeic.codec.codec import Codec
from rdeic.codec.weights import Settings
from rdeic.container import container
from rdeic.errors import ConfigError
from rdeic.evaluation.codecs.own import model_name
from rdeic.model.latent_codec import quantise_all
from rdeic.model.model import Rdeic
from rdeic.model.networks import QUALITY_STEPS
from rdeic.model.precision import AUTO
from rdeic.pictures import images
from rdeic.pictures.images import Picture


class Named(NamedTuple):
    """A picture and its file name."""

    name: str  # file name
    picture: Picture  # (H, W, 3) uint8


class Latent(NamedTuple):
    """One picture's y, scaled for its quality, and the parameters it is coded by; each (M, h, w), padding included."""

    y: NDArray[np.float64]
    mu: NDArray[np.float64]
    sigma: NDArray[np.float64]  # as predicted; coding never goes below tables.SCALE_MIN

    @property
    def symbols(self) -> NDArray[np.int64]:
        """round(y - mu) (M, h, w), the integers that are coded."""
        return np.rint(self.y - self.mu).astype(np.int64)


class Subject(Codec):
    """A codec that also gives access to its model, for analyses."""

    def __init__(self, model: str, device: str | None = None, precision: str = AUTO) -> None:
        """An installed model's name or a model folder; `precision` of everything, as `codec.load` takes it.

        Raises ConfigError if there is no such model.
        """
        folder = registry.find(model)
        # Not compiled: a graph has no inside to look into.
        super().__init__(folder, Settings(device, False, precision, precision))
        self.name = model_name(folder)

    def make(self, picture: Picture, quality: float) -> bytes:
        """(H, W, 3) uint8 -> a file at quality 0..100, the nearest where rates are fixed; it is not verified."""
        return self.compress(picture, quality if self._weights.highest else None, verify=False)

    def model_of(self, blob: bytes) -> Rdeic:
        """The model that made a file. Raises FileFormatError, ModelMismatchError."""
        return self._weights.load_for(container.unpack(blob).header.fingerprint)

    def padded(self, picture: Picture, model: Rdeic) -> Tensor:
        """(H, W, 3) uint8 -> what E sees when a file is made, (1, 3, H', W') in [-1, 1] where `model` is."""
        pixels = torch.from_numpy(images.pad(picture, self.config.hyper_stride))
        return pixels.permute(2, 0, 1)[None].to(next(model.parameters()).device) / 127.5 - 1

    def latent(self, blob: bytes, picture: Picture) -> Latent:
        """y of `picture` as the entropy coder saw it when it made `blob`, an .rdeic file of that picture."""
        model, quality = self.model_of(blob), container.unpack(blob).header.quality
        x = self.padded(picture, model)
        with torch.inference_mode():
            level = torch.tensor([quality / QUALITY_STEPS], device=x.device)
            y = model.compression.scale_y(model.analyse(x), level)
            codes = model.compression.entropy.codebook.nearest(model.compression.h_a(y))
            hyper = model.exact_hyper(codes, quality)
            y = y.to(hyper.device).double()
            params = quantise_all(model.exact, y, hyper).params
        return Latent(*(part[0].cpu().numpy() for part in (y, params.mu, params.sigma)))


def check_names(models: Sequence[str]) -> None:
    """Raises ConfigError for models that could not be told apart in a table, and for one that is not there."""
    names = [model_name(registry.find(model)) for model in models]
    if twice := {name for name in names if names.count(name) > 1}:
        raise ConfigError(
            f"{', '.join(sorted(twice))}: more than one model of this name; rename their folders"
        )

"""One picture => files of it, at any scale and level, as a search asks for them.

shrink -> pad -> x -> analyse -> y        once for each scale, and each rate with weights of its own
y -> encode at a level -> pack            each file
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

from rdeic import container, images, limits, payload, scaling
from rdeic.config import ModelConfig
from rdeic.container import Header, RdeicFile, Section
from rdeic.stored_size import Size
from rdeic.verification import Trial

if TYPE_CHECKING:
    import torch

    from rdeic.model import Rdeic

MAX_QUALITY_BYTE = 255


class Loaded(NamedTuple):
    """The model of one rate."""

    model: Rdeic
    fingerprint: bytes


class Rates(NamedTuple):
    """What a model can code at, in levels from 0, the coarsest."""

    config: ModelConfig
    highest: int  # level: of a continuous model quality bytes, otherwise the places of its fixed rates
    load: Callable[[int], Loaded]  # by a fixed rate's place; 0 for a continuous model


class Stamp(NamedTuple):
    """What goes into every file of a picture as it is."""

    seed: int
    sections: tuple[Section, ...]


class Encoder:
    """One picture, (H, W, 3) uint8. The files that were made are kept."""

    def __init__(self, picture: images.Picture, rates: Rates, stamp: Stamp) -> None:
        self.size = Size(picture.shape[1], picture.shape[0])
        self.trials: dict[bytes, Trial] = {}  # by the bytes of the file
        self._picture, self._rates, self._stamp = picture, rates, stamp
        self._analysed = functools.cache(self._analyse)
        self._made = functools.cache(self._make)

    def file(self, factor: int, level: int) -> bytes:
        """The picture at 1/`factor` of its sides as a file of the given level.

        Raises ImageError where memory is short, CheckpointError for broken weights.
        """
        stored = scaling.stored(self.size, factor)
        with limits.enough_memory(*stored):
            trial = self._made(stored, level)
        self.trials[trial.blob] = trial
        return trial.blob

    def _analyse(self, stored: Size, rate: int) -> torch.Tensor:
        """-> y (1, M, h, w)"""
        import torch

        model = self._rates.load(rate).model
        padded = images.pad(scaling.shrink(self._picture, stored), self._rates.config.hyper_stride)
        pixels = torch.from_numpy(padded).permute(2, 0, 1)[None]  # (1, 3, H, W)
        with torch.inference_mode():
            return model.analyse(pixels.to(next(model.parameters()).device) / 127.5 - 1)

    def _make(self, stored: Size, level: int) -> Trial:
        import torch

        config, highest, load = self._rates
        continuous = bool(config.compression.quality_levels)
        quality = round(MAX_QUALITY_BYTE * level / highest) if highest else 0
        rate = 0 if continuous else level
        model, fingerprint = load(rate)
        with torch.inference_mode():
            coded, y_hat = model.encode_with_y_hat(self._analysed(stored, rate), quality)
        steps, (seed, sections) = model.config.diffusion.default_steps, self._stamp
        smaller = None if stored == self.size else stored
        header = Header(fingerprint, *self.size, quality, steps, seed, smaller)
        blob = container.pack(RdeicFile(header, payload.join(coded, config), sections))
        return Trial(blob, payload.digest(coded.hyper_indices, y_hat.cpu().numpy()), model)

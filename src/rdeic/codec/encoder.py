"""Makes files of one picture, at any scale and level: one for a quality, several while a size is searched for.

shrink -> pad -> x -> analyse -> y        once for each scale, and for each rate with weights of its own
y -> encode at a level -> pack            once for each file
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any, NamedTuple

from rdeic.codec import limits, rate, scaling
from rdeic.codec.rate import FULL_SIZE
from rdeic.codec.verification import Trial
from rdeic.codec.weights import MAX_QUALITY_BYTE, Loaded
from rdeic.config import ModelConfig
from rdeic.container import container, payload
from rdeic.container.container import Header, RdeicFile, Section
from rdeic.container.stored_size import Size
from rdeic.errors import ConfigError, ImageError
from rdeic.pictures import images
from rdeic.system import arguments, memory

if TYPE_CHECKING:
    import torch


DEFAULT_QUALITY = 50.0


class Rates(NamedTuple):
    """The rates of a model, as levels from 0, the coarsest."""

    config: ModelConfig
    highest: int  # level: of a continuous model quality bytes, otherwise the places of its fixed rates
    load: Callable[[int], Loaded]  # by a fixed rate's place; 0 for a continuous model
    room: int | None  # bytes of memory that the networks may take; None: as much as they need
    turn: AbstractContextManager[object]  # to be held while E works


class Stamp(NamedTuple):
    """What every file of a picture carries besides the coded picture."""

    seed: int
    sections: tuple[Section, ...]


class Goal(NamedTuple):
    """How large a file is to be; at most one is not None."""

    quality: float | None  # 0..100
    bpp: float | None
    max_bytes: int | None
    scale: bool  # whether the picture may be stored smaller


def goal_of(quality: Any, bpp: Any, max_bytes: Any, scale: Any) -> Goal:
    """The checked wish of a caller. Raises ConfigError."""
    if sum(goal is not None for goal in (quality, bpp, max_bytes)) > 1:
        raise ConfigError("choose one of quality, bpp and max_bytes")
    return Goal(
        None if quality is None else arguments.real("quality", quality, 0, 100),
        None if bpp is None else arguments.positive("bpp", bpp),
        None if max_bytes is None else min(arguments.whole("max_bytes", max_bytes, 1), sys.maxsize),
        arguments.flag("scale", scale),
    )


class Encoder:
    """Files of one picture, (H, W, 3) uint8; those that were made are kept."""

    def __init__(self, picture: images.Picture, rates: Rates, stamp: Stamp) -> None:
        self.size = Size(picture.shape[1], picture.shape[0])
        self.trials: dict[bytes, Trial] = {}  # by the bytes of the file
        self._picture: images.Picture | None = picture  # until nothing is left to analyse
        self._rates, self._stamp = rates, stamp
        self._y: dict[tuple[Size, int], torch.Tensor] = {}  # by stored size and the rate's place
        self._made: dict[tuple[int, int], Trial] = {}  # by factor and level

    def meet(self, goal: Goal) -> bytes:
        """The file that is asked for. Raises RateError, ImageError and CheckpointError."""
        (width, height), (config, highest, _, room, _) = self.size, self._rates
        target = goal.max_bytes if goal.bpp is None else goal.bpp * width * height / 8
        if goal.scale and target is not None:
            scales = scaling.scales(self.size, target, config, room)
        else:
            scales = FULL_SIZE
            limits.plan(self.size, config, room)
        if goal.bpp is not None:
            return rate.closest_scaled(self.file, scales, highest, goal.bpp, width * height)
        if goal.max_bytes is not None:
            return rate.largest_within_scaled(self.file, scales, highest, goal.max_bytes)
        quality = DEFAULT_QUALITY if goal.quality is None else goal.quality
        level = round(quality * highest / 100)
        self._analysed(self.size, self._place(level))
        self._picture = None
        return self.file(1, level)

    def file(self, factor: int, level: int) -> bytes:
        """The picture at 1/`factor` of its sides, as a file of the given level. Raises CheckpointError."""
        if (factor, level) not in self._made:
            trial = self._make(scaling.stored(self.size, factor), level)
            self._made[factor, level] = self.trials[trial.blob] = trial
        return self._made[factor, level].blob

    def _place(self, level: int) -> int:
        """Of the rate whose weights make files of that level."""
        return 0 if self._rates.config.compression.quality_levels else level

    def _analysed(self, stored: Size, place: int) -> torch.Tensor:
        if (stored, place) not in self._y:
            self._y[stored, place] = self._analyse(stored, place)
        return self._y[stored, place]

    def _analyse(self, stored: Size, place: int) -> torch.Tensor:
        """-> y (1, M, h, w)"""
        import torch

        assert self._picture is not None
        model = self._rates.load(place).model
        tiling = limits.plan(stored, self._rates.config, self._rates.room)
        picture = scaling.shrink(self._picture, stored)
        with torch.inference_mode(), self._rates.turn:
            if tiling is not None:
                from rdeic.model import tiled

                y = tiled.analyse(model, picture, tiling)
                memory.give_back()
            else:
                padded = images.pad(picture, self._rates.config.hyper_stride)
                pixels = torch.from_numpy(padded).permute(2, 0, 1)[None]  # (1, 3, H, W)
                y = model.analyse(pixels.to(next(model.parameters()).device) / 127.5 - 1)
            finite = bool(y.isfinite().all())
        if not finite:
            precision = str(model.analysis_precision).removeprefix("torch.")
            raise ImageError(
                f"E of model {model.config.name} overflows in {precision}; take another precision"
            )
        return y

    def _make(self, stored: Size, level: int) -> Trial:
        import torch

        config, highest, load, _, _ = self._rates
        quality = round(MAX_QUALITY_BYTE * level / highest) if highest else 0
        place = self._place(level)
        model, fingerprint = load(place)
        with torch.inference_mode():
            coded, y_hat = model.encode_with_y_hat(self._analysed(stored, place), quality)
        steps, (seed, sections) = model.config.diffusion.default_steps, self._stamp
        smaller = None if stored == self.size else stored
        header = Header(fingerprint, *self.size, quality, steps, seed, smaller)
        blob = container.pack(RdeicFile(header, payload.join(coded, config), sections))
        return Trial(blob, payload.digest(coded.hyper_indices, y_hat.cpu().numpy()), model)

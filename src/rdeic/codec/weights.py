"""The weights of one model, at its rates, on one device, and the memory that is there for its work.

torch is imported when they are first needed, not with this module.
"""

from __future__ import annotations

import contextlib
import functools
import threading
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from rdeic.checkpoints import model_wheels, registry
from rdeic.config import ModelConfig
from rdeic.errors import ModelMismatchError
from rdeic.model import precision as precisions
from rdeic.system import forks, memory

if TYPE_CHECKING:
    import torch

    from rdeic.model.model import Rdeic

MAX_QUALITY_BYTE = 255


class Settings(NamedTuple):
    """Where and how a model computes; `load` says what each is, and checks it."""

    device: str | None = None
    compile: bool | None = None
    encoder_precision: str = precisions.AUTO
    precision: str = precisions.AUTO
    max_memory: int | None = None  # bytes


DEFAULTS = Settings()


class Loaded(NamedTuple):
    """The model of one rate, and the fingerprint that its files carry."""

    model: Rdeic
    fingerprint: bytes


class Weights:
    """Read when first needed. Threads may share them, and so may what they fork."""

    def __init__(self, folder: Path, settings: Settings) -> None:
        """Of the model in `folder`. Raises ConfigError if it holds none."""
        self.folder, self.settings = folder, settings
        self.config: ModelConfig = registry.describe(folder).config
        self.rates = registry.rates(folder)  # lowest first; a model of continuous quality is a single one
        self._loading = threading.Lock()
        self._turn = threading.Lock()  # of the large networks, on a device with memory of its own
        self._loaded: dict[int, Loaded] = {}  # by rate

    @functools.cached_property
    def device(self) -> torch.device:
        """Where the networks run. Raises ConfigError if it cannot be used."""
        from rdeic.system import devices

        return devices.choose(self.settings.device)

    def made(self, fingerprint: str) -> bool:
        """Whether files with that fingerprint (hex) are of this model, at one of its rates. Raises ConfigError."""
        return fingerprint in (registry.fingerprint(folder).hex() for folder in self.rates)

    @property
    def highest(self) -> int:
        """The finest level: quality bytes of a continuous model, indices of fixed rates otherwise."""
        return MAX_QUALITY_BYTE if self.config.compression.quality_levels else len(self.rates) - 1

    @property
    def in_own_memory(self) -> bool:
        """Whether the networks' memory is a GPU's: never is a process killed for it."""
        return self.device.type == "cuda"

    def room(self) -> int | None:
        """Bytes that the networks may take for a picture; None: as many as they need."""
        return self.settings.max_memory if self.in_own_memory else memory.room(self.settings.max_memory)

    def taking_turns(self) -> contextlib.AbstractContextManager[object]:
        """Holds for one picture at a time where the device computes one after the other anyway.

        So several threads need no more of its memory than one does, while their pictures are read, written and coded.
        """
        return contextlib.nullcontext() if self.device.type == "cpu" else self._turn

    def enough_memory(self, width: int, height: int) -> contextlib.AbstractContextManager[None]:
        """Raises ImageError if memory runs out inside the `with` block."""
        from rdeic.system import devices

        return devices.enough_for_picture(self.device, width, height)

    def load(self, rate: int = 0) -> Loaded:
        """Those of one rate, read when first asked for. Raises CheckpointError if they are broken."""
        forks.check_device(self.device.type)
        with self._loading:
            if rate not in self._loaded:
                self._loaded[rate] = self._read(rate)
            return self._loaded[rate]

    def _read(self, rate: int) -> Loaded:
        from rdeic.checkpoints.checkpoints import load_model
        from rdeic.system import devices

        sibling = next((loaded.model for loaded in self._loaded.values()), None)
        # Stable Diffusion's networks, in bfloat16, are further from float32 than mini's (docs/performance.md).
        measured = not self.config.unet.context_channels
        automatic = precisions.automatic(self.device, precisions.capabilities()) if measured else None
        analysis = precisions.asked(self.settings.encoder_precision) or automatic
        restoring = precisions.asked(self.settings.precision) or automatic
        with devices.enough_for_weights(self.device, self.config.name):
            model, fingerprint = load_model(self.rates[rate], self.device, sibling, restoring, analysis)
        if self.in_own_memory and self.settings.compile is not False:
            from rdeic.nn.graphs import CudaGraphs

            model.use_graphs(CudaGraphs(), at_once=bool(self.settings.compile))
        return Loaded(model, fingerprint)

    def load_for(self, wanted: bytes) -> Rdeic:
        """The model with the fingerprint `wanted`. Raises ModelMismatchError if it is none of the rates."""
        several = len(self.rates) > 1
        known = (
            [registry.fingerprint(folder) for folder in self.rates] if several else [self.load().fingerprint]
        )
        if wanted not in known:
            raise mismatch(wanted, self.config.name, *known)
        return self.load(known.index(wanted)).model


def mismatch(wanted: bytes, name: str | None = None, *fingerprints: bytes) -> ModelMismatchError:
    """For a file of the model `wanted`, where `name` was to decode it, if any, which has these fingerprints."""
    known = [
        (registry.fingerprint(folder), one.name)
        for one in registry.installed()
        for folder in registry.rates(one.folder)
    ]
    there = ", ".join(f"{called} ({print_.hex()})" for print_, called in known) or "none"
    here = f", not with {name} ({', '.join(one.hex() for one in fingerprints)})" if name else ""
    called = dict(known).get(wanted)
    remedy = f"use model {called}-{wanted.hex()}" if called else model_wheels.remedy(wanted)
    return ModelMismatchError(f"made with model {wanted.hex()}{here}; installed: {there}; {remedy}")

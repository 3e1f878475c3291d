"""RDEIC: extreme image compression at 0.02 to 0.15 bits per pixel, with a relay residual diffusion decoder.

    codec = rdeic.load()                            # the model that comes with the package
    blob = codec.compress("photo.png", bpp=0.05)    # bytes of an .rdeic file
    image = codec.decompress(blob)                  # PIL.Image.Image
    info = rdeic.inspect(blob)                      # header only

Names are imported when first used: `import rdeic` and `rdeic.inspect` stay quick and need neither torch nor Pillow.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rdeic.codec.codec import Codec, load
    from rdeic.container.info import Info, inspect
    from rdeic.container.metadata import Metadata
    from rdeic.errors import (
        CheckpointError,
        ConfigError,
        FileFormatError,
        ImageError,
        ModelMismatchError,
        RateError,
        RdeicError,
        TooLargeError,
        TrainingError,
        TransparencyError,
        VerifyError,
    )

__version__ = "0.1.0"

__all__ = [
    "CheckpointError",
    "Codec",
    "ConfigError",
    "FileFormatError",
    "ImageError",
    "Info",
    "Metadata",
    "ModelMismatchError",
    "RateError",
    "RdeicError",
    "TooLargeError",
    "TrainingError",
    "TransparencyError",
    "VerifyError",
    "__version__",
    "inspect",
    "load",
]

_HOMES = {
    "Codec": "rdeic.codec.codec",
    "load": "rdeic.codec.codec",
    "Info": "rdeic.container.info",
    "inspect": "rdeic.container.info",
    "Metadata": "rdeic.container.metadata",
}


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES.get(name, "rdeic.errors")), name)


def __dir__() -> list[str]:
    return sorted(__all__)

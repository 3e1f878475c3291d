"""A file => its picture.

split -> decode -> z_c -> restore with the file's noise -> crop -> round -> [enlarge]
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Iterator
from typing import TYPE_CHECKING, NamedTuple

from PIL import Image

from rdeic.codec import limits, scaling
from rdeic.codec.weights import Weights
from rdeic.container import payload
from rdeic.container.container import Header, RdeicFile
from rdeic.container.stored_size import Size
from rdeic.errors import ImageError
from rdeic.model.tiles import Tiling
from rdeic.types import CodedLatent

if TYPE_CHECKING:
    import torch

    from rdeic.model.model import Rdeic


def decode(weights: Weights, file: RdeicFile, detail: float, steps: int | None) -> Image.Image:
    """The picture of a file, at its own size. `steps` and errors as in `Codec.decompress`."""
    header = file.header
    model = weights.load_for(header.fingerprint)
    if steps is None:
        limits.check_steps(header.steps, weights.config)
    coded = payload.split(header, file.payload, weights.config)
    steps = header.steps if steps is None else steps
    tiling = limits.plan(header.coded, weights.config, weights.room(), steps)
    with weights.enough_memory(header.width, header.height):
        picture = _restore(model, header, coded, _Way(detail, steps, tiling, weights.taking_turns()))
        return scaling.enlarge(picture, Size(header.width, header.height))


class _Way(NamedTuple):
    """How to restore a picture."""

    detail: float
    steps: int
    tiling: Tiling | None  # None: whole
    turn: contextlib.AbstractContextManager[object]  # to be held while the large networks work


def _restore(model: Rdeic, header: Header, coded: CodedLatent, way: _Way) -> Image.Image:
    import torch

    from rdeic.model import tiled

    (width, height), (detail, steps, tiling, turn) = header.coded, way
    try:
        with torch.inference_mode():
            if tiling is not None:
                how = tiled.Restoring(functools.partial(noises, header.seed), steps, detail)
                with turn:
                    pixels = tiled.restore(model, coded, header.quality, header.coded, how, tiling)
            else:
                features = model.decode(coded, header.quality)
                with turn:
                    x = model.restore(
                        features, noises(header.seed, features.z_c), steps, detail
                    )  # (1, 3, H, W)
                    pixels = tiled.to_pixels(x[0, :, :height, :width])
            return Image.fromarray(pixels)
    except OverflowError as error:
        raise ImageError(
            f"model {model.config.name} overflows in {str(model.precision).removeprefix('torch.')}; "
            "restore it with another --precision"
        ) from error


def noises(seed: int, like: torch.Tensor) -> Iterator[torch.Tensor]:
    """Standard normal tensors shaped like `like`, drawn on the CPU so that every device sees the same."""
    import torch

    from rdeic.nn.transfer import to_device

    generator = torch.Generator("cpu").manual_seed(seed)
    while True:
        yield to_device(torch.randn(like.shape, generator=generator, dtype=torch.float32).numpy(), like)

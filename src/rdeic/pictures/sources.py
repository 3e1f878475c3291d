"""What a caller of the codec may pass as a picture => what `images.read` takes."""

from __future__ import annotations

from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from rdeic.errors import ImageError
from rdeic.pictures import images
from rdeic.system import arguments
from rdeic.system.arguments import Buffer, PathLike, Readable

# Arrays are (H, W, 3) uint8, also other libraries' that numpy can take over.
Source: TypeAlias = PathLike | Buffer | Readable | Image.Image | NDArray[np.uint8] | Any

_REMEDIES = {
    "f": "if its values are 0 to 1: (255 * array).round().astype(numpy.uint8)",
    "b": "255 * array.astype(numpy.uint8)",
    "u": "scale its values to 0..255, then array.astype(numpy.uint8)",
    "i": "if its values are 0 to 255: array.astype(numpy.uint8)",
}


def picture(source: Source) -> images.Source:
    """A picture as `images.read` takes it; of an open file the bytes. Raises ImageError for anything else."""
    if isinstance(source, Image.Image):
        return source
    if hasattr(source, "__array_interface__") or hasattr(source, "__array__"):
        return _checked(_array(source))
    return arguments.content(source, "a picture", ImageError)


def _array(source: Any) -> NDArray[np.uint8]:
    try:
        return np.asarray(source)
    except Exception as error:  # of other people's arrays
        raise ImageError(f"{type(source).__name__} does not convert to an array: {error}") from error


def _checked(array: NDArray[np.uint8]) -> NDArray[np.uint8]:
    if array.dtype == np.uint8 and array.ndim == 3 and array.shape[2] == 3:
        return array
    remedy = _REMEDIES.get(array.dtype.kind, "") if array.dtype != np.uint8 else _reshaped(array.shape)
    advice = f"; {remedy}" if remedy else ""
    raise ImageError(f"expected an (H, W, 3) uint8 array, got {array.dtype} of shape {array.shape}{advice}")


def _reshaped(shape: tuple[int, ...]) -> str:
    if len(shape) == 1:
        return "if it holds the bytes of a picture file: array.tobytes()"
    if len(shape) == 2 or (len(shape) == 3 and shape[2] == 1):
        return "if it is grey: numpy.dstack([array] * 3)"
    if len(shape) == 3 and shape[2] == 4:
        return "its alpha has no place in the file: array[..., :3]"
    if len(shape) == 3 and shape[0] == 3:
        return "with the channels last: array.transpose(1, 2, 0)"
    if len(shape) == 4:
        return "one picture at a time: array[0]"
    return ""

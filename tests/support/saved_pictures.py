"""Pictures written in any format, and what is written."""

from __future__ import annotations

import io

import numpy as np
import pillow_heif
import pillow_jxl  # noqa: F401 (registers itself)
from numpy.typing import NDArray
from PIL import Image, ImageCms

pillow_heif.register_heif_opener()

Y, X = np.mgrid[:24, :32]
RAMP = np.stack([8 * X, 10 * Y, 4 * (X + Y)], -1).astype(np.uint8)  # (24, 32, 3), smooth

# By EXIF orientation: what is stored of a picture.
UNROTATE = {
    1: lambda a: a,
    2: np.fliplr,
    3: lambda a: np.rot90(a, 2),
    4: np.flipud,
    5: lambda a: a.swapaxes(0, 1),
    6: lambda a: np.rot90(a, 1),
    7: lambda a: np.rot90(a, 2).swapaxes(0, 1),
    8: lambda a: np.rot90(a, -1),
}


def saved(image: Image.Image | NDArray[np.uint8], kind: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    (Image.fromarray(image) if isinstance(image, np.ndarray) else image).save(buffer, kind, **options)
    return buffer.getvalue()


def srgb_profile() -> bytes:
    return ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()

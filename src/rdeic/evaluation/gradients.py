"""How much fine structure a restored picture has: no measure of closeness, but of smoothness and invented texture."""

from __future__ import annotations

import numpy as np

from rdeic.pictures.images import Picture

_LUMINANCE = np.array([0.299, 0.587, 0.114])


def gradients(restored: Picture, original: Picture) -> float | None:
    """Mean length of the luminance's gradient over that of the original, both (H, W, 3) uint8.

    1 is best, below 1 is smoother. None where the original has no gradients: a single row or column, or one colour.
    """
    of_original = _mean_length(original)
    return _mean_length(restored) / of_original if of_original else None


def _mean_length(picture: Picture) -> float:
    luminance = picture @ _LUMINANCE  # (H, W)
    down, right = np.diff(luminance, axis=0)[:, :-1], np.diff(luminance, axis=1)[:-1]
    return float(np.hypot(down, right).mean()) if down.size else 0.0

"""Which of several states of a model is the best."""

from __future__ import annotations

import math

from rdeic.errors import ConfigError
from rdeic.training.report import Scalars

LARGER_IS_BETTER = ("psnr", "ms_ssim")  # how the names of such metrics begin; of all others smaller is better


def badness(metric: str, scalars: Scalars) -> float:
    """The metric's value, its sign such that smaller is better; infinite if it is no number.

    Raises ConfigError if there is none of that name.
    """
    found = dict(scalars)
    if metric not in found:
        raise ConfigError(
            f"keep_best = {metric!r} is no held-out metric of this stage: choose from {', '.join(found)}"
        )
    value = found[metric]
    if math.isnan(value):
        return math.inf
    return -value if metric.startswith(LARGER_IS_BETTER) else value

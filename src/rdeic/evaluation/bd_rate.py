"""Bjøntegaard's delta rate: how many more or fewer bits one codec needs than another for the same quality.

Both curves are interpolated as log(bpp) over quality, and their distance is averaged over the qualities both reach:

    BD-rate = exp(mean of (log bpp of the test - log bpp of the anchor)) - 1

A value says nothing beyond those qualities, so it comes with its overlap. The paper's Table II uses "cubic".
"""

from __future__ import annotations

import math
import warnings
from itertools import pairwise
from typing import Literal, NamedTuple, get_args

from rdeic.errors import ConfigError

Method = Literal["cubic", "pchip", "akima"]

_FEWEST = {"cubic": 4, "pchip": 2, "akima": 2}
MIN_OVERLAP = 0.1  # below, an average over the overlap is hardly one of the curves


class Curve(NamedTuple):
    """One codec over its settings, in any order."""

    name: str  # for messages and labels
    bpp: tuple[float, ...]  # file bits per original pixel, > 0
    values: tuple[float, ...]  # of one metric, as many as rates


class BdRate(NamedTuple):
    """What the test needs for the quality of the anchor."""

    percent: float  # of the anchor's bits, on average: -40 is 40% fewer
    overlap: float  # 0..1, the qualities both curves reach over those any of them reaches


def bd_rate(
    anchor: Curve,
    test: Curve,
    *,
    lower_is_better: bool,
    method: Method = "cubic",
    min_overlap: float = MIN_OVERLAP,
) -> BdRate:
    """Average difference in rate of `test` against `anchor` at equal quality.

    "cubic" fits one polynomial of degree 3 to each curve, of four points or more; "pchip" and "akima" go through
    every point, and take only curves on which more bits always mean more quality.
    lower_is_better: true for distances (LPIPS, FID); min_overlap: 0..1, less overlap than that is an error.

    Raises ConfigError if a curve has too few points, is no curve, or the two overlap too little, and if the
    bjontegaard package is missing.
    """
    if method not in get_args(Method):
        raise ConfigError(f"no interpolation {method!r}: choose from {', '.join(get_args(Method))}")
    sign = -1 if lower_is_better else 1
    first, second = (_prepare(curve, sign, method) for curve in (anchor, test))
    overlap = _overlap(first.values, second.values)
    if overlap <= 0 or overlap < min_overlap:
        raise ConfigError(
            f"{test.name} and {anchor.name} share {overlap:.0%} of their qualities, less than {min_overlap:.0%}: "
            "measure them at rates where they are alike"
        )
    return BdRate(_percent(first, second, method), overlap)


def _prepare(curve: Curve, sign: int, method: Method) -> Curve:
    """The curve by rising quality, higher being better."""
    if len(curve.bpp) != len(curve.values):
        raise ConfigError(f"{curve.name}: {len(curve.bpp)} rates but {len(curve.values)} values")
    if len(curve.bpp) < _FEWEST[method]:
        raise ConfigError(
            f"{curve.name}: {method} needs {_FEWEST[method]} points or more, not {len(curve.bpp)}"
        )
    if not all(math.isfinite(number) for number in (*curve.bpp, *curve.values)) or min(curve.bpp) <= 0:
        raise ConfigError(f"{curve.name}: rates must be above 0, and rates and values finite")
    by_rate = sorted(zip(curve.bpp, (sign * value for value in curve.values), strict=True))
    qualities = [quality for _, quality in by_rate]
    if method != "cubic" and any(b <= a for a, b in pairwise(qualities)):
        raise ConfigError(f"{curve.name}: quality does not always rise with the rate: only cubic can take it")
    if len(set(qualities)) < _FEWEST[method]:
        raise ConfigError(f"{curve.name}: {method} needs {_FEWEST[method]} different qualities or more")
    rates, values = zip(*sorted(by_rate, key=lambda point: point[1]), strict=True)
    return Curve(curve.name, rates, values)


def _overlap(a: tuple[float, ...], b: tuple[float, ...]) -> float:
    """Shared over total range; negative numbers for ranges apart become 0."""
    shared = min(a[-1], b[-1]) - max(a[0], b[0])
    return max(shared, 0.0) / (max(a[-1], b[-1]) - min(a[0], b[0]))


def _percent(anchor: Curve, test: Curve, method: Method) -> float:
    try:
        import bjontegaard
    except ImportError as error:
        raise ConfigError("BD-rates need bjontegaard: pip install 'rdeic[eval]'") from error
    with warnings.catch_warnings(
        category=RuntimeWarning, action="ignore"
    ):  # a wild fit may overflow: see below
        percent = float(
            bjontegaard.bd_rate(
                anchor.bpp,
                anchor.values,
                test.bpp,
                test.values,
                method=method,
                require_matching_points=False,
                min_overlap=0,
            )
        )
    if not math.isfinite(percent):
        raise ConfigError(f"{test.name} and {anchor.name} differ too much for a BD-rate")
    return percent

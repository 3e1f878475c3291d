"""The fixed table of scales and the integer Gaussian probabilities that belong to each.

A scale s codes the integers -c..c, c = ceil(6.1094102 s) (all but 1e-9 of the mass), and one escape symbol.
The frequencies are integers that sum to 2**16, are symmetric and at least 1. They are computed, not stored; a
test asserts their hash, and that no value is so near a rounding tie that another math library could tip it.
"""

from __future__ import annotations

import bisect
import functools
import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

SCALE_COUNT = 64
SCALE_MIN = 0.11
SCALE_MAX = 256.0
TOTAL = 1 << 16  # sum of the frequencies of every table
ESCAPE_FREQUENCY = 1

_TAIL = 6.1094102  # standard deviations; the two tails beyond hold a mass of 1e-9
_SCALE_UNIT = 2.0**-32


def _scales(count: int, offset: float) -> NDArray[np.float64]:
    """(count,) equidistant in the logarithm, as many as SCALE_COUNT from SCALE_MIN to SCALE_MAX, moved by `offset`."""
    low, high = math.log(SCALE_MIN), math.log(SCALE_MAX)
    exact = [math.exp(low + (high - low) * (i + offset) / (SCALE_COUNT - 1)) for i in range(count)]
    # Math libraries disagree in the last bit of exp; on a grid of 2**-32 every one gives the same table.
    table = np.array([round(scale / _SCALE_UNIT) * _SCALE_UNIT for scale in exact])
    table.flags.writeable = False
    return table


def _centres() -> NDArray[np.int32]:
    table = np.ceil(_TAIL * SCALES).astype(np.int32)
    table.flags.writeable = False
    return table


SCALES: NDArray[np.float64] = _scales(SCALE_COUNT, 0.0)  # (64,) ascending
THRESHOLDS: NDArray[np.float64] = _scales(SCALE_COUNT - 1, 0.5)  # (63,) the geometric means of neighbours
CENTRES: NDArray[np.int32] = _centres()  # (64,) c of each scale: |symbol| <= c needs no escape


# A bisection for each sigma would take half of an encoder's time. The head of a float64, down to three bits of the
# mantissa, says in which of a few bins it lies. They end at most 1.125 times above their start; thresholds are 1.131
# apart.
_BIN_SHIFT = 49
_FIRST_BIN, _LAST_BIN = (
    int(np.float64(scale).view(np.int64)) >> _BIN_SHIFT for scale in (SCALE_MIN, SCALE_MAX)
)
_STARTS = (np.arange(_FIRST_BIN, _LAST_BIN + 1) << _BIN_SHIFT).view(np.float64)
_LOWEST = np.searchsorted(THRESHOLDS, _STARTS).astype(np.int64)  # of each bin: the index at its start
_UPPER = np.append(THRESHOLDS, np.inf)  # (64,) above it, the next index begins


def scale_index(sigma: NDArray[np.floating[Any]]) -> NDArray[np.int64]:
    """Index 0..63 of the table scale nearest to sigma in the logarithm, same shape."""
    values = np.asarray(sigma, np.float64)
    low = _LOWEST.take((values.view(np.int64) >> _BIN_SHIFT).clip(_FIRST_BIN, _LAST_BIN) - _FIRST_BIN)
    return low + (values > _UPPER.take(low))


@functools.cache
def pmf(index: int) -> NDArray[np.int64]:
    """(2c + 2,) frequencies of -c, ..., c and the escape at scale `index` (0..63); they sum to 2**16.

    Raises ValueError if there is no such scale. The array is shared and read-only.
    """
    if not 0 <= index < SCALE_COUNT:
        raise ValueError(f"scale index {index} is outside 0..{SCALE_COUNT - 1}")
    half = _half_line(index)
    side = _frequencies(half, _weight(half))  # of 0, 1, ..., c
    side[0] += TOTAL - _total(side)  # the few counts that rounding left over
    table = np.concatenate([side[:0:-1], side, [ESCAPE_FREQUENCY]])
    table.flags.writeable = False
    return table


def _half_line(index: int) -> NDArray[np.float64]:
    """(c + 1,) probabilities of 0, 1, ..., c under the Gaussian of scale `index`, rounded to integers."""
    unit = float(SCALES[index]) * math.sqrt(2.0)
    c = int(CENTRES[index])
    beyond = np.array([math.erfc((k + 0.5) / unit) for k in range(c + 1)])  # P(|x| > k + 1/2)
    return np.concatenate([[1.0 - beyond[0]], (beyond[:-1] - beyond[1:]) / 2])


def _frequencies(half: NDArray[np.float64], weight: int) -> NDArray[np.int64]:
    return np.maximum(1, np.floor(half * weight + 0.5)).astype(np.int64)


def _total(side: NDArray[np.int64]) -> int:
    return int(side[0] + 2 * side[1:].sum()) + ESCAPE_FREQUENCY


def _weight(half: NDArray[np.float64]) -> int:
    """Largest weight whose frequencies fit in TOTAL; below TOTAL, as the tails get more than their share."""

    def total(weight: int) -> int:
        return _total(_frequencies(half, weight))

    return bisect.bisect_right(range(2 * TOTAL), TOTAL, key=total) - 1

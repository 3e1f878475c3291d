"""Finds the file of a wanted size: chooses a scale, then bisects over the levels at that scale.

`make(factor, level)` gives the finished file of a picture stored at 1/`factor` of its sides. Sizes nearly always grow
with the level, but not strictly, so every answer is judged by the real bytes of a file that was made. Making a file at
a large scale takes long: the search begins at the scale that is likely to be right, and leaves it only if it must.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple, TypeAlias

from rdeic.errors import RateError

TOLERANCE = 0.03  # how far outside the reachable range a wanted rate may lie
_EDGE = 8  # levels tried above 0 when 0 itself is too large

Make: TypeAlias = Callable[[int], bytes]  # level => file
MakeAt: TypeAlias = Callable[[int, int], bytes]  # factor, level => file


class Scales(NamedTuple):
    """The scales to search, and where to begin."""

    factors: tuple[int, ...]  # ascending
    start: int  # place of the one to begin with


FULL_SIZE = Scales((1,), 0)


class _Found(NamedTuple):
    """What one scale has for a wish."""

    file: bytes | None  # the best one there; None: even the smallest is above the limit
    excess: int  # 1: even the smallest file is too large; -1: even the largest one leaves room; 0
    sizes: tuple[int, ...]  # bytes of the files that were made


def closest(make: Make, highest: int, bpp: float, pixels: int) -> bytes:
    """The file whose size is closest to `bpp` (bits a pixel) among levels 0..`highest` of a picture at full size.

    Raises RateError, naming the reachable range, if `bpp` lies more than 3% outside it.
    """
    return closest_scaled(lambda _, level: make(level), FULL_SIZE, highest, bpp, pixels)


def closest_scaled(make: MakeAt, scales: Scales, highest: int, bpp: float, pixels: int) -> bytes:
    """`closest`, at the preferred scale, or at the nearest one that reaches `bpp`."""
    target = bpp * pixels / 8
    found = _search(
        lambda factor: _closest(lambda level: make(factor, level), highest, target), scales, target
    )
    if found.file is not None and not found.excess:
        return found.file
    low, high = (8 * size / pixels for size in (min(found.sizes), max(found.sizes)))
    if scales == FULL_SIZE:
        reach = f"from {low:.4f} to {max(high, 8 * len(make(1, highest)) / pixels):.4f} bpp"
    else:
        reach = f"from {low:.4f} bpp upwards" if found.excess > 0 else f"up to {high:.4f} bpp"
    raise RateError(f"{bpp:g} bpp is out of reach for this picture: choose {reach}")


def largest_within(make: Make, highest: int, max_bytes: int) -> bytes:
    """The file of the highest level in 0..`highest` that has at most `max_bytes` bytes, of a picture at full size.

    Raises RateError, naming the smallest possible size, if there is none.
    """
    return largest_within_scaled(lambda _, level: make(level), FULL_SIZE, highest, max_bytes)


def largest_within_scaled(make: MakeAt, scales: Scales, highest: int, max_bytes: int) -> bytes:
    """`largest_within` at the preferred scale, or at a smaller one if it must be, a larger one if there is room."""

    def find(factor: int) -> _Found:
        return _within(lambda level: make(factor, level), highest, max_bytes, factor == scales.factors[-1])

    found = _search(find, scales, max_bytes)
    if found.file is not None:
        return found.file
    raise RateError(
        f"{max_bytes} bytes are too few for this picture: the smallest possible is {min(found.sizes)} bytes"
    )


def _search(find: Callable[[int], _Found], scales: Scales, wanted: float) -> _Found:
    """What the scale has that meets the wish for `wanted` bytes; where none does, what the last one tried has.

    One step at a time: all scales below the first together cost less than that one did.
    """
    factors, place = scales
    tried: dict[int, _Found] = {}
    while True:
        found = tried[place] = find(factors[place])
        other = place + found.excess
        if found.excess and other in tried:  # one of them is too large and the other one leaves room
            return min((found, tried[other]), key=lambda one: _distance(one, wanted))._replace(excess=0)
        if found.excess == 0 or not 0 <= other < len(factors):
            return found
        place = other


def _distance(found: _Found, wanted: float) -> float:
    return math.inf if found.file is None else abs(len(found.file) - wanted)


def _closest(make: Make, highest: int, target: float) -> _Found:
    tried = {0: make(0)}
    if len(tried[0]) < target:
        tried[highest] = make(highest)
        if target < len(tried[highest]):
            _bisect(make, tried, 0, highest, target)
    sizes = tuple(len(file) for file in tried.values())
    excess = (min(sizes) * (1 - TOLERANCE) > target) - (max(sizes) * (1 + TOLERANCE) < target)
    return _Found(min(tried.values(), key=lambda file: abs(len(file) - target)), excess, sizes)


def _within(make: Make, highest: int, max_bytes: int, last: bool) -> _Found:
    """`last`: there is no smaller scale to go to, so a few more levels are worth a try."""
    tried = {0: make(0)}
    if len(tried[0]) <= max_bytes:
        tried[highest] = make(highest)
        if len(tried[highest]) > max_bytes:
            _bisect(make, tried, 0, highest, max_bytes)
    elif last:
        tried |= {level: make(level) for level in range(1, min(_EDGE, highest) + 1)}
    sizes = tuple(len(file) for file in tried.values())
    fitting = [level for level, file in tried.items() if len(file) <= max_bytes]
    if not fitting:
        return _Found(None, 1, sizes)
    return _Found(tried[max(fitting)], -1 if max(fitting) == highest else 0, sizes)


def _bisect(make: Make, tried: dict[int, bytes], low: int, high: int, limit: float) -> None:
    """Adds to `tried` the two neighbouring levels between which the size passes `limit` bytes."""
    while high - low > 1:
        middle = (low + high) // 2
        tried[middle] = make(middle)
        if len(tried[middle]) <= limit:
            low = middle
        else:
            high = middle

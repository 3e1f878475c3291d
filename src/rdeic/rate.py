"""Meets a wanted file size by bisection over the quality byte.

`make(quality)` gives the finished file; sizes grow with quality, nearly but not strictly, so every answer is judged
by the real bytes of a file that was made.
"""

from __future__ import annotations

from collections.abc import Callable

from rdeic.errors import RateError

TOLERANCE = 0.03  # how far outside the reachable range a wanted rate may lie
_EDGE = 8  # qualities tried above 0 when 0 itself is too large


def closest(make: Callable[[int], bytes], highest: int, bpp: float, pixels: int) -> bytes:
    """The file whose size is closest to `bpp` (bits a pixel) among qualities 0..`highest`.

    Raises RateError, naming the reachable range, if `bpp` lies more than 3% outside it.
    """
    target = bpp * pixels / 8
    tried = {quality: make(quality) for quality in (0, highest)}
    if len(tried[0]) < target < len(tried[highest]):
        _bisect(make, tried, 0, highest, target)
    sizes = [len(file) for file in tried.values()]
    smallest, largest = min(sizes), max(sizes)
    if not smallest * (1 - TOLERANCE) <= target <= largest * (1 + TOLERANCE):
        reach = f"{smallest * 8 / pixels:.4f} to {largest * 8 / pixels:.4f}"
        raise RateError(f"{bpp:g} bpp is out of reach for this picture: choose from {reach} bpp")
    return min(tried.values(), key=lambda file: abs(len(file) - target))


def largest_within(make: Callable[[int], bytes], highest: int, max_bytes: int) -> bytes:
    """The file of the highest quality in 0..`highest` that has at most `max_bytes` bytes.

    Raises RateError, naming the smallest possible size, if there is none.
    """
    tried = {highest: make(highest)}
    if len(tried[highest]) > max_bytes:
        tried[0] = make(0)
        if len(tried[0]) <= max_bytes:
            _bisect(make, tried, 0, highest, max_bytes)
        else:
            tried |= {quality: make(quality) for quality in range(1, min(_EDGE, highest))}
    fitting = [quality for quality, file in tried.items() if len(file) <= max_bytes]
    if not fitting:
        smallest = min(len(file) for file in tried.values())
        raise RateError(
            f"{max_bytes} bytes are too few for this picture: the smallest possible is {smallest} bytes"
        )
    return tried[max(fitting)]


def _bisect(make: Callable[[int], bytes], tried: dict[int, bytes], low: int, high: int, limit: float) -> None:
    """Adds to `tried` the two neighbouring qualities between which the size passes `limit` bytes."""
    while high - low > 1:
        middle = (low + high) // 2
        tried[middle] = make(middle)
        if len(tried[middle]) <= limit:
            low = middle
        else:
            high = middle

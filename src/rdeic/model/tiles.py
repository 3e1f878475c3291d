"""How a large picture is cut up: tiles for E and D, windows for relay diffusion, bands of rows for the coding networks.

None of it is in a file: however a picture is cut up, any file decodes to the same symbols.

    tile      |halo|  inner  |halo|    what is computed; of the result, the inner parts lie side by side
    window    |  overlap  |            what is computed; results are blended where windows overlap
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

UNIT = 64  # pixels; the networks of all presets can begin at its multiples
BAND_POSITIONS = 1 << 15  # of y that the exact networks compute together


@dataclass(frozen=True)
class Sample:
    """Windows of a picture that the statistics of its group norms come from."""

    count: int
    side: int  # pixels, multiples of UNIT
    halo: int  # around it: computed, not counted


@dataclass(frozen=True)
class Tiling:
    """Lengths in pixels, multiples of UNIT, halos of 16."""

    side: int = 1024  # of a tile of E or D, without its halo
    halo: int = 48  # around it, at most: less where the networks see less far
    window: int = 2048  # side, of relay diffusion, at most
    overlap: int = 192  # of two windows
    sample: Sample = Sample(24, 192, 16)  # for E and D
    window_sample: Sample = Sample(2, 512, 32)  # for relay diffusion

    def halved(self) -> Tiling:
        """A cut with half the sides and a quarter of the samples, which takes less memory."""
        fewer, fewer_windows = (
            dataclasses.replace(one, count=max(1, one.count // 4))
            for one in (self.sample, self.window_sample)
        )
        return dataclasses.replace(
            self,
            side=self.side // 2,
            window=self.window // 2,
            overlap=min(self.overlap, self.window // 8),
            sample=fewer,
            window_sample=fewer_windows,
        )


class Tile(NamedTuple):
    """A tile's extent along one axis: `outer` is computed, `inner` is kept."""

    inner: slice
    outer: slice

    @property
    def within(self) -> slice:
        """Where `inner` lies in `outer`."""
        start = self.inner.start - self.outer.start
        return slice(start, start + self.inner.stop - self.inner.start)


def at(span: slice, stride: int) -> slice:
    """A span in units that are `stride` times as large; both ends must be multiples of it."""
    return slice(span.start // stride, span.stop // stride)


def tiles(length: int, side: int, halo: int) -> list[Tile]:
    """The tiles along an axis: inner parts of `side` one after the other, `halo` around each, within 0..length."""
    inner = [slice(start, min(start + side, length)) for start in range(0, length, side)]
    return [Tile(one, slice(max(0, one.start - halo), min(length, one.stop + halo))) for one in inner]


def grid(height: int, width: int, side: int, halo: int) -> Iterator[tuple[Tile, Tile]]:
    """(rows, columns) of all tiles of a picture, row by row."""
    return itertools.product(tiles(height, side, halo), tiles(width, side, halo))


def windows(length: int, side: int, overlap: int) -> list[slice]:
    """Along an axis: as few as overlap by `overlap`, begun at multiples of UNIT but for the last.

    All are as long, `side` at the most.
    """
    if length <= side:
        return [slice(0, length)]
    count = -(-(length - overlap) // (side - overlap))
    shared = -(-(length + (count - 1) * overlap) // count)
    side = min(side, -(-shared // UNIT) * UNIT)  # no larger than so many must be
    starts = [index * (length - side) // (count - 1) // UNIT * UNIT for index in range(count)]
    return [slice(start, start + side) for start in [*starts[:-1], length - side]]


def band_rows(height: int, width: int) -> int | None:
    """How many rows of y (height, width) the exact networks compute together, a multiple of 4; None: all."""
    return None if height * width <= BAND_POSITIONS else max(4, BAND_POSITIONS // width // 4 * 4)

"""What the entropy model left over (Fig. 12b): correlation of (y - mu) / sigma with its neighbours.

That of y is the paper's measure. Where most of y is rounded to nothing it tells of what no file holds, so it comes with
that of the rounded values, which the bits are spent on.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from analyses import maps
from analyses.maps import Matrix
from rdeic.entropy import tables
from rdeic.errors import ConfigError
from rdeic.evaluation.bench.subject import Named, Subject
from rdeic.evaluation.report import Table

RADIUS = 2  # the map is 5x5


class Correlation(NamedTuple):
    """Correlations of one model at one quality, means over pictures. In the maps 1 is in the middle."""

    model: str
    quality: float
    pictures: int
    map: NDArray[np.float64]  # (2 RADIUS + 1, 2 RADIUS + 1) of (y - mu) / sigma
    coded: NDArray[np.float64]  # the same of round(y - mu) / sigma


def measure(subject: Subject, pictures: Sequence[Named], quality: float) -> Correlation:
    """Over pictures at a quality 0..100. Raises ConfigError for a picture smaller than the window."""
    uncoded, coded = [], []
    for one in pictures:
        rows, columns = maps.positions(subject, one.picture)
        if min(rows, columns) <= RADIUS:
            raise ConfigError(
                f"{one.name}: too small for neighbours {RADIUS} positions of y away; leave it out"
            )
        latent = subject.latent(subject.make(one.picture, quality), one.picture)
        sigma = np.maximum(latent.sigma, tables.SCALE_MIN)  # as coding has it
        uncoded.append(correlation(((latent.y - latent.mu) / sigma)[:, :rows, :columns]))
        coded.append(correlation((latent.symbols / sigma)[:, :rows, :columns]))
    return Correlation(subject.name, quality, len(uncoded), np.mean(uncoded, axis=0), np.mean(coded, axis=0))


def nearest(correlations: NDArray[np.float64]) -> float:
    """Mean magnitude over the eight neighbours of a map's middle."""
    around = correlations[RADIUS - 1 : RADIUS + 2, RADIUS - 1 : RADIUS + 2]
    return float((np.abs(around).sum() - 1.0) / 8)


def largest(correlations: NDArray[np.float64]) -> float:
    """The value of greatest magnitude outside the middle, with its sign."""
    others = np.delete(correlations.ravel(), correlations.size // 2)
    return float(others[np.argmax(np.abs(others))])


def correlation(residual: NDArray[np.float64]) -> NDArray[np.float64]:
    """(M, h, w) -> (2 RADIUS + 1, 2 RADIUS + 1) within -1..1.

    At offset d it is the sum over channels and positions x of r(x) r(x + d), divided by the geometric mean of the sums
    of r(x)^2 and r(x + d)^2 over the same positions. No mean is taken off: a bias of mu is redundancy as well.
    """
    size = 2 * RADIUS + 1
    found = np.zeros((size, size))
    for i in range(size):
        for j in range(size):
            here, there = _overlap(residual, i - RADIUS, j - RADIUS)
            energy = np.sqrt((here**2).sum() * (there**2).sum())
            found[i, j] = (here * there).sum() / energy if energy else 0.0
    return found


def table(found: Sequence[Correlation]) -> Table:
    """A Markdown table."""
    header = (
        "model",
        "quality",
        "pictures",
        "8 neighbours",
        "largest",
        "coded: 8 neighbours",
        "coded: largest",
    )
    rows = [
        (
            one.model,
            f"{one.quality:g}",
            str(one.pictures),
            f"{nearest(one.map):.3f}",
            f"{largest(one.map):+.3f}",
            f"{nearest(one.coded):.3f}",
            f"{largest(one.coded):+.3f}",
        )
        for one in found
    ]
    return Table(header, rows)


def as_csv(found: Sequence[Correlation]) -> Table:
    """Every cell of every map, for a CSV file."""
    header = (
        "model",
        "quality",
        "pictures",
        "rows_apart",
        "columns_apart",
        "correlation",
        "coded_correlation",
    )
    rows = [
        (
            one.model,
            f"{one.quality:g}",
            str(one.pictures),
            str(row - RADIUS),
            str(column - RADIUS),
            f"{value:.5f}",
            f"{one.coded[row, column]:.5f}",
        )
        for one in found
        for (row, column), value in np.ndenumerate(one.map)
    ]
    return Table(header, rows)


def draw(path: Path, found: Sequence[Correlation]) -> None:
    """The maps of y above those of the coded values, on one colour scale. Raises what `drawing.figure` raises."""
    several = len({one.model for one in found}) > 1
    names = [f"{one.model + ', ' if several else ''}quality {one.quality:g}" for one in found]
    above = [Matrix(name, one.map) for name, one in zip(names, found, strict=True)]
    below = [Matrix(f"{name}, as coded", one.coded) for name, one in zip(names, found, strict=True)]
    maps.matrices(path, [above, below], "correlation")


def _overlap(
    residual: NDArray[np.float64], down: int, right: int
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """r(x) and r(x + d) where both are inside."""
    _, h, w = residual.shape
    here = residual[:, max(0, -down) : h - max(0, down), max(0, -right) : w - max(0, right)]
    there = residual[:, max(0, down) : h - max(0, -down), max(0, right) : w - max(0, -right)]
    return here, there

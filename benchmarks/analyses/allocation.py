"""Where the bits go (Fig. 12a): what y costs at every position, summed over its channels."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from analyses import maps
from rdeic.entropy import tables
from rdeic.evaluation.bench import drawing
from rdeic.evaluation.bench.subject import Latent, Named, Subject
from rdeic.evaluation.report import Table
from rdeic.pictures import images
from rdeic.pictures.images import Picture

CLIP = 99.5  # percentile of the relative bits that is the end of the colour scale
ESCAPE_SIZES = 4  # equally likely numbers of bytes behind an escape


class Allocation(NamedTuple):
    """One picture at one quality."""

    image: str
    model: str
    quality: float
    pixels: int
    file_bits: int  # header and all
    y_bits: float
    map: NDArray[np.float64]  # (h, w) bits of y at each position of the picture
    flat_share: (
        float  # of the map's bits, that on the quarter of positions with the least contrast; even: 0.25
    )
    busy_share: float  # the same of the quarter with the most

    @property
    def relative(self) -> NDArray[np.float64]:
        """(h, w) the map over its mean: 1 everywhere if the bits were spread evenly."""
        mean = self.map.mean()
        return self.map / mean if mean else np.ones_like(self.map)


def measure(subject: Subject, one: Named, quality: float) -> Allocation:
    """Compresses a picture at a quality 0..100 and takes its bits apart."""
    blob = subject.make(one.picture, quality)
    bits = position_bits(subject.latent(blob, one.picture))
    rows, columns = maps.positions(subject, one.picture)
    seen = bits[:rows, :columns]
    flat, busy = shares(seen, contrast(one.picture, subject.config.y_stride))
    height, width, _ = one.picture.shape
    return Allocation(
        one.name,
        subject.name,
        quality,
        width * height,
        8 * len(blob),
        float(bits.sum()),
        seen,
        flat,
        busy,
    )


def position_bits(latent: Latent) -> NDArray[np.float64]:
    """(h, w) bits by the integer tables that the range coder uses, escapes included."""
    return np.asarray(symbol_bits(latent.symbols, tables.scale_index(latent.sigma)).sum(axis=0))


def symbol_bits(symbols: NDArray[np.int64], scales: NDArray[np.int64]) -> NDArray[np.float64]:
    """Cost of each symbol under the table of its scale index 0..63; all of one shape."""
    bits = np.zeros(symbols.shape)
    for scale in np.unique(scales):
        chosen = scales == scale
        bits[chosen] = _costs_of(symbols[chosen], int(scale))
    return bits


def contrast(picture: Picture, stride: int) -> NDArray[np.float64]:
    """(h, w) standard deviation of the luminance, 0..255, in blocks of `stride` pixels; edges are repeated."""
    luminance = images.pad(picture, stride) @ np.array([0.299, 0.587, 0.114])  # (H, W)
    height, width = luminance.shape
    blocks = luminance.reshape(height // stride, stride, width // stride, stride)
    return np.asarray(blocks.std(axis=(1, 3)))


def shares(bits: NDArray[np.float64], busy: NDArray[np.float64]) -> tuple[float, float]:
    """Shares of `bits` on the quarters of positions where `busy` is least and most; both (h, w)."""
    ordered = bits.ravel()[np.argsort(busy, axis=None, kind="stable")]
    quarter, total = max(1, ordered.size // 4), float(ordered.sum()) or 1.0
    return float(ordered[:quarter].sum() / total), float(ordered[-quarter:].sum() / total)


def draw(path: Path, pictures: Sequence[Named], found: Sequence[Allocation]) -> None:
    """A row for each of `pictures`: itself, and the map of each model and quality on one colour scale.

    Raises what `drawing.figure` raises.
    """
    columns = [
        (model, quality) for model, quality in dict.fromkeys((one.model, one.quality) for one in found)
    ]
    by_place = {(one.image, one.model, one.quality): one for one in found}
    several = len({model for model, _ in columns}) > 1
    limit = max(float(np.percentile(one.relative, CLIP)) for one in found)
    shape = pictures[0].picture.shape
    width = 3.0
    height = (width * shape[0] / shape[1] + 0.3) * len(pictures)
    with drawing.figure(path, width * (len(columns) + 1) + 0.8, height) as made:
        grid = made.subplots(len(pictures), len(columns) + 1, squeeze=False)
        for row, one in zip(grid, pictures, strict=True):
            maps.bare(row[0], Path(one.name).stem)
            row[0].imshow(one.picture)
            for axes, (model, quality) in zip(row[1:], columns, strict=True):
                allocation = by_place[one.name, model, quality]
                bpp = allocation.file_bits / allocation.pixels
                name = f"{model}, " if several else ""
                maps.bare(axes, f"{name}quality {quality:g}, {bpp:.3f} bpp")
                image = axes.imshow(allocation.relative, cmap=maps.COLOURS, vmin=0, vmax=limit)
        label = "bits of y, 1: the picture's mean"
        made.colorbar(image, ax=list(grid[:, 1:].flat), label=label, extend="max", pad=0.01, panchor=False)


def table(found: Sequence[Allocation]) -> Table:
    """A Markdown table: means over the pictures for each model and quality."""
    header = (
        "model",
        "quality",
        "pictures",
        "file",
        "of it y",
        "on the flattest quarter",
        "on the busiest quarter",
    )
    groups: dict[tuple[str, float], list[Allocation]] = {}
    for one in found:
        groups.setdefault((one.model, one.quality), []).append(one)
    rows = [
        (
            model,
            f"{quality:g}",
            str(len(group)),
            f"{np.mean([one.file_bits / one.pixels for one in group]):.4f} bpp",
            f"{np.mean([one.y_bits / one.file_bits for one in group]):.1%}",
            f"{np.mean([one.flat_share for one in group]):.1%}",
            f"{np.mean([one.busy_share for one in group]):.1%}",
        )
        for (model, quality), group in groups.items()
    ]
    return Table(header, rows)


def as_csv(found: Sequence[Allocation]) -> Table:
    """The shares as rows of a CSV file, one for each picture and quality."""
    header = ("image", "model", "quality", "pixels", "file_bits", "y_bits", "flat_share", "busy_share")
    rows = [
        (
            one.image,
            one.model,
            f"{one.quality:g}",
            str(one.pixels),
            str(one.file_bits),
            f"{one.y_bits:.1f}",
            f"{one.flat_share:.4f}",
            f"{one.busy_share:.4f}",
        )
        for one in found
    ]
    return Table(header, rows)


def _costs_of(symbols: NDArray[np.int64], scale: int) -> NDArray[np.float64]:
    """(n,) bits of symbols that share a table."""
    costs, centre = _table_costs(scale), int(tables.CENTRES[scale])
    beyond = np.abs(symbols) - centre - 1  # below 0: no escape
    bits = costs[np.where(beyond < 0, symbols + centre, 2 * centre + 1)]
    code = np.maximum(2 * beyond + (symbols < 0), 0)
    digits = 1 + sum((code >= 256**power).astype(np.int64) for power in range(1, ESCAPE_SIZES))
    return np.asarray(bits + np.where(beyond < 0, 0.0, np.log2(ESCAPE_SIZES) + 8.0 * digits))


@functools.cache
def _table_costs(scale: int) -> NDArray[np.float64]:
    return np.asarray(-np.log2(tables.pmf(scale) / tables.TOTAL))

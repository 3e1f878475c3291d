"""Pictures too large to run whole: E and D in tiles, relay diffusion in windows.

    picture --tiles--> E, g_a --> y (M, H/16)
    y_hat --windows--> g_s --> guide, z_c --> L steps --blended--> z0_hat (latent_channels, H/8)
    z0_hat --tiles--> D --> picture (H, W, 3) uint8

Only the picture, y and z0_hat exist for the whole picture at once. Within the halo convolutions see what they would see
in the whole picture; group norms take the statistics of a sample of it (`nn/moments.py`); attention sees its window
only. The noise is drawn for the whole picture. docs/performance.md says how near the results are, and what they cost.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from rdeic.container.stored_size import Size
from rdeic.model.model import Rdeic
from rdeic.model.tiles import UNIT, Sample, Tiling, at, grid, windows
from rdeic.nn import moments
from rdeic.nn.moments import Moments
from rdeic.nn.norm import GroupNorm
from rdeic.nn.reach import reach
from rdeic.pictures import images
from rdeic.pictures.images import Picture
from rdeic.system import memory
from rdeic.types import CodedLatent, CompressedFeatures

_THINNED = 4  # of so many pixels in a row or column one is enough to choose a sample
_FAINT = 1e-3  # of a window's weight, at its borders

Cut = tuple[slice, slice]  # rows and columns, in pixels of the padded picture


class Restoring(NamedTuple):
    """How a picture is restored; as the arguments of `Rdeic.denoise`."""

    noises: Callable[[Tensor], Iterator[Tensor]]  # of what is shaped so
    steps: int
    detail: float


# -- picture -> y


def analyse(model: Rdeic, picture: Picture, tiling: Tiling) -> Tensor:
    """(H, W, 3) uint8 -> y (1, M, h, w), as `Rdeic.analyse` finds it in the padded picture."""
    stride, device = model.config.y_stride, _device(model)
    height, width = _padded(picture.shape[0], model), _padded(picture.shape[1], model)
    networks = nn.ModuleList([model.autoencoder.encoder, model.compression.g_a])

    def y_of(cuts: Sequence[Cut]) -> Tensor:
        """Of windows of equal size, a batch."""
        x = torch.from_numpy(np.stack([_pixels(picture, cut) for cut in cuts])).permute(0, 3, 1, 2)
        return model.analyse(x.to(device) / 127.5 - 1)

    thin = _pixels(
        picture[::_THINNED, ::_THINNED], (slice(0, height // _THINNED), slice(0, width // _THINNED))
    )
    overview = Overview(torch.from_numpy(thin).permute(2, 0, 1)[None].float(), UNIT // _THINNED)
    known = _moments(networks, overview, tiling.sample, y_of)
    example = torch.zeros(1, 3, UNIT, UNIT, device=device)
    own = next(model.compression.g_a.parameters()).dtype
    seen = reach(networks, example, lambda both, x: both[1](both[0](x).to(own)))
    y = torch.empty(1, model.config.compression.y_channels, height // stride, width // stride, device=device)
    for rows, columns in grid(height, width, tiling.side, _halo(seen, stride, tiling)):
        with moments.given(known):
            found = y_of([(rows.outer, columns.outer)])
        y[:, :, at(rows.inner, stride), at(columns.inner, stride)] = found[
            :, :, at(rows.within, stride), at(columns.within, stride)
        ]
    return y


def _pixels(picture: Picture, cut: Cut) -> Picture:
    """A part of the picture, of which some may be padding."""
    rows, columns = cut
    return images.pad_to(picture[rows, columns], rows.stop - rows.start, columns.stop - columns.start)


# -- y_hat -> picture


def restore(
    model: Rdeic, coded: CodedLatent, quality: int, size: Size, how: Restoring, tiling: Tiling
) -> Picture:
    """Bits, quality byte -> (height, width, 3) uint8.

    Raises FileFormatError for a stream that does not fit, OverflowError if a value is not finite.
    """
    level = model.level(quality)
    y_hat = model.decode_y_hat(coded, quality).to(level)
    memory.give_back()
    z0_hat = denoise(model, y_hat, level, how, tiling)
    memory.give_back()
    return decode(model, z0_hat, size, tiling)


def denoise(model: Rdeic, y_hat: Tensor, level: Tensor, how: Restoring, tiling: Tiling) -> Tensor:
    """y_hat (1, M, h, w), quality level (1,) -> z0_hat (1, latent_channels, 2h, 2w), blended of windows."""
    config = model.config
    stride, y_stride = config.autoencoder.stride, config.y_stride
    channels = config.autoencoder.latent_channels
    height, width = (y_stride * side for side in y_hat.shape[2:])
    z0_hat = y_hat.new_zeros(1, channels, height // stride, width // stride)
    noises = list(itertools.islice(how.noises(z0_hat), how.steps))
    g_s = nn.Sequential(model.compression.g_s, model.compression.to_latent)
    seen = y_stride * reach(g_s, y_hat[:, :, :4, :4].to(model.compression.to_latent.weight))

    def features(cut: Cut) -> CompressedFeatures:
        tile_of = [_around(span, seen, length) for span, length in zip(cut, (height, width), strict=True)]
        (rows, inner_rows), (columns, inner_columns) = tile_of
        z_c, guide = model.compression.features(_part(y_hat, (rows, columns), y_stride), level)
        inner = (inner_rows, inner_columns)
        return CompressedFeatures(_part(z_c, inner, stride).to(y_hat), _part(guide, inner, stride))

    def z0_of(cuts: Sequence[Cut]) -> Tensor:
        parts = [features(cut) for cut in cuts]
        batch = CompressedFeatures(*(torch.cat(one) for one in zip(*parts, strict=True)))
        drawn = (torch.cat([_part(noise, cut, stride) for cut in cuts]) for noise in noises)
        return model.denoise(batch, drawn, how.steps, how.detail)

    across, down = (windows(side, tiling.window, tiling.overlap) for side in (width, height))
    places = [(rows, columns) for rows in down for columns in across]
    if len(places) == 1:
        return z0_of(places)
    networks = nn.ModuleList([model.unet, model.control])
    known = _moments(networks, Overview(y_hat, UNIT // y_stride), tiling.window_sample, z0_of)
    weights = z0_hat.new_zeros(z0_hat.shape[2:])
    for rows, columns in places:
        with moments.given(known):
            found = z0_of([(rows, columns)])
        ramps = [_ramp(*one, tiling.overlap, stride) for one in ((rows, height), (columns, width))]
        weight = (ramps[0][:, None] * ramps[1]).to(weights)
        _part(z0_hat, (rows, columns), stride).add_(found * weight)
        weights[at(rows, stride), at(columns, stride)] += weight
    return z0_hat.div_(weights)


def _ramp(span: slice, length: int, overlap: int, stride: int) -> Tensor:
    """Weights of a window's positions along an axis: hardly any in the outer third of an overlap, rising in the next.

    The picture's own border is none of a window.
    """
    place = torch.arange((span.stop - span.start) // stride) + 0.5
    ramp = (place * (3 * stride / overlap) - 1).clamp(_FAINT, 1.0)
    rising = ramp if span.start else torch.ones_like(place)
    falling = ramp.flip(0) if span.stop < length else torch.ones_like(place)
    return rising * falling


def decode(model: Rdeic, z0_hat: Tensor, size: Size, tiling: Tiling) -> Picture:
    """z0_hat (1, latent_channels, h, w) -> (size.height, size.width, 3) uint8, tile by tile."""
    stride, d = model.config.autoencoder.stride, model.autoencoder.decode
    height, width = (stride * side for side in z0_hat.shape[2:])
    networks = model.autoencoder.decoder

    def x_of(cuts: Sequence[Cut]) -> Tensor:
        return d(torch.cat([_part(z0_hat, cut, stride) for cut in cuts]))

    known = _moments(networks, Overview(z0_hat, UNIT // stride), tiling.sample, x_of)
    example = z0_hat[:, :, : UNIT // stride, : UNIT // stride].to(model.precision)
    seen = stride * reach(networks, example)
    picture = np.empty((size.height, size.width, 3), np.uint8)
    for rows, columns in grid(height, width, tiling.side, _halo(seen, model.config.y_stride, tiling)):
        with moments.given(known):
            x = x_of([(rows.outer, columns.outer)])[0, :, rows.within, columns.within]
        there = picture[rows.inner, columns.inner]  # of padding, nothing
        there[...] = to_pixels(x)[: there.shape[0], : there.shape[1]]
    return picture


def to_pixels(x: Tensor) -> NDArray[np.uint8]:
    """(3, h, w), nominally in [-1, 1] -> (h, w, 3). Raises OverflowError if a value is not finite."""
    if not x.isfinite().all():
        raise OverflowError
    pixels = ((x.float() + 1) * 127.5).round().clamp(0, 255).to(torch.uint8)
    return np.ascontiguousarray(pixels.permute(1, 2, 0).cpu().numpy())


# -- the sample


class Overview:
    """What a sample must resemble: means of features x and x^2 over cells of UNIT pixels a side."""

    def __init__(self, x: Tensor, cell: int) -> None:
        """x (1, C, h, w), of which `cell` positions are UNIT pixels."""
        means = [F.avg_pool2d(one, cell) for one in (x, x * x)]
        self.cells = torch.cat(means, dim=1)  # (1, 2C, H / UNIT, W / UNIT)

    def choose(self, sample: Sample) -> list[Cut]:
        """Windows whose means together are near those of the picture: each the best addition to those before it."""
        rows, columns = self.cells.shape[2:]
        sides = [min(sample.side // UNIT, cells) for cells in (rows, columns)]
        means = F.avg_pool2d(self.cells, sides, stride=1)[
            0
        ]  # (2C, rows, columns) of a window's upper left corner
        across = means.shape[2]
        unit = self.cells.std((2, 3), correction=0)[0] + 1e-6
        wanted = self.cells.mean((2, 3))[0] / unit
        found = means.flatten(1) / unit[:, None]
        chosen: list[int] = []
        total = torch.zeros_like(wanted)
        free = torch.zeros(found.shape[1], device=found.device)
        for number in range(min(sample.count, found.shape[1])):
            distance = ((total[:, None] + found) / (number + 1) - wanted[:, None]).square().sum(0) + free
            best = int(distance.argmin())
            chosen.append(best)
            total += found[:, best]
            free[best] = torch.inf
        return [
            (
                _with_halo(best // across, sides[0], rows, sample.halo),
                _with_halo(best % across, sides[1], columns, sample.halo),
            )
            for best in chosen
        ]


def _with_halo(first: int, count: int, cells: int, halo: int) -> slice:
    """Of cells first..first + count - 1 along an axis, pixels; shifted into the picture, so that all are as long."""
    length = min(UNIT * count + 2 * halo, UNIT * cells)
    start = min(max(0, UNIT * first - halo), UNIT * cells - length)
    return slice(start, start + length)


def _moments(
    networks: nn.Module, overview: Overview, sample: Sample, work: Callable[[Sequence[Cut]], Tensor]
) -> list[Moments]:
    """Of all group norms that `work` on windows of the picture runs through."""
    if not any(isinstance(layer, GroupNorm) for layer in networks.modules()):
        return []
    cuts = overview.choose(sample)
    with moments.recorded(sample.halo / (sample.side + 2 * sample.halo)) as found:
        work(cuts)
    return found


# -- lengths


def _device(model: Rdeic) -> torch.device:
    return model.compression.to_latent.weight.device


def _padded(length: int, model: Rdeic) -> int:
    return -(-length // model.config.hyper_stride) * model.config.hyper_stride


def _halo(seen: int, unit: int, tiling: Tiling) -> int:
    """As wide as the networks see, in multiples of `unit`, but not wider than wanted."""
    return min(-(-seen // unit) * unit, tiling.halo)


def _around(span: slice, reach: int, length: int) -> tuple[slice, slice]:
    """`reach` more on either side, within 0..length, and where `span` lies in that."""
    start, stop = max(0, span.start - reach), min(length, span.stop + reach)
    return slice(start, stop), slice(span.start - start, span.stop - start)


def _part(x: Tensor, cut: Cut, stride: int) -> Tensor:
    """Of (B, C, h, w), whose positions are `stride` pixels; a view."""
    rows, columns = cut
    return x[:, :, at(rows, stride), at(columns, stride)]

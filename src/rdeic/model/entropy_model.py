"""The entropy model: the networks that give y its probabilities, and the one walk over its slices.

What a pass computes before the function that quantises is called depends on tensors alone, so a Runner may send it to a
GPU as one graph. It may also be computed in bands of rows, each with the rows around it that its convolutions see
(bands.py). In exact arithmetic that changes no bit.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor, nn

from rdeic.config import CompressionConfig
from rdeic.model.bands import HYPER_ROWS, Band, bands
from rdeic.model.tiles import at, tiles
from rdeic.nn.codebook import Codebook
from rdeic.nn.context import Checkerboard, Half, SliceContext, checkerboard, context_model
from rdeic.nn.graphs import Runner, eager
from rdeic.nn.quality import QualityTable
from rdeic.nn.reach import chain_reach, reach
from rdeic.nn.transforms import hyper_synthesis
from rdeic.types import EntropyParams


class Pass(NamedTuple):
    """One checkerboard half of one slice."""

    channels: slice
    half: Half
    params: EntropyParams  # (B, c, 1, P), at the positions of the half; in bands as precise as `hyper`


Quantise = Callable[[Pass], Tensor]  # -> y_hat (B, c, 1, P)
Runners = Callable[[int, str], Runner]  # of a slice's number and the half's name


def all_eager(number: int, half: str) -> Runner:
    """Runs every pass as it is, none as a graph."""
    return eager


class EntropyModel(nn.Module):
    """Everything between the hyper indices and the probabilities; runs in exact arithmetic when coding."""

    def __init__(self, config: CompressionConfig) -> None:
        super().__init__()
        self.slices = config.slices
        self.codebook = Codebook(config.codebook_size, config.width)
        levels = config.quality_levels
        self.hyper_quality = QualityTable(config.width, 0.0, 0.0, levels) if levels else None
        self.hyper_synthesis = hyper_synthesis(config)
        self.context = context_model(config)

    def hyper(self, z_q: Tensor, quality: Tensor) -> Tensor:
        """codebook entries (B, N, h/4, w/4), quality (B,) in [0, 1] -> hyper feature (B, 2M, h, w)."""
        if self.hyper_quality is not None:
            z_q = z_q + self.hyper_quality(quality)
        return self.hyper_synthesis(z_q)

    def hyper_in_bands(self, indices: Tensor, quality: Tensor, rows: int) -> Tensor:
        """Hyper indices (1, h/4, w/4) -> `hyper` in float32, which holds its values, `rows` rows of y at a time."""
        indices = indices.to(quality.device)
        halo = HYPER_ROWS * reach(self.hyper_synthesis, self.codebook.lookup(indices[:, :4, :4]))
        height, width = (HYPER_ROWS * side for side in indices.shape[1:])
        hyper = torch.empty(1, 2 * sum(self.slices), height, width, device=indices.device)
        for band in tiles(height, rows, halo):
            z_q = self.codebook.lookup(indices[:, at(band.outer, HYPER_ROWS)])
            hyper[:, :, band.inner] = self.hyper(z_q, quality)[:, :, band.within]
        return hyper

    def walk(
        self, hyper: Tensor, quantise: Quantise, runners: Runners = all_eager, rows: int | None = None
    ) -> Tensor:
        """Visit all slices in coding order -> y_hat (B, M, h, w).

        At most `rows` rows, an even number, are computed at a time; None: all. With `rows`, `hyper` may have a lower
        precision than the networks, if that holds its values exactly.
        """
        cut = bands(hyper, rows, self.codebook.entries.dtype)
        height, width = hyper.shape[2:]
        board = cut[0].board if len(cut) == 1 else checkerboard(height, width, hyper.device)
        # Where memory counts, no slice exists twice: not beside the whole either.
        entries, shape = self.codebook.entries, (len(hyper), sum(self.slices), height, width)
        whole = None if rows is None else entries.new_empty(shape)
        decoded: list[Tensor] = []
        first = 0
        for number, (count, context) in enumerate(zip(self.slices, self.context, strict=True)):
            channels = slice(first, first + count)
            assert isinstance(context, SliceContext)  # a ModuleList does not say of what
            walked = _Slice(context, board, cut, channels)
            y_hat, channel = _visit_anchors(walked, decoded, quantise, runners(number, "anchors"))
            y_hat = _visit_non_anchors(walked, y_hat, channel, quantise, runners(number, "others"))
            decoded.append(y_hat if whole is None else whole[:, channels].copy_(y_hat))
            first += count
        return torch.cat(decoded, dim=1) if whole is None else whole

    def pass_sizes(self, height: int, width: int) -> list[int]:
        """How many symbols each pass of a y (1, M, height, width) has, in coding order."""
        anchors = height * width // 2
        return [count * half for count in self.slices for half in (anchors, height * width - anchors)]


class _Slice(NamedTuple):
    context: SliceContext
    board: Checkerboard  # of all of y
    bands: list[Band]
    channels: slice


def _visit_anchors(
    walked: _Slice, decoded: list[Tensor], quantise: Quantise, run: Runner
) -> tuple[Tensor, list[Tensor]]:
    """-> y_hat (B, c, h, w) at the anchors, and what the slices before tell of this one, if there are any, by band."""
    context, found, channels = walked.context, [], []
    halo = 0 if context.channel is None else chain_reach(context.channel)
    for band in walked.bands:

        def compute(hyper: Tensor, *before: Tensor, band: Band = band) -> tuple[Tensor, ...]:
            channel = context.channel_context(list(before))
            if channel is None:
                return context.anchor(hyper, None)
            channel = band.within(channel, halo)
            return (*context.anchor(hyper, band.board.anchors.take(channel)), channel)

        mu, sigma, *channel = run(compute, band.anchors, *(band.around(one, halo) for one in decoded))
        found.append(EntropyParams(mu=band.kept(mu), sigma=band.kept(sigma)))
        channels += [band.kept(one) for one in channel]
    y_hat = quantise(Pass(walked.channels, walked.board.anchors, _joined(found)))
    return walked.board.anchors.spread(y_hat), channels


def _visit_non_anchors(
    walked: _Slice, y_hat: Tensor, channels: list[Tensor], quantise: Quantise, run: Runner
) -> Tensor:
    """-> y_hat (B, c, h, w) of the whole slice."""
    context, found = walked.context, []
    halo = chain_reach(context.local)
    for number, band in enumerate(walked.bands):

        def compute(hyper: Tensor, y_hat: Tensor, *channel: Tensor, band: Band = band) -> tuple[Tensor, ...]:
            non_anchors = band.board.non_anchors
            local = non_anchors.take(band.within(context.local(y_hat), halo))
            return context.non_anchor(hyper, non_anchors.take(channel[0]) if channel else None, local)

        channel = [band.again(one) for one in channels[number : number + 1]]
        mu, sigma = run(compute, band.non_anchors, band.around(y_hat, halo), *channel)
        found.append(EntropyParams(mu=band.kept(mu), sigma=band.kept(sigma)))
    rest = quantise(Pass(walked.channels, walked.board.non_anchors, _joined(found)))
    return y_hat + walked.board.non_anchors.spread(rest)


def _joined(params: list[EntropyParams]) -> EntropyParams:
    """Of all bands, each (B, c, 1, P): positions are in the order of rows."""
    if len(params) == 1:
        return params[0]
    mu, sigma = (torch.cat(parts, dim=3) for parts in zip(*params, strict=True))
    return EntropyParams(mu=mu, sigma=sigma)

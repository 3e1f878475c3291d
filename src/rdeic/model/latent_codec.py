"""y and its hyper-latent to bits and back: the entropy model and the one walk over its slices.

Training, encoding and decoding differ only in the function that turns entropy parameters into y_hat:

    training   y_hat = round(y - mu) + mu, straight-through; the parameters are kept for the rate
    encoding   the same rounding; symbols go to the range coder, all together when the walk is over
    decoding   symbols come from the range coder, and each pass waits for its own

What a pass computes before that function is called depends on tensors alone, so a Runner may send it to a GPU as one
graph. It may also be computed in bands of rows, each with the rows around it that its convolutions see, because the
hidden activations of a picture of 100 megapixels would take gigabytes. In exact arithmetic that changes no bit.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from rdeic.config import CompressionConfig
from rdeic.entropy import tables
from rdeic.entropy.coder import SymbolDecoder, SymbolEncoder
from rdeic.nn.codebook import Codebook
from rdeic.nn.context import Checkerboard, Half, SliceContext, checkerboard, context_model
from rdeic.nn.graphs import Runner, eager
from rdeic.nn.quality import QualityTable
from rdeic.nn.rate import round_straight_through
from rdeic.nn.reach import chain_reach
from rdeic.nn.transfer import to_device, to_host
from rdeic.nn.transforms import hyper_synthesis
from rdeic.types import EntropyParams


class Pass(NamedTuple):
    """One checkerboard half of one slice."""

    channels: slice
    half: Half
    params: EntropyParams  # (B, c, 1, P), at the positions of the half


Quantise = Callable[[Pass], Tensor]  # -> y_hat (B, c, 1, P)
Runners = Callable[[int, str], Runner]  # of a slice's number and the half's name


def _all_eager(number: int, half: str) -> Runner:
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

    def walk(
        self, hyper: Tensor, quantise: Quantise, runners: Runners = _all_eager, rows: int | None = None
    ) -> Tensor:
        """Visit all slices in coding order -> y_hat (B, M, h, w).

        At most `rows` rows, an even number, are computed at a time; None: all. With `rows`, `hyper` may have a lower
        precision than the networks, if that holds its values exactly.
        """
        bands = _bands(hyper, rows, self.codebook.entries.dtype)
        height, width = hyper.shape[2:]
        board = bands[0].board if len(bands) == 1 else checkerboard(height, width, hyper.device)
        decoded: list[Tensor] = []
        first = 0
        for number, (count, context) in enumerate(zip(self.slices, self.context, strict=True)):
            channels = slice(first, first + count)
            assert isinstance(context, SliceContext)  # a ModuleList does not say of what
            walked = _Slice(context, board, bands, channels)
            y_hat, channel = _visit_anchors(walked, decoded, quantise, runners(number, "anchors"))
            decoded.append(_visit_non_anchors(walked, y_hat, channel, quantise, runners(number, "others")))
            first += count
        return torch.cat(decoded, dim=1)

    def pass_sizes(self, height: int, width: int) -> list[int]:
        """How many symbols each pass of a y (1, M, height, width) has, in coding order."""
        anchors = height * width // 2
        return [count * half for count in self.slices for half in (anchors, height * width - anchors)]


class _Band(NamedTuple):
    """Rows of y that are computed together. The first of them is even, so that halves are halves of the whole's."""

    rows: slice
    board: Checkerboard
    hyper: Tensor  # (B, 2M, n, w)
    halves: tuple[Tensor, Tensor] | None  # of `hyper`; None: of many bands, each is taken when it is needed
    dtype: torch.dtype  # of the networks

    @property
    def anchors(self) -> Tensor:
        return self.halves[0] if self.halves else self.board.anchors.take(self.hyper).to(self.dtype)

    @property
    def non_anchors(self) -> Tensor:
        return self.halves[1] if self.halves else self.board.non_anchors.take(self.hyper).to(self.dtype)

    def kept(self, x: Tensor) -> Tensor:
        """For later, as small as `hyper`."""
        return x if self.halves else x.to(self.hyper.dtype)

    def again(self, x: Tensor) -> Tensor:
        """What was kept."""
        return x if self.halves else x.to(self.dtype)

    def around(self, x: Tensor, reach: int) -> Tensor:
        """The band's rows of the whole's (B, C, h, w), and `reach` rows more on either side, as far as there are."""
        return x[:, :, max(0, self.rows.start - reach) : self.rows.stop + reach]

    def within(self, x: Tensor, reach: int) -> Tensor:
        """The band's rows of what was computed from `around`."""
        start = min(reach, self.rows.start)
        return x[:, :, start : start + self.rows.stop - self.rows.start]


def _bands(hyper: Tensor, rows: int | None, dtype: torch.dtype) -> list[_Band]:
    height, width = hyper.shape[2:]
    if rows is None or rows >= height:
        hyper = hyper if rows is None else hyper.to(dtype)
        board = checkerboard(height, width, hyper.device)
        halves = board.anchors.take(hyper), board.non_anchors.take(hyper)
        return [_Band(slice(0, height), board, hyper, halves, dtype)]
    assert rows % 2 == 0
    cuts = [slice(start, min(start + rows, height)) for start in range(0, height, rows)]
    boards = {n: checkerboard(n, width, hyper.device) for n in {cut.stop - cut.start for cut in cuts}}
    return [_Band(cut, boards[cut.stop - cut.start], hyper[:, :, cut], None, dtype) for cut in cuts]


class _Slice(NamedTuple):
    context: SliceContext
    board: Checkerboard  # of all of y
    bands: list[_Band]
    channels: slice


def _visit_anchors(
    walked: _Slice, decoded: list[Tensor], quantise: Quantise, run: Runner
) -> tuple[Tensor, list[Tensor]]:
    """-> y_hat (B, c, h, w) at the anchors, and what the slices before tell of this one, if there are any, by band."""
    context, found, channels = walked.context, [], []
    reach = 0 if context.channel is None else chain_reach(context.channel)
    for band in walked.bands:

        def compute(hyper: Tensor, *before: Tensor, band: _Band = band) -> tuple[Tensor, ...]:
            channel = context.channel_context(list(before))
            if channel is None:
                return context.anchor(hyper, None)
            channel = band.within(channel, reach)
            return (*context.anchor(hyper, band.board.anchors.take(channel)), channel)

        mu, sigma, *channel = run(compute, band.anchors, *(band.around(one, reach) for one in decoded))
        found.append(EntropyParams(mu=mu, sigma=sigma))
        channels += [band.kept(one) for one in channel]
    y_hat = quantise(Pass(walked.channels, walked.board.anchors, _joined(found)))
    return walked.board.anchors.spread(y_hat), channels


def _visit_non_anchors(
    walked: _Slice, y_hat: Tensor, channels: list[Tensor], quantise: Quantise, run: Runner
) -> Tensor:
    """-> y_hat (B, c, h, w) of the whole slice."""
    context, found = walked.context, []
    reach = chain_reach(context.local)
    for number, band in enumerate(walked.bands):

        def compute(hyper: Tensor, y_hat: Tensor, *channel: Tensor, band: _Band = band) -> tuple[Tensor, ...]:
            non_anchors = band.board.non_anchors
            local = non_anchors.take(band.within(context.local(y_hat), reach))
            return context.non_anchor(hyper, non_anchors.take(channel[0]) if channel else None, local)

        channel = [band.again(one) for one in channels[number : number + 1]]
        mu, sigma = run(compute, band.non_anchors, band.around(y_hat, reach), *channel)
        found.append(EntropyParams(mu=mu, sigma=sigma))
    rest = quantise(Pass(walked.channels, walked.board.non_anchors, _joined(found)))
    return y_hat + walked.board.non_anchors.spread(rest)


def _joined(params: list[EntropyParams]) -> EntropyParams:
    """Of all bands, each (B, c, 1, P): positions are in the order of rows."""
    if len(params) == 1:
        return params[0]
    mu, sigma = (torch.cat(parts, dim=3) for parts in zip(*params, strict=True))
    return EntropyParams(mu=mu, sigma=sigma)


class Walked(NamedTuple):
    """y_hat and its entropy parameters, from the training walk."""

    y_hat: Tensor  # (B, M, h, w)
    params: EntropyParams  # as used at every position


def quantise_all(entropy: EntropyModel, y: Tensor, hyper: Tensor) -> Walked:
    """The training walk: y (B, M, h, w) -> y_hat with straight-through gradients, and the parameters."""
    passes: list[Pass] = []

    def visit(step: Pass) -> Tensor:
        passes.append(step)
        mean = step.params.mu
        return round_straight_through(step.half.take(y[:, step.channels]) - mean) + mean

    y_hat = entropy.walk(hyper, visit)
    mu = _whole([step.half.spread(step.params.mu) for step in passes])
    sigma = _whole([step.half.spread(step.params.sigma) for step in passes])
    return Walked(y_hat, EntropyParams(mu=mu, sigma=sigma))


def _whole(halves: list[Tensor]) -> Tensor:
    """(B, c, h, w) of every pass in coding order, zeros at the other half's positions -> (B, M, h, w)."""
    pairs = zip(halves[::2], halves[1::2], strict=True)
    return torch.cat([anchors + non_anchors for anchors, non_anchors in pairs], dim=1)


class Symbols(NamedTuple):
    """y as integers, on the device."""

    coded: Tensor  # (2, n) float64: symbols and sigmas in coding order: pass, channel, row, column
    y_hat: Tensor  # (1, M, h, w) float64, what `decode_y` must find


def symbols_of(exact: EntropyModel, y: Tensor, hyper: Tensor) -> Symbols:
    """The encoder's walk: y (1, M, h, w), and the exact_copy and its hyper feature. Waits for nothing."""
    symbols: list[Tensor] = []
    sigmas: list[Tensor] = []

    def visit(step: Pass) -> Tensor:
        rounded = _rounded(step, y)
        symbols.append(rounded.flatten())
        sigmas.append(step.params.sigma.flatten())
        return rounded + step.params.mu

    y_hat = exact.walk(hyper, visit)
    return Symbols(torch.cat(symbols + sigmas).view(2, -1), y_hat)


def encode_symbols(exact: EntropyModel, found: Symbols) -> bytes:
    """Symbols that `symbols_of` found -> the y stream, by the range coder on the CPU."""
    symbols, sigmas = to_host(found.coded)
    coder = SymbolEncoder()
    integers, scales = symbols.astype(np.int32), tables.scale_index(sigmas)
    end = 0
    for size in exact.pass_sizes(*found.y_hat.shape[2:]):
        start, end = end, end + size
        coder.encode(integers[start:end], scales[start:end])
    return coder.finish()


class EncodedY(NamedTuple):
    """y as bits."""

    stream: bytes
    y_hat: Tensor  # (1, M, h, w) float64, what `decode_y` must find in it


def encode_y(exact: EntropyModel, y: Tensor, hyper: Tensor) -> bytes:
    """y (1, M, h, w) -> bits. `exact` and `hyper` are the exact_copy and its hyper feature."""
    return encode_with_y_hat(exact, y, hyper).stream


def encode_with_y_hat(exact: EntropyModel, y: Tensor, hyper: Tensor) -> EncodedY:
    """`encode_y`, together with the y_hat that its decoder must find."""
    found = symbols_of(exact, y, hyper)
    return EncodedY(encode_symbols(exact, found), found.y_hat)


def encode_in_bands(exact: EntropyModel, y: Tensor, hyper: Tensor, rows: int) -> EncodedY:
    """`encode_with_y_hat` with less memory: `rows` as in `walk`, and each pass is coded as soon as it is found."""
    coder = SymbolEncoder()

    def visit(step: Pass) -> Tensor:
        rounded = _rounded(step, y)
        scales = tables.scale_index(to_host(step.params.sigma.flatten()))
        coder.encode(to_host(rounded.flatten()).astype(np.int32), scales)
        return rounded + step.params.mu

    y_hat = exact.walk(hyper, visit, rows=rows)
    return EncodedY(coder.finish(), y_hat)


def _rounded(step: Pass, y: Tensor) -> Tensor:
    """The symbols of a pass (1, c, 1, P) float64."""
    return (step.half.take(y[:, step.channels]).double() - step.params.mu).round()


def decode_y(
    exact: EntropyModel, stream: bytes, hyper: Tensor, runners: Runners = _all_eager, rows: int | None = None
) -> Tensor:
    """Inverse of `encode_y`: bits -> y_hat (1, M, h, w) float64, exactly the encoder's. Waits once a pass.

    `rows` as in `walk`, whatever the encoder did. Raises FileFormatError when the stream does not end where the symbols
    do.
    """
    coder = SymbolDecoder(stream)

    def visit(step: Pass) -> Tensor:
        mu, sigma = step.params
        symbols = coder.decode(tables.scale_index(to_host(sigma.flatten())))
        return to_device(symbols, mu).view_as(mu) + mu

    y_hat = exact.walk(hyper, visit, runners, rows)
    coder.finish()
    return y_hat

"""y to bits and back: what meets the walk of the entropy model over y's slices.

Training, encoding and decoding differ only in the function that turns entropy parameters into y_hat:

    training   y_hat = round(y - mu) + mu, straight-through; the parameters are kept for the rate
    encoding   the same rounding; symbols go to the range coder, all together when the walk is over
    decoding   symbols come from the range coder, and each pass waits for its own
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from rdeic.entropy import tables
from rdeic.entropy.coder import SymbolDecoder, SymbolEncoder
from rdeic.model.entropy_model import EntropyModel, Pass, Runners, all_eager
from rdeic.nn.rate import round_straight_through
from rdeic.nn.transfer import to_device, to_host
from rdeic.types import EntropyParams


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
        rounded = _rounded(step, step.half.take(y[:, step.channels]))
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


def encode_in_bands(exact: EntropyModel, y: Tensor, gain: Tensor, hyper: Tensor, rows: int) -> EncodedY:
    """`encode_with_y_hat` of y * gain with less memory.

    `gain` is (1, M, 1, 1), `rows` as in `walk`. y is scaled a pass at a time, and each pass is coded as soon as it is
    found.
    """
    coder = SymbolEncoder()

    def visit(step: Pass) -> Tensor:
        scaled = step.half.take(y[:, step.channels]) * gain[:, step.channels]
        rounded = _rounded(step, scaled.double())
        scales = tables.scale_index(to_host(step.params.sigma.flatten()))
        coder.encode(to_host(rounded.flatten()).astype(np.int32), scales)
        return rounded + step.params.mu

    y_hat = exact.walk(hyper, visit, rows=rows)
    return EncodedY(coder.finish(), y_hat)


def _rounded(step: Pass, y: Tensor) -> Tensor:
    """y at the positions of a pass, scaled -> its symbols (1, c, 1, P), in the finer precision of y and mu."""
    return (y - step.params.mu).round_()


def decode_y(
    exact: EntropyModel, stream: bytes, hyper: Tensor, runners: Runners = all_eager, rows: int | None = None
) -> Tensor:
    """Inverse of `encode_y`: bits -> y_hat (1, M, h, w) float64, exactly the encoder's. Waits once a pass.

    `rows` as in `walk`, whatever the encoder did. Raises FileFormatError when the stream does not end where the symbols
    do.
    """
    coder = SymbolDecoder(stream)

    def visit(step: Pass) -> Tensor:
        mu, sigma = step.params
        symbols = coder.decode(tables.scale_index(to_host(sigma.flatten())))
        return to_device(symbols, mu.double()).view_as(mu) + mu

    y_hat = exact.walk(hyper, visit, runners, rows)
    coder.finish()
    return y_hat

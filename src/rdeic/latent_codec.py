"""y and its hyper-latent to bits and back: the entropy model and the one walk over its slices.

Training, encoding and decoding differ only in the function that turns entropy parameters into y_hat:

    training   y_hat = round(y - mu) + mu, straight-through; the parameters are kept for the rate
    encoding   the same rounding; symbols go to the range coder
    decoding   symbols come from the range coder
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from rdeic.config import CompressionConfig
from rdeic.entropy import tables
from rdeic.entropy.coder import SymbolDecoder, SymbolEncoder
from rdeic.nn.codebook import Codebook
from rdeic.nn.context import Checkerboard, Half, SliceContext, checkerboard, context_model
from rdeic.nn.quality import QualityTable
from rdeic.nn.rate import round_straight_through
from rdeic.nn.transforms import hyper_synthesis
from rdeic.types import EntropyParams


class Pass(NamedTuple):
    """One checkerboard half of one slice."""

    channels: slice
    half: Half
    params: EntropyParams  # (B, c, 1, P), at the positions of the half


Quantise = Callable[[Pass], Tensor]  # -> y_hat (B, c, 1, P)


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

    def walk(self, hyper: Tensor, quantise: Quantise) -> Tensor:
        """Visit all slices in coding order -> y_hat (B, M, h, w)."""
        board = checkerboard(hyper.shape[2], hyper.shape[3], hyper.device)
        halves = (board.anchors.take(hyper), board.non_anchors.take(hyper))
        decoded: list[Tensor] = []
        first = 0
        for count, context in zip(self.slices, self.context, strict=True):
            channels = slice(first, first + count)
            assert isinstance(context, SliceContext)  # a ModuleList does not say of what
            decoded.append(_walk_slice(context, board, halves, decoded, channels, quantise))
            first += count
        return torch.cat(decoded, dim=1)


def _walk_slice(
    context: SliceContext,
    board: Checkerboard,
    hyper: tuple[Tensor, Tensor],
    decoded: list[Tensor],
    channels: slice,
    quantise: Quantise,
) -> Tensor:
    """-> y_hat (B, c, h, w) of one slice; `hyper` at the anchors and at the non-anchors."""
    channel = context.channel_context(decoded)

    def known(half: Half) -> Tensor | None:
        return None if channel is None else half.take(channel)

    anchors, non_anchors = board
    params = context.anchor(hyper[0], known(anchors))
    y_hat = anchors.spread(quantise(Pass(channels, anchors, params)))
    local = non_anchors.take(context.local(y_hat))
    params = context.non_anchor(hyper[1], known(non_anchors), local)
    return y_hat + non_anchors.spread(quantise(Pass(channels, non_anchors, params)))


class Walked(NamedTuple):
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


class EncodedY(NamedTuple):
    """y as bits."""

    stream: bytes
    y_hat: Tensor  # (1, M, h, w) float64, what `decode_y` must find in it


def encode_y(exact: EntropyModel, y: Tensor, hyper: Tensor) -> bytes:
    """y (1, M, h, w) -> bits. `exact` and `hyper` are the exact_copy and its hyper feature."""
    return encode_with_y_hat(exact, y, hyper).stream


def encode_with_y_hat(exact: EntropyModel, y: Tensor, hyper: Tensor) -> EncodedY:
    """`encode_y`, for those who want to compare."""
    coder = SymbolEncoder()

    def visit(step: Pass) -> Tensor:
        symbols = (step.half.take(y[:, step.channels]) - step.params.mu).round()
        coder.encode(_numbers(symbols).astype(np.int32), _scale_indexes(step))
        return symbols + step.params.mu

    y_hat = exact.walk(hyper, visit)
    return EncodedY(coder.finish(), y_hat)


def decode_y(exact: EntropyModel, stream: bytes, hyper: Tensor) -> Tensor:
    """Inverse of `encode_y`: bits -> y_hat (1, M, h, w) float64, exactly the encoder's.

    Raises FileFormatError when the stream does not end where the symbols do.
    """
    coder = SymbolDecoder(stream)

    def visit(step: Pass) -> Tensor:
        mu = step.params.mu
        return torch.from_numpy(coder.decode(_scale_indexes(step))).to(mu).view_as(mu) + mu

    y_hat = exact.walk(hyper, visit)
    coder.finish()
    return y_hat


def _scale_indexes(step: Pass) -> NDArray[np.int64]:
    return tables.scale_index(_numbers(step.params.sigma))


def _numbers(x: Tensor) -> NDArray[np.float64]:
    """(1, c, 1, P) in coding order: channel, row, column."""
    return x.flatten().cpu().numpy()

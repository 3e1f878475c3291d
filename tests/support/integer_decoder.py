"""Section 7 of docs/format.md once more, written from that text: numpy integers only, no torch, no float activation.

Activations are int64 in units of 2^-10, weights in units of 2^-14.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rdeic.entropy.coder import SymbolDecoder

Ints = NDArray[np.int64]
Weights = dict[str, NDArray[Any]]  # as stored, names below `compression.entropy.`

LIMIT = 1 << 21
THRESHOLDS = [math.floor(2**32 * 0.11 * (256 / 0.11) ** ((i + 0.5) / 63) + 0.5) for i in range(63)]
GELU = np.array([round(i * 0.5 * (1 + math.erf(i / 1024 * math.sqrt(0.5)))) for i in range(-8192, 8192)])


def decode(
    weights: Weights, slices: tuple[int, ...], quality: int, indices: Ints, stream: bytes
) -> NDArray[np.float64]:
    """Hyper indices (h, w) and y stream => y_hat (M, 4h, 4w)."""
    hyper = hyper_feature(weights, quality, indices)
    symbols = SymbolDecoder(stream)
    odd = np.add.outer(np.arange(hyper.shape[1]), np.arange(hyper.shape[2])) % 2 == 1
    y_hat = np.zeros((0, *hyper.shape[1:]), np.int64)
    for number, channels in enumerate(slices):
        place = f"context.{number}"
        known = hyper
        if number:
            known = np.concatenate([_channel_context(weights, f"{place}.channel", y_hat), hyper])
        anchors = _plane(weights, f"{place}.anchor_params", known, odd, symbols)
        local = convolve(weights, f"{place}.local", anchors)
        rest = _plane(weights, f"{place}.non_anchor_params", np.concatenate([local, known]), ~odd, symbols)
        assert anchors.shape[0] == channels
        y_hat = np.concatenate([y_hat, anchors + rest])
    symbols.finish()
    return y_hat / 1024


def hyper_feature(weights: Weights, quality: int, indices: Ints) -> Ints:
    """(h, w) => (2M, 4h, 4w)."""
    entries = clamp(snap(weights["codebook.entries"], 10))
    x = entries[indices].transpose(2, 0, 1)
    if "hyper_quality.knots" in weights:
        x = x + interpolate(clamp(snap(weights["hyper_quality.knots"], 10)), quality)[:, None, None]
    for place in ("hyper_synthesis.0", "hyper_synthesis.1"):
        h = leaky(_shuffle(convolve(weights, f"{place}.up.0", x)), 164)
        h = leaky(convolve(weights, f"{place}.conv", h), 1638)
        x = h + _shuffle(convolve(weights, f"{place}.skip.0", x))
    for place in ("hyper_synthesis.2", "hyper_synthesis.3"):
        h = leaky(convolve(weights, f"{place}.conv1", x), 164)
        h = leaky(convolve(weights, f"{place}.conv2", h), 164)
        x = h + (convolve(weights, f"{place}.skip", x) if f"{place}.skip.weight" in weights else x)
    return x


def interpolate(knots: Ints, quality: int) -> Ints:
    """Knots (levels, n) at a quality of 0..255 => (n,)."""
    last = len(knots) - 1
    low = min(quality * last // 255, last - 1)
    weight = (2048 * (quality * last - 255 * low) + 255) // 510  # rounds; 255 is odd, so there is no tie
    return clamp(divide(knots[low] * 1024 + (knots[low + 1] - knots[low]) * weight, 10))


def snap(x: NDArray[Any], bits: int) -> Ints:
    """Stored numbers => integers in units of 2^-bits, ties to even."""
    return np.rint(x.astype(np.float64) * 2.0**bits).astype(np.int64)


def divide(x: Ints, bits: int) -> Ints:
    """x / 2^bits, ties to even."""
    floor, rest, half = x >> bits, x & ((1 << bits) - 1), 1 << (bits - 1)
    return floor + ((rest > half) | ((rest == half) & (floor & 1 == 1)))


def clamp(x: Ints) -> Ints:
    return np.clip(x, -LIMIT, LIMIT)


def convolve(weights: Weights, place: str, x: Ints) -> Ints:
    """(in, h, w) => (out, h, w), zeros outside."""
    kernel, bias = snap(weights[f"{place}.weight"], 14), snap(weights[f"{place}.bias"], 14)
    reach = kernel.shape[2] // 2
    padded = np.pad(clamp(x), ((0, 0), (reach, reach), (reach, reach)))
    total = np.broadcast_to(bias[:, None, None] << 10, (len(bias), *x.shape[1:])).copy()
    for i in range(kernel.shape[2]):
        for j in range(kernel.shape[3]):
            window = padded[:, i : i + x.shape[1], j : j + x.shape[2]]
            total += np.einsum("oc,chw->ohw", kernel[:, :, i, j], window)
    return clamp(divide(total, 14))


def leaky(x: Ints, slope: int) -> Ints:
    """`slope` in units of 2^-14."""
    return np.where(x < 0, clamp(divide(x * slope, 14)), x)


def gelu(x: Ints) -> Ints:
    return np.where(x >= 8192, x, np.where(x < -8192, 0, GELU[np.clip(x, -8192, 8191) + 8192]))


def _shuffle(x: Ints) -> Ints:
    """(4c, h, w) => (c, 2h, 2w): channel 4k + 2i + j goes to row 2r + i, column 2s + j of channel k."""
    c, h, w = x.shape[0] // 4, *x.shape[1:]
    return x.reshape(c, 2, 2, h, w).transpose(0, 3, 1, 4, 2).reshape(c, 2 * h, 2 * w)


def _channel_context(weights: Weights, place: str, x: Ints) -> Ints:
    for layer in (0, 2):
        x = gelu(convolve(weights, f"{place}.{layer}", x))
    return convolve(weights, f"{place}.4", x)


def _plane(weights: Weights, place: str, x: Ints, where: NDArray[np.bool_], symbols: SymbolDecoder) -> Ints:
    """One call: the next c values at the positions `where`, zero elsewhere."""
    sigma, mu = np.split(_channel_context(weights, place, x), 2)
    indexes = np.array([_scale_index(int(s)) for s in sigma[:, where].ravel()], np.int64)
    values = np.zeros_like(mu)
    values[:, where] = symbols.decode(indexes).reshape(len(mu), -1).astype(np.int64) * 1024 + mu[:, where]
    return values


def _scale_index(sigma: int) -> int:
    return sum(sigma << 22 > threshold for threshold in THRESHOLDS)

"""Seconds of every stage of the codec, as the paper tells them apart (Tables I and III).

encoding     a picture in memory -> the bytes of a file
denoising    the L steps, from the relay start to z0_hat
remaining    the rest of decoding: bytes -> z_c before the steps, D and rounding after them
"""

from __future__ import annotations

import contextlib
import math
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from rdeic.errors import ConfigError
from rdeic.evaluation.bench.subject import Named, Subject
from rdeic.evaluation.report import Table
from rdeic.pictures.images import Picture

SYNTHETIC = 5  # pictures, where none are given
_PERIODS = (512, 719)  # pixels after which the fields of a texture repeat


class Spread(NamedTuple):
    """Mean and deviation of a few measured times, in seconds."""

    mean: float
    deviation: float  # sample standard deviation; 0 for a single time

    def __str__(self) -> str:
        digits = 3 if self.mean >= 0.1 else 4
        return f"{self.mean:.{digits}f} ± {self.deviation:.{digits}f}"


class StageTimes(NamedTuple):
    """One model at one number of steps, over all pictures and runs."""

    model: str
    device: str  # "cpu", "cuda:0"
    precision: str  # of the noise estimator: "float32"
    width: int  # pixels; 0 where pictures differ
    height: int
    samples: int  # pictures x runs
    steps: int
    encoding: Spread
    denoising: Spread
    remaining: Spread


def measure(
    subject: Subject,
    pictures: Sequence[Named],
    quality: float,
    steps: Sequence[int],
    runs: int,
    advance: Callable[[], None],
) -> list[StageTimes]:
    """A row for each number of steps; `advance` is called once for each picture and run.

    The first picture goes through everything once before the clock starts, and again wherever the size changes. Raises
    ConfigError for steps that the model cannot take, and if there are no pictures.
    """
    if not pictures:
        raise ConfigError("no pictures to measure times with")
    model = subject.model_of(subject.make(pictures[0].picture, quality))
    device = next(model.parameters()).device
    encoding: list[float] = []
    decodings: list[list[Decoding]] = []
    warm: tuple[int, ...] = ()
    for one in pictures:
        if one.picture.shape != warm:
            warm = one.picture.shape
            _once(subject, device, one.picture, quality, steps[:1])
        for _ in range(runs):
            seconds, decoded = _once(subject, device, one.picture, quality, steps)
            encoding.append(seconds)
            decodings.append(decoded)
            advance()
    height, width = _common_size(pictures)
    precision = str(model.precision).removeprefix("torch.")
    return [
        StageTimes(
            subject.name,
            str(device),
            precision,
            width,
            height,
            len(encoding),
            count,
            spread(encoding),
            spread([one.denoising for one in decoded]),
            spread([one.total - one.denoising for one in decoded]),
        )
        for count, decoded in zip(steps, zip(*decodings, strict=True), strict=True)
    ]


class Decoding(NamedTuple):
    """Seconds of one decompression; what is left of `total` is z_c, D and all that surrounds them."""

    total: float
    denoising: float


def decoding(subject: Subject, blob: bytes, steps: int) -> Decoding:
    """Seconds of one decompression. Raises what `Codec.decompress` raises."""
    model = subject.model_of(blob)
    device = next(model.parameters()).device
    # The clock looks into the codec as it is, instead of running a copy of it that may differ.
    with (
        _first_call(model.control, device) as first_step,
        _first_call(model.autoencoder.post_quant_conv, device) as after_steps,
    ):
        start = now(device)
        subject.decompress(blob, steps=steps)
        end = now(device)
    return Decoding(end - start, after_steps[0] - first_step[0])


def now(device: torch.device) -> float:
    """Seconds of a steady clock, everything asked of the device before done."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    elif device.type == "mps":
        torch.mps.synchronize()
    return time.perf_counter()


def spread(seconds: Sequence[float]) -> Spread:
    """Mean and deviation of at least one time."""
    return Spread(statistics.fmean(seconds), statistics.stdev(seconds) if len(seconds) > 1 else 0.0)


def synthetic(width: int, height: int) -> list[Named]:
    """Pictures for a machine that has none: noise with the spectrum of photographs (1/f) in each colour, seeded."""
    found = []
    for seed in range(SYNTHETIC):
        picture = (_field(seed, height, width) + 128.0).clip(0, 255).astype(np.uint8)
        found.append(Named(f"synthetic {seed}", np.ascontiguousarray(picture.transpose(1, 2, 0))))
    return found


def texture(width: int, height: int) -> Picture:
    """The same noise at any size, in little more memory than the picture takes: (height, width, 3).

    Two fields that tile without seams are added. They repeat after numbers of pixels without a common divisor, so that
    their sum does not.
    """
    fields = [_field(seed, period, period) / math.sqrt(2) for seed, period in enumerate(_PERIODS)]
    columns = [np.arange(width) % period for period in _PERIODS]
    picture = np.empty((height, width, 3), np.uint8)
    for y in range(height):
        first, second = (
            field[:, y % period, x] for field, period, x in zip(fields, _PERIODS, columns, strict=True)
        )  # (3, width)
        picture[y] = (first + second + 128.0).clip(0, 255).astype(np.uint8).T
    return picture


def _field(seed: int, height: int, width: int) -> NDArray[np.float64]:
    """(3, height, width) of mean 0, with the deviation of photographs; its edges fit together."""
    rows, columns = np.fft.fftfreq(height)[:, None], np.fft.rfftfreq(width)[None, :]
    falloff = 1.0 / np.maximum(np.hypot(rows, columns), 1.0 / max(width, height))
    noise = np.random.default_rng(seed).standard_normal((3, height, width))
    shaped = np.fft.irfft2(np.fft.rfft2(noise) * falloff, s=(height, width))
    return shaped * (45.0 / max(float(shaped.std()), 1e-9))


def table(rows: Sequence[StageTimes]) -> Table:
    """A Markdown table, in the paper's layout; the speedup is that of denoising."""
    header = ("model", "steps", "encoding (s)", "denoising (s)", "remaining (s)", "denoising, speedup")
    slowest = {row.model: row for row in sorted(rows, key=lambda row: row.steps)}  # the last one counts
    lines = [
        (
            f"{row.model} ({row.device}, {row.precision})",
            str(row.steps),
            str(row.encoding),
            str(row.denoising),
            str(row.remaining),
            f"{slowest[row.model].denoising.mean / row.denoising.mean:.1f}x",
        )
        for row in rows
    ]
    return Table(header, lines)


def _once(
    subject: Subject, device: torch.device, picture: Picture, quality: float, steps: Sequence[int]
) -> tuple[float, list[Decoding]]:
    """Seconds of compressing a picture, and of restoring it in each number of steps."""
    start = now(device)
    blob = subject.make(picture, quality)
    seconds = now(device) - start
    return seconds, [decoding(subject, blob, count) for count in steps]


@contextlib.contextmanager
def _first_call(module: nn.Module, device: torch.device) -> Iterator[list[float]]:
    """The moment at which a network first begins to work."""
    moments: list[float] = []

    def mark(*_: object) -> None:
        if not moments:
            moments.append(now(device))

    handle = module.register_forward_pre_hook(mark)
    try:
        yield moments
    finally:
        handle.remove()


def _common_size(pictures: Sequence[Named]) -> tuple[int, int]:
    """Height and width, zeros where they differ."""
    sizes = {one.picture.shape[:2] for one in pictures}
    return sizes.pop() if len(sizes) == 1 else (0, 0)

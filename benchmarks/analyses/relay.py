"""Whether a model is a relay: D restores what E made of a picture, and the steps lead from z_c towards z0.

    x --E--> z0 --D--> x0_hat                      the best that any file could become, nothing compressed
    x --> file --> z_c --L steps--> z0_hat         is z0_hat nearer to z0 than z_c is?

z0 is the mean of E's posterior.
"""

from __future__ import annotations

from collections.abc import Sequence
from statistics import fmean
from typing import NamedTuple

import torch
from torch import Tensor

from rdeic.codec.decoder import noises
from rdeic.container import container, payload
from rdeic.errors import ConfigError
from rdeic.evaluation.bench.subject import Named, Subject
from rdeic.model.model import Rdeic
from rdeic.training.metrics import mse_each, psnr


class Landing(NamedTuple):
    """One picture at one quality, or the mean of several: errors are mean squares over channels and positions."""

    quality: float  # 0..100
    bpp: float
    z_c: float  # |z_c - z0|^2
    z0_hat: float  # |z0_hat - z0|^2, in as many steps as the file says

    @property
    def nearer(self) -> bool:
        """Whether the steps lead from z_c towards z0."""
        return self.z0_hat < self.z_c


class Relay(NamedTuple):
    """One picture, or the mean of several."""

    image: str
    ceiling: float  # PSNR of D(z0), dB
    landings: tuple[Landing, ...]  # by quality, as asked for


@torch.inference_mode()
def measure(subject: Subject, one: Named, qualities: Sequence[float]) -> Relay:
    """One picture at every quality 0..100, the first of which names the model whose D restores z0.

    Raises ConfigError without a quality, and what `Codec.compress` raises.
    """
    if not qualities:
        raise ConfigError("no quality to measure the relay at")
    blobs = [subject.make(one.picture, quality) for quality in qualities]
    model = subject.model_of(blobs[0])
    x = subject.padded(one.picture, model)
    height, width, _ = one.picture.shape
    x0_hat = model.autoencoder.decode(_z0(model, x))
    return Relay(
        one.name,
        psnr(x0_hat[..., :height, :width], x[..., :height, :width]),
        tuple(_land(subject, one, *pair) for pair in zip(qualities, blobs, strict=True)),
    )


def mean(relays: Sequence[Relay]) -> Relay:
    """The mean of at least one picture's relays; all must have the same qualities."""
    return Relay(
        f"{len(relays)} pictures",
        fmean(one.ceiling for one in relays),
        tuple(
            Landing(*map(fmean, zip(*group, strict=True)))
            for group in zip(*(one.landings for one in relays), strict=True)
        ),
    )


def _land(subject: Subject, one: Named, quality: float, blob: bytes) -> Landing:
    model, file = subject.model_of(blob), container.unpack(blob)
    height, width, _ = one.picture.shape
    stride = subject.config.autoencoder.stride
    rows, columns = -(-height // stride), -(-width // stride)  # the padding left out

    def error(z: Tensor) -> float:
        return float(mse_each(z[..., :rows, :columns], z0[..., :rows, :columns]))

    z0 = _z0(model, subject.padded(one.picture, model))
    features = model.decode(payload.split(file.header, file.payload, subject.config), file.header.quality)
    drawn = noises(file.header.seed, features.z_c)
    z0_hat = model.denoise(features, drawn, file.header.steps, detail=1.0)
    bpp = 8 * len(blob) / (height * width)
    return Landing(quality, bpp, error(features.z_c), error(z0_hat))


def _z0(model: Rdeic, x: Tensor) -> Tensor:
    encoded = model.autoencoder.encode(x)
    return model.autoencoder.sample(encoded, torch.zeros_like(encoded.mean))

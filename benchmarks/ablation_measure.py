"""What `ablation.py` measures: pictures through a model, as files, restored in a given way."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from rdeic.container import container
from rdeic.container.container import Header, RdeicFile
from rdeic.diffusion.schedule import Sampler
from rdeic.entropy import indices
from rdeic.errors import ConfigError
from rdeic.evaluation import metrics, report
from rdeic.evaluation.metrics import Judges
from rdeic.model.model import Rdeic
from rdeic.model.networks import QUALITY_STEPS
from rdeic.pictures import images

SEED = 0  # of the decoder's noise


class Row(NamedTuple):
    """One picture through one variant at one quality, or the mean of all."""

    variant: str
    quality: float  # 0..100
    image: str
    bytes: float
    bpp: float
    psnr: float
    ms_ssim: float
    perceptual: float
    lpips: float  # nan where a metric cannot be had
    dists: float
    encode_seconds: float
    denoise_seconds: float
    remaining_seconds: float  # of decoding


METRICS = Row._fields[5:10]


class Restoring(NamedTuple):
    """How a file becomes a picture."""

    variant: str  # what the table calls it
    sampler: Sampler | None  # None: D sees z_c
    steps: int  # 0 without a sampler


class Judge(NamedTuple):
    """On what, and by what, methods are compared."""

    pictures: list[Path]
    crop: tuple[int, int]  # width, height
    qualities: list[float]
    judges: Judges


@torch.inference_mode()
def measure(model: Rdeic, fingerprint: bytes, how: Restoring, judge: Judge) -> Iterator[Row]:
    """The rows of all pictures, compressed at every quality and restored from their bits."""
    for path in judge.pictures:
        picture = _centre(images.read(path), judge.crop, path)
        height, width, _ = picture.shape
        padded = _signed(images.pad(picture, model.config.hyper_stride))
        for quality in judge.qualities:
            level = round(quality * QUALITY_STEPS / 100)
            times = [time.perf_counter()]
            coded = model.encode(model.analyse(padded), level)
            packed = indices.pack_indices(coded.hyper_indices, model.config.compression.codebook_size)
            header = Header(fingerprint, width, height, level, max(how.steps, 1), SEED)
            size = len(container.pack(RdeicFile(header, packed + coded.y_stream)))
            times.append(time.perf_counter())
            features = model.decode(coded, level)
            times.append(time.perf_counter())
            z0_hat = model.denoise(features, _noises(features.z_c), how.steps, 1.0, how.sampler)
            times.append(time.perf_counter())
            x_hat = model.autoencoder.decode(z0_hat)[:, :, :height, :width]
            times.append(time.perf_counter())
            encode, bits, denoise, pixels = np.diff(times)
            scores = dict(metrics.scores(judge.judges, _rounded(x_hat), picture))
            found = (scores.get(name, math.nan) for name in METRICS)
            row = (size, 8 * size / (width * height), *found, encode, denoise, bits + pixels)
            yield Row(how.variant, quality, path.name, *map(float, row))


def _centre(picture: images.Picture, crop: tuple[int, int], path: Path) -> images.Picture:
    height, width, _ = picture.shape
    if width < crop[0] or height < crop[1]:  # an upright picture gives an upright crop
        crop = crop[1], crop[0]
    if width < crop[0] or height < crop[1]:
        raise ConfigError(f"{path} is smaller than --crop {crop[1]}x{crop[0]}; choose a smaller one")
    top, left = (height - crop[1]) // 2, (width - crop[0]) // 2
    return picture[top : top + crop[1], left : left + crop[0]]


def _signed(picture: images.Picture) -> Tensor:
    """(H, W, 3) uint8 -> (1, 3, H, W) in [-1, 1]."""
    return torch.from_numpy(np.array(picture)).permute(2, 0, 1)[None].float() / 127.5 - 1


def _noises(like: Tensor) -> Iterator[Tensor]:
    generator = torch.Generator().manual_seed(SEED)
    while True:
        yield torch.randn(like.shape, generator=generator)


def _rounded(x_hat: Tensor) -> images.Picture:
    """(1, 3, H, W) in [-1, 1] -> (H, W, 3) uint8."""
    pixels = ((x_hat[0] + 1) * 127.5).round().clamp(0, 255).to(torch.uint8)
    return np.ascontiguousarray(pixels.permute(1, 2, 0).numpy())


def means(rows: Sequence[Row]) -> list[Row]:
    """One row a quality."""
    groups: dict[float, list[Row]] = {}
    for row in rows:
        groups.setdefault(row.quality, []).append(row)
    return [
        Row(group[0].variant, quality, f"mean of {len(group)}", *np.mean([row[3:] for row in group], axis=0))
        for quality, group in groups.items()
    ]


def write(path: Path, rows: Sequence[Row], remarks: Sequence[str]) -> None:
    """A CSV file; what could not be measured is an empty cell."""
    cells = [["" if isinstance(v, float) and math.isnan(v) else v for v in row] for row in rows]
    report.write_csv(path, Row._fields, cells, remarks)


def read(path: Path) -> list[Row]:
    """What `write` wrote. Raises ConfigError if it cannot be read."""
    return [
        Row(cells["variant"], float(cells["quality"]), cells["image"], *_numbers(cells))
        for cells in report.read_csv(path).rows
    ]


def _numbers(cells: dict[str, str]) -> Iterator[float]:
    return (float(cells[name] or "nan") for name in Row._fields[3:])

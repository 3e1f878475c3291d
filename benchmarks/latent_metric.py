"""How well errors of a compressed latent tell errors of the picture: squared, and as D shows them to first order.

    python benchmarks/latent_metric.py PHOTOGRAPHS [--pictures 24] [--model NAME|DIR] [--qualities 0,50,100]

Centre crops of 256x256. The metric of `training/latent_metric.py` is fitted to half of them; for the other half it
predicts, as |z_c - z0|^2 does, the squared error between D(z_c) and D(z0). Printed are the correlations over these
crops, and how differently D answers to directions of the latent: the eigenvalues of the mean of J^T J at one position.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

import program
from rdeic.checkpoints import checkpoints, registry
from rdeic.evaluation import report
from rdeic.model.model import Rdeic
from rdeic.training import sources
from rdeic.training.data import centre_crops
from rdeic.training.latent_metric import LatentMetric
from rdeic.training.metrics import mse_each
from rdeic.training.trainer import to_signed

CROP = 256  # pixels
PROBES = 4


class Row(NamedTuple):
    quality: float
    bpp: float
    shown: float  # correlation with the error of the picture
    squared: float  # of |z_c - z0|^2
    spread: float  # of the picture's errors: deviation over mean


def fitted(model: Rdeic, z0: Tensor) -> LatentMetric:
    metric = LatentMetric(1.0, model.config, z0.device)
    metric.note(z0, model.autoencoder.decode)
    metric.settle(lambda equations: equations)
    return metric


def correlation(a: Tensor, b: Tensor) -> float:
    return float(torch.corrcoef(torch.stack([a, b]))[0, 1])


def measured(model: Rdeic, x: Tensor, metric: LatentMetric, quality: float) -> Row:
    encoded = model.autoencoder.encode(x)
    z0 = model.autoencoder.scale * encoded.mean
    level = torch.full((len(x),), quality / 100)
    compressed = model.compression(encoded.feature, level, None)
    z_c, decode = compressed.features.z_c, model.autoencoder.decode
    error = mse_each(decode(z_c), decode(z0))
    shown, squared = (correlation(error, found) for found in (metric(z_c, z0), mse_each(z_c, z0)))
    return Row(
        quality, float(compressed.bits.mean()) / CROP**2, shown, squared, float(error.std() / error.mean())
    )


def eigenvalues(model: Rdeic, z0: Tensor) -> Tensor:
    """(C,) of J^T J, J what D's picture answers to one position of z0; rising."""
    channels = z0.shape[1]
    total = torch.zeros(channels, channels)
    for seed in range(PROBES):
        with torch.enable_grad():
            z = z0.clone().requires_grad_(True)
            x = model.autoencoder.decode(z)
        white = torch.randn(x.shape, generator=torch.Generator().manual_seed(seed))
        (answer,) = torch.autograd.grad(x, z, white)
        rows = answer.permute(0, 2, 3, 1).reshape(-1, channels)
        total += rows.t() @ rows / len(rows)
    values: Tensor = torch.linalg.eigvalsh(total / PROBES)
    return values


@torch.no_grad()
def run(options: argparse.Namespace) -> None:
    model = checkpoints.load_model(registry.find(Path(options.model)), "cpu", precision=torch.float32)[0]
    crops = centre_crops(sources.find([options.folder]), options.pictures, CROP)
    x = to_signed(crops, torch.device("cpu"))
    first, second = x[::2], x[1::2]
    z0 = model.autoencoder.scale * model.autoencoder.encode(first).mean
    metric = fitted(model, z0)
    rows = [measured(model, second, metric, quality) for quality in options.qualities]
    lines = [
        (f"{row.quality:g}", f"{row.bpp:.4f}", f"{row.shown:.3f}", f"{row.squared:.3f}", f"{row.spread:.2f}")
        for row in rows
    ]
    found = eigenvalues(model, z0)
    header = ("quality", "bpp", "as D shows it", "squared", "spread")
    low, mean, high = (float(one) for one in (found[0], found.mean(), found[-1]))
    remarks = program.remarks(
        f"{len(x)} crops; eigenvalues from {low:.3g} to {high:.3g}, their mean {mean:.3g}"
    )
    program.tell(report.markdown(header, lines), remarks, options.output, Row._fields, rows)


def parser() -> argparse.ArgumentParser:
    options = program.parser(__doc__, "folder", "--pictures", "--model", "--qualities", "-o --output")
    options.set_defaults(qualities=[0.0, 50.0, 100.0], pictures=24)
    return options


if __name__ == "__main__":
    program.leave(lambda: run(parser().parse_args()))

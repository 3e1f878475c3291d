"""z_c's error as D shows it, to first order."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from rdeic.training.latent_metric import LatentMetric
from rdeic.training.metrics import mse_each
from support.tiny import WIDE

STRIDE, CHANNELS = WIDE.autoencoder.stride, WIDE.autoencoder.latent_channels
CPU = torch.device("cpu")


def alone(value: Tensor) -> Tensor:
    """The mean over one process."""
    return value


def fitted(share: float, decode: torch.nn.Module) -> LatentMetric:
    metric = LatentMetric(share, WIDE, CPU)
    for seed in (0, 1):  # micro-batches
        metric.note(latent(seed, count=3), decode)
    metric.settle(alone)
    return metric


def latent(seed: int, count: int = 2) -> Tensor:
    return torch.randn(count, CHANNELS, 16, 16, generator=torch.Generator().manual_seed(seed))


@pytest.fixture
def linear() -> torch.nn.Module:
    """A decoder that is linear, up to a constant, and hardly heeds one channel."""
    torch.manual_seed(0)
    conv = torch.nn.Conv2d(CHANNELS, 3 * STRIDE**2, 3, padding=1)
    with torch.no_grad():
        conv.weight[:, 0] *= 0.01
    return torch.nn.Sequential(conv, torch.nn.PixelShuffle(STRIDE))


def test_it_is_the_error_of_the_picture_where_the_decoder_is_linear(linear: torch.nn.Module) -> None:
    metric, z0, z = fitted(1.0, linear), latent(2), latent(3)
    with torch.no_grad():
        first, second = (metric(z, z0) / mse_each(linear(z), linear(z0))).tolist()
    assert first == pytest.approx(second, rel=1e-3)
    unseen = z0.clone()
    unseen[:, 0] += 1.0
    assert metric(unseen, z0).max() < 1e-3 * F.mse_loss(unseen, z0)


def test_white_errors_cost_what_they_cost_without_it(linear: torch.nn.Module) -> None:
    z0 = latent(4, count=50)
    z = z0 + torch.randn(z0.shape, generator=torch.Generator().manual_seed(5))
    assert float(fitted(0.7, linear)(z, z0).mean()) == pytest.approx(1.0, abs=0.1)  # less at the borders


def test_before_the_first_step_ends_it_is_the_squared_error(linear: torch.nn.Module) -> None:
    metric, z0, z = LatentMetric(0.7, WIDE, CPU), latent(6), latent(7)
    metric.note(z0, linear)
    assert torch.equal(metric(z, z0), mse_each(z, z0))


def test_what_was_fitted_is_kept_and_not_fitted_again(linear: torch.nn.Module) -> None:
    first = fitted(0.7, linear)
    again = LatentMetric(0.7, WIDE, CPU)
    again.load_state_dict(first.state_dict())
    again.note(latent(8), torch.nn.PixelShuffle(STRIDE))  # would not even fit
    again.settle(alone)
    assert torch.equal(again(latent(9), latent(10)), first(latent(9), latent(10)))

"""y to bits and back: exact round trips, honest estimates, and a walk that never looks ahead."""

from __future__ import annotations

import copy
from typing import NamedTuple

import numpy as np
import pytest
import torch
from torch import Tensor

from rdeic.errors import FileFormatError
from rdeic.model.entropy_model import EntropyModel, Pass
from rdeic.model.latent_codec import decode_y, encode_y, quantise_all
from rdeic.model.model import Rdeic
from rdeic.nn.context import Half, checkerboard
from rdeic.nn.exact import exact_copy
from rdeic.nn.rate import bits, likelihood, round_straight_through
from rdeic.types import EntropyParams
from support.tiny import TINY, likely_y, lively_entropy_model

FIRST, SECOND = slice(0, 4), slice(4, 16)  # TINY's slices
assert TINY.compression.slices == (4, 12)


class Coder(NamedTuple):
    """An entropy model, its exact copy, and the hyper feature of one picture."""

    entropy: EntropyModel
    exact: EntropyModel
    hyper: Tensor  # (1, 2M, h, w) float64

    def y(self, seed: int = 0) -> Tensor:
        return likely_y(self.entropy, self.hyper.float(), seed).double()


def coder(seed: int, low: float = 0.1, high: float = 4.0, size: tuple[int, int] = (2, 3)) -> Coder:
    entropy = lively_entropy_model(seed, low, high)
    exact = exact_copy(entropy)
    indices = torch.randint(0, 16, (1, *size))
    hyper = exact.hyper(exact.codebook.lookup(indices), torch.tensor([0.6], dtype=torch.float64))
    return Coder(entropy, exact, hyper)


@pytest.fixture(scope="module")
def tiny_coder() -> Coder:
    return coder(0)


# Round trip


@pytest.mark.parametrize("seed", range(3))
def test_y_hat_comes_back_exactly(seed: int) -> None:
    made = coder(seed)
    y = made.y()
    y_hat = decode_y(made.exact, encode_y(made.exact, y, made.hyper), made.hyper)
    assert torch.equal(y_hat, quantise_all(made.exact, y, made.hyper).y_hat)
    assert float((y_hat - y).abs().max()) <= 0.5
    assert torch.equal(y_hat * 1024, (y_hat * 1024).round())


def test_values_no_network_foresaw_come_back_exactly(tiny_coder: Coder) -> None:
    y = tiny_coder.y()
    y[0, 0, 0, 1], y[0, 5, 2, 2], y[0, 15, 7, 11] = 2.0e9, -300.4, 7.0e4
    y_hat = decode_y(tiny_coder.exact, encode_y(tiny_coder.exact, y, tiny_coder.hyper), tiny_coder.hyper)
    assert float((y_hat - y).abs().max()) <= 0.5


@pytest.mark.parametrize("size", [(1, 1), (1, 4), (3, 1)])
def test_any_shape_comes_back(size: tuple[int, int]) -> None:
    made = coder(1, size=size)
    y = made.y()
    y_hat = decode_y(made.exact, encode_y(made.exact, y, made.hyper), made.hyper)
    assert y_hat.shape == (1, 16, 4 * size[0], 4 * size[1])
    assert float((y_hat - y).abs().max()) <= 0.5


def test_the_stream_must_end_with_the_symbols(tiny_coder: Coder) -> None:
    stream = encode_y(tiny_coder.exact, tiny_coder.y(), tiny_coder.hyper)
    for broken in (b"", stream[:40], stream + b"\0", stream + b"\1\2\3\4"):
        with pytest.raises(FileFormatError, match="damaged"):
            decode_y(tiny_coder.exact, broken, tiny_coder.hyper)


def test_weights_cast_to_half_precision_read_the_same_symbols() -> None:
    """101 / 255 is another number in bfloat16; the coding networks must not notice."""
    torch.manual_seed(0)
    model = Rdeic(TINY)
    model.compression.entropy = lively_entropy_model(0)
    model.prepare()
    coded = model.encode(3.0 * torch.randn(1, 16, 8, 12), 101)
    expected = model.decode(coded, 101).guide
    half = copy.deepcopy(model).bfloat16().decode(coded, 101).guide
    assert half.dtype == torch.bfloat16
    assert float((half - expected).abs().mean()) < 0.05 * float(expected.abs().mean())


# Rate


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize(
    ("low", "high", "size"), [(0.1, 4.0, (4, 6)), (0.1, 0.6, (6, 8)), (2.0, 60.0, (2, 3))]
)
def test_the_stream_is_as_long_as_estimated(
    seed: int, low: float, high: float, size: tuple[int, int]
) -> None:
    made = coder(seed, low, high, size)
    y = made.y(seed)
    walked = quantise_all(made.entropy, y.float(), made.hyper.float())
    estimate = float(bits(walked.y_hat, walked.params)) / 8
    size_ = len(encode_y(made.exact, y, made.hyper))
    assert estimate > 400
    assert abs(size_ - estimate) < 0.015 * estimate + 24


def test_likelihoods_are_gaussian_masses() -> None:
    integers = torch.arange(-400.0, 401.0).view(1, 1, 1, -1)
    for sigma in (0.11, 0.5, 3.0, 40.0):
        params = EntropyParams(mu=torch.tensor(0.3), sigma=torch.tensor(sigma))
        masses = likelihood(integers + 0.3, params)
        assert float(masses.sum()) == pytest.approx(1.0, abs=1e-5)
    below = likelihood(torch.zeros(1), EntropyParams(mu=torch.zeros(1), sigma=torch.tensor([-5.0])))
    floor = likelihood(torch.zeros(1), EntropyParams(mu=torch.zeros(1), sigma=torch.tensor([0.11])))
    assert torch.equal(below, floor)
    far = likelihood(torch.tensor([1e6]), EntropyParams(mu=torch.zeros(1), sigma=torch.ones(1)))
    assert far.item() == pytest.approx(1e-9)


def test_rate_gradients_move_parameters_that_left_the_range_back() -> None:
    sigma = torch.tensor([-1.0, -1.0], requires_grad=True)
    value = torch.tensor([4.0, 0.0])  # the first wants a larger sigma, the second a smaller one
    (
        -likelihood(value, EntropyParams(mu=torch.zeros(2), sigma=sigma)).clamp(min=1e-30).log()
    ).sum().backward()
    assert sigma.grad is not None
    assert sigma.grad[1] == 0
    mu = torch.tensor([0.0], requires_grad=True)
    (-likelihood(torch.tensor([50.0]), EntropyParams(mu=mu, sigma=torch.ones(1))).log()).sum().backward()
    assert mu.grad is not None and bool(mu.grad.isfinite().all())


# The walk


class Visit(NamedTuple):
    """What the walk showed at one pass."""

    channels: slice
    half: Half
    mu: Tensor
    sigma: Tensor


def passes(entropy: EntropyModel, y: Tensor, hyper: Tensor) -> list[Visit]:
    visits = []

    def visit(step: Pass) -> Tensor:
        visits.append(Visit(step.channels, step.half, step.params.mu, step.params.sigma))
        return (step.half.take(y[:, step.channels]) - step.params.mu).round() + step.params.mu

    entropy.walk(hyper, visit)
    return visits


def test_slices_are_visited_in_order_anchors_first(tiny_coder: Coder) -> None:
    visits = passes(tiny_coder.exact, tiny_coder.y(), tiny_coder.hyper)
    assert [v.channels for v in visits] == [FIRST, FIRST, SECOND, SECOND]
    odd = torch.from_numpy(np.add.outer(np.arange(8), np.arange(12)) % 2 == 1)
    for i, v in enumerate(visits):
        places = (odd if i % 2 == 0 else ~odd).flatten().nonzero()[:, 0]
        assert torch.equal(v.half.places, places)
        assert v.mu.shape == v.sigma.shape == (1, v.channels.stop - v.channels.start, 1, 48)


@pytest.mark.parametrize("changed", range(4))
def test_a_pass_depends_on_earlier_passes_only(tiny_coder: Coder, changed: int) -> None:
    """Changing y in one pass leaves the parameters of that pass and all before untouched, and moves later ones."""
    y = tiny_coder.y()
    before = passes(tiny_coder.exact, y, tiny_coder.hyper)
    other = y.clone()
    pushed = before[changed]
    other[:, pushed.channels] += pushed.half.spread(torch.full_like(pushed.mu, 5.0))
    after = passes(tiny_coder.exact, other, tiny_coder.hyper)
    for i, (one, two) in enumerate(zip(before, after, strict=True)):
        same = torch.equal(one.mu, two.mu) and torch.equal(one.sigma, two.sigma)
        assert same == (i <= changed), f"pass {i}"


def test_a_pass_sets_its_half_of_its_slice_and_no_more(tiny_coder: Coder) -> None:
    numbers = iter(range(1, 5))

    def number(step: Pass) -> Tensor:
        return torch.full_like(step.params.mu, next(numbers))

    odd = torch.from_numpy(np.add.outer(np.arange(8), np.arange(12)) % 2 == 1)
    y_hat = tiny_coder.exact.walk(tiny_coder.hyper, number)
    assert torch.equal(y_hat[:, FIRST], torch.where(odd, 1.0, 2.0).double().expand(1, 4, 8, 12))
    assert torch.equal(y_hat[:, SECOND], torch.where(odd, 3.0, 4.0).double().expand(1, 12, 8, 12))


def test_training_uses_the_parameters_of_the_coding_passes(tiny_coder: Coder) -> None:
    y = tiny_coder.y()
    mu, sigma = torch.zeros_like(y), torch.zeros_like(y)
    for v in passes(tiny_coder.exact, y, tiny_coder.hyper):
        mu[:, v.channels] += v.half.spread(v.mu)
        sigma[:, v.channels] += v.half.spread(v.sigma)
    params = quantise_all(tiny_coder.exact, y, tiny_coder.hyper).params
    assert torch.equal(params.mu, mu)
    assert torch.equal(params.sigma, sigma)


def test_anchors_are_where_row_and_column_sum_to_an_odd_number() -> None:
    board = checkerboard(2, 3, torch.device("cpu"))
    assert board.anchors.places.tolist() == [1, 3, 5]
    assert board.non_anchors.places.tolist() == [0, 2, 4]


def test_half_of_a_checkerboard_comes_back_to_its_places() -> None:
    x = torch.arange(1.0, 31.0).view(1, 2, 3, 5)
    board = checkerboard(3, 5, x.device)
    anchors, non_anchors = (half.spread(half.take(x)) for half in board)
    assert torch.equal(anchors + non_anchors, x)
    assert torch.equal(anchors == 0, non_anchors != 0)
    assert anchors[0, 0].tolist() == [[0, 2, 0, 4, 0], [6, 0, 8, 0, 10], [0, 12, 0, 14, 0]]


# Gradients


def test_rounding_passes_gradients_straight_through() -> None:
    x = torch.tensor([0.2, -1.7, 2.5], requires_grad=True)
    rounded = round_straight_through(x)
    assert rounded.tolist() == [0.0, -2.0, 2.0]
    (rounded * torch.tensor([1.0, 2.0, 3.0])).sum().backward()
    assert x.grad is not None and x.grad.tolist() == [1.0, 2.0, 3.0]


def test_gradients_reach_y_straight_through_and_mu_not_at_all(tiny_coder: Coder) -> None:
    """In the last pass y_hat = round(y - mu) + mu has the slope 1 in y and, in all, 0 in mu."""
    y = tiny_coder.y().float().requires_grad_()
    hyper = tiny_coder.hyper.float().requires_grad_()
    walked = quantise_all(tiny_coder.entropy, y, hyper)
    last = torch.from_numpy(np.add.outer(np.arange(8), np.arange(12)) % 2 == 0)
    (walked.y_hat[:, SECOND] * last).sum().backward()
    assert y.grad is not None
    torch.testing.assert_close(y.grad[:, SECOND], last.float().expand(1, 12, 8, 12), rtol=0, atol=1e-4)
    assert hyper.grad is not None
    assert float(hyper.grad.abs().max()) < 1e-4
    walked = quantise_all(tiny_coder.entropy, y.detach(), hyper)
    hyper.grad = None
    bits(walked.y_hat.detach(), walked.params).sum().backward()
    assert float(hyper.grad.abs().max()) > 1e-2

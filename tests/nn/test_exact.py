"""Exact arithmetic: the same bits on every device, in every batch, and in an implementation of the text alone."""

from __future__ import annotations

import copy
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from rdeic.model.entropy_model import EntropyModel
from rdeic.model.latent_codec import decode_y, encode_y, quantise_all
from rdeic.nn.context import CheckerboardConv2d
from rdeic.nn.exact import exact_copy
from rdeic.nn.exact_conv import ExactConv2d, ExactPairsConv2d, exact_conv
from rdeic.nn.grid import LIMIT, snap
from rdeic.nn.quality import QualityTable
from rdeic.nn.rate import bits
from rdeic.nn.transforms import hyper_synthesis
from support import integer_decoder
from support.exact_networks import entropy, exact, uniform
from support.tiny import TINY, likely_y, lively_entropy_model

__all__ = ["entropy", "exact"]  # fixtures


def indices(seed: int, batch: int = 1) -> Tensor:
    return torch.randint(0, 16, (batch, 3, 4), generator=torch.Generator().manual_seed(seed))


def hyper(entropy: EntropyModel, which: Tensor, quality: int = 100) -> Tensor:
    entries = entropy.codebook.lookup(which)
    level = torch.full(which.shape[:1], quality / 255, dtype=torch.float64)
    return entropy.hyper(entries, level.to(entries))


# Close to the float networks


@pytest.mark.parametrize("seed", range(4))
def test_exactness_costs_less_than_a_hundredth_of_the_rate(seed: int) -> None:
    entropy = lively_entropy_model(seed)
    exact, which = exact_copy(entropy), indices(seed, 2)
    y = likely_y(entropy, hyper(entropy, which), seed)
    floating = quantise_all(entropy, y, hyper(entropy, which))
    integer = quantise_all(exact, y.double(), hyper(exact, which))
    rate = bits(floating.y_hat, floating.params)
    assert bool((rate > 1000).all())
    torch.testing.assert_close(bits(integer.y_hat, integer.params), rate, rtol=0.01, atol=0)
    assert float((integer.params.mu - floating.params.mu).abs().mean()) < 0.01


def test_the_original_is_left_alone_and_copies_are_equal(entropy: EntropyModel, exact: EntropyModel) -> None:
    before = copy.deepcopy(entropy.state_dict())
    again = exact_copy(entropy)
    assert all(torch.equal(value, before[name]) for name, value in entropy.state_dict().items())
    assert {p.dtype for p in entropy.parameters()} == {torch.float32}
    state = exact.state_dict()
    assert all(torch.equal(value, state[name]) for name, value in again.state_dict().items())
    assert not any(p.requires_grad for p in exact.parameters())


def test_nothing_inexact_is_left(exact: EntropyModel) -> None:
    inexact = nn.Conv2d | nn.Linear | nn.GELU | nn.LeakyReLU | QualityTable
    assert [name for name, layer in exact.named_modules() if isinstance(layer, inexact)] == []
    assert all(torch.equal(entry, snap(entry)) for entry in exact.codebook.entries)
    assert {t.dtype for t in exact.state_dict().values()} == {torch.float64}


# The same bits everywhere


def everything(exact: EntropyModel, which: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    y = uniform((len(which), 16, 12, 16), 6.0, seed=9)
    walked = quantise_all(exact, y, hyper(exact, which))
    return walked.params.mu, walked.params.sigma, walked.y_hat


Run = Callable[[], tuple[Tensor, ...]]


def one_thread(run: Run) -> tuple[Tensor, ...]:
    return _threads(1, run)


def two_threads(run: Run) -> tuple[Tensor, ...]:
    return _threads(2, run)


def _threads(count: int, run: Run) -> tuple[Tensor, ...]:
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        return run()
    finally:
        torch.set_num_threads(before)


def without_mkldnn(run: Run) -> tuple[Tensor, ...]:
    before, *_ = torch.backends.mkldnn.set_flags(False)
    try:
        return run()
    finally:
        torch.backends.mkldnn.set_flags(before)


def under_autocast(run: Run) -> tuple[Tensor, ...]:
    with torch.autocast("cpu", torch.bfloat16):
        return run()


@pytest.mark.parametrize("way", [one_thread, two_threads, without_mkldnn, under_autocast])
def test_threads_and_libraries_change_no_bit(
    exact: EntropyModel, way: Callable[[Run], tuple[Tensor, ...]]
) -> None:
    which = indices(3, 3)
    for one, other in zip(everything(exact, which), way(lambda: everything(exact, which)), strict=True):
        assert torch.equal(one, other)


def test_memory_format_changes_no_bit(exact: EntropyModel) -> None:
    entries, level = exact.codebook.lookup(indices(3, 3)), torch.full((3,), 0.4, dtype=torch.float64)
    plain = exact.hyper(entries.contiguous(), level)
    last = exact.hyper(entries.contiguous(memory_format=torch.channels_last), level)
    assert torch.equal(plain, last)
    y = uniform((3, 16, 12, 16), 6.0, seed=9)
    walked = quantise_all(exact, y, plain.contiguous(memory_format=torch.channels_last))
    assert torch.equal(walked.params.mu, quantise_all(exact, y, plain).params.mu)


@pytest.mark.parametrize("size", [(1, 1), (1, 6), (7, 1), (11, 7), (8, 6)])
@pytest.mark.parametrize(
    ("kernel", "kind"),
    [(1, ExactConv2d), (3, ExactConv2d), (5, ExactConv2d), (3, ExactPairsConv2d), (5, ExactPairsConv2d)],
)
def test_convolutions_are_those_of_the_format_text(
    kernel: int, kind: type[nn.Module], size: tuple[int, int]
) -> None:
    conv = nn.Conv2d(3, 4, kernel, padding=kernel // 2)
    x = uniform((2, 3, *size), 2200.0, 3)  # beyond the range, as sums of activations may be
    weights = {f"conv.{name}": value.detach().numpy() for name, value in conv.named_parameters()}
    found = kind(conv)(x)
    for one, given in zip(found, x, strict=True):
        integers = (given * 1024).long().numpy()
        assert np.array_equal(integer_decoder.convolve(weights, "conv", integers) / 1024, one.numpy())


def test_a_checkerboard_convolution_is_the_whole_one_where_it_is_meant() -> None:
    torch.manual_seed(0)
    conv = CheckerboardConv2d(3, 4, 5, padding=2)
    whole = nn.Conv2d(3, 4, 5, padding=2)
    whole.load_state_dict(conv.state_dict())
    anchors = torch.from_numpy(np.add.outer(np.arange(9), np.arange(6)) % 2 == 1)
    y_hat = uniform((2, 3, 9, 6), 9.0, 3) * anchors
    found, expected = exact_conv(conv)(y_hat), exact_conv(whole)(y_hat)
    assert torch.equal(found[..., ~anchors], expected[..., ~anchors])
    assert found[..., ~anchors].abs().max() > 0.1


def test_a_picture_in_a_batch_gives_the_bits_it_gives_alone(exact: EntropyModel) -> None:
    which, y = indices(3, 3), uniform((3, 16, 12, 16), 6.0, seed=9)
    together = quantise_all(exact, y, hyper(exact, which))
    for i in range(3):
        alone = quantise_all(exact, y[i : i + 1], hyper(exact, which[i : i + 1]))
        assert torch.equal(alone.params.mu[0], together.params.mu[i])
        assert torch.equal(alone.params.sigma[0], together.params.sigma[i])


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_gpu_gives_the_same_bits(entropy: EntropyModel, exact: EntropyModel) -> None:
    which, y = indices(3, 3), uniform((3, 16, 12, 16), 6.0, seed=9)
    there = exact_copy(copy.deepcopy(entropy).to("cuda"))
    level = torch.full((3,), 100 / 255, dtype=torch.float64, device="cuda")
    feature = there.hyper(there.codebook.lookup(which.to("cuda")), level)
    assert torch.equal(feature.cpu(), hyper(exact, which))
    walked = quantise_all(there, y.to("cuda"), feature)
    here = quantise_all(exact, y, hyper(exact, which))
    assert torch.equal(walked.params.mu.cpu(), here.params.mu)
    assert torch.equal(walked.params.sigma.cpu(), here.params.sigma)


@pytest.mark.parametrize("quality", [0, 1, 127, 128, 254, 255])
def test_an_integer_decoder_written_from_the_format_text_agrees(
    entropy: EntropyModel, exact: EntropyModel, quality: int
) -> None:
    which = indices(quality)
    feature = hyper(exact, which, quality)
    y = likely_y(entropy, feature.float(), quality).double()
    stream = encode_y(exact, y, feature)
    assert len(stream) > 200
    weights = {name: value.numpy() for name, value in entropy.state_dict().items()}
    hyper_indices = which[0].numpy()
    assert np.array_equal(
        integer_decoder.hyper_feature(weights, quality, hyper_indices) / 1024, feature[0].numpy()
    )
    theirs = integer_decoder.decode(weights, TINY.compression.slices, quality, hyper_indices, stream)
    assert np.array_equal(theirs, decode_y(exact, stream, feature)[0].numpy())


def test_hyper_synthesis_agrees_with_integers_where_activations_are_clamped() -> None:
    torch.manual_seed(5)
    net = hyper_synthesis(TINY.compression).requires_grad_(False)
    for weight in net.parameters():
        weight.mul_(8.0)
    entropy = lively_entropy_model(5)
    entropy.hyper_synthesis = net
    entropy.codebook.entries.mul_(30.0)
    feature = hyper(exact_copy(entropy), indices(1), 77)
    assert float(feature.abs().max()) >= LIMIT
    weights = {name: value.numpy() for name, value in entropy.state_dict().items()}
    theirs = integer_decoder.hyper_feature(weights, 77, indices(1)[0].numpy())
    assert np.array_equal(theirs / 1024, feature[0].numpy())

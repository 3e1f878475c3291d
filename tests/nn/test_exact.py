"""Exact arithmetic: the same bits on every device, in every batch, and in an implementation of the text alone."""

from __future__ import annotations

import copy
import hashlib
import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from rdeic.entropy import tables
from rdeic.errors import CheckpointError
from rdeic.model.entropy_model import EntropyModel
from rdeic.model.latent_codec import decode_y, encode_y, quantise_all
from rdeic.nn.context import CheckerboardConv2d
from rdeic.nn.exact import ExactGELU, ExactLeakyReLU, ExactQualityTable, exact_copy
from rdeic.nn.exact_conv import ExactConv2d, ExactPairsConv2d, exact_conv
from rdeic.nn.grid import LIMIT, snap
from rdeic.nn.quality import QualityTable
from rdeic.nn.rate import bits
from rdeic.nn.transforms import hyper_synthesis
from support import integer_decoder
from support.tiny import TINY, likely_y, lively_entropy_model

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def entropy() -> EntropyModel:
    return lively_entropy_model(0)


@pytest.fixture(scope="module")
def exact(entropy: EntropyModel) -> EntropyModel:
    return exact_copy(entropy)


def indices(seed: int, batch: int = 1) -> Tensor:
    return torch.randint(0, 16, (batch, 3, 4), generator=torch.Generator().manual_seed(seed))


def hyper(entropy: EntropyModel, which: Tensor, quality: int = 100) -> Tensor:
    entries = entropy.codebook.lookup(which)
    level = torch.full(which.shape[:1], quality / 255, dtype=torch.float64)
    return entropy.hyper(entries, level.to(entries))


def uniform(shape: tuple[int, ...], bound: float, seed: int) -> Tensor:
    """Activations on the grid."""
    generator = torch.Generator().manual_seed(seed)
    return snap((2 * torch.rand(shape, generator=generator, dtype=torch.float64) - 1) * bound)


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


# Layers and tables


def test_snap_rounds_ties_to_even_and_clamps() -> None:
    unit = 2.0**-10
    given = [0.5 * unit, 1.5 * unit, -0.5 * unit, -1.5 * unit, 0.51 * unit, 1e9, -1e9, 2047.9999]
    expected = [0.0, 2 * unit, 0.0, -2 * unit, unit, 2048.0, -2048.0, 2048.0]
    assert snap(torch.tensor(given, dtype=torch.float64)).tolist() == expected


def test_gelu_table_is_the_same_whatever_the_math_library() -> None:
    exact = [i * 0.5 * (1 + math.erf(i / 1024 * math.sqrt(0.5))) for i in range(-8192, 8192)]
    ties = [abs(value - math.floor(value) - 0.5) for value in exact]
    assert min(ties) > 7e-5  # libraries differ by 1e-11 at most
    points = torch.arange(-8192, 8192, dtype=torch.float64) / 1024
    integers = (ExactGELU(CPU)(points) * 1024).numpy().astype("<i4")
    assert np.abs(integers - exact).max() < 0.5
    digest = "b9425c4af5bb5ad5023b22d6724dfe04be40332cf5d6a3f6c40a5935e024b711"
    assert hashlib.sha256(integers.tobytes()).hexdigest() == digest


def test_gelu_is_that_of_the_float_network_to_half_a_unit() -> None:
    x = torch.arange(-9 * 1024, 9 * 1024, dtype=torch.float64) / 1024
    assert float((ExactGELU(CPU)(x) - nn.functional.gelu(x)).abs().max()) <= 0.5 / 1024 + 1e-12
    assert ExactGELU(CPU)(torch.tensor([-LIMIT, LIMIT], dtype=torch.float64)).tolist() == [0.0, LIMIT]


def test_leaky_slopes_are_dyadic() -> None:
    x = uniform((1000,), 2000.0, seed=0)
    for slope, sixteen_thousandths in ((0.01, 164), (0.1, 1638)):
        expected = torch.where(x < 0, snap(x * sixteen_thousandths / 16384), x)
        assert torch.equal(ExactLeakyReLU(slope)(x), expected)


def test_quality_is_interpolated_exactly_at_every_byte() -> None:
    table = QualityTable(5, 0.0, 0.0, 6)
    table.knots.data = uniform((6, 5), 40.0, 2).float()
    exact, integers = ExactQualityTable(table), integer_decoder.snap(table.knots.detach().numpy(), 10)
    for byte in range(256):
        found = exact(torch.tensor([byte / 255], dtype=torch.float64))[0, :, 0, 0]
        assert np.array_equal(found.numpy() * 1024, integer_decoder.interpolate(integers, byte)), byte


def test_no_scale_threshold_is_near_a_sigma_that_can_occur() -> None:
    in_units = tables.scale_thresholds() * 1024
    assert np.abs(in_units - np.rint(in_units)).min() > 0.002


def test_scale_index_at_the_ends_of_what_a_network_can_say() -> None:
    sigma = np.array([-LIMIT, -1.0, 0.0, 119 / 1024, 120 / 1024, 240.7, 240.8, LIMIT])
    assert tables.scale_index(sigma).tolist() == [0, 0, 0, 0, 1, 62, 63, 63]


# The bound within which float64 is exact


def conv(weight: Tensor, bias: float = 0.0) -> nn.Conv2d:
    layer = nn.Conv2d(weight.shape[1], weight.shape[0], weight.shape[2], padding=weight.shape[2] // 2)
    layer.weight.data = weight.float()
    nn.init.constant_(layer.bias, bias)  # type: ignore[arg-type]
    return layer


def test_sums_at_the_bound_are_exact() -> None:
    """The largest weights allowed on the largest activations, all but cancelling."""
    large = 2.0**12 - 1  # 62 of them: just below 2^18, the bound on a row's sum
    weight = torch.zeros(1, 64, 1, 1, dtype=torch.float64)
    weight[0, 0:62:2], weight[0, 1:62:2] = large + 2.0**-11, -large
    weight[0, 62:] = torch.tensor([3.0, 5.0]).view(2, 1, 1) * 2.0**-14
    activations = torch.full((1, 64, 1, 1), LIMIT, dtype=torch.float64)
    activations[0, 62:] = torch.tensor([-7.0, 1.0]).view(2, 1, 1) * 2.0**-10
    order = torch.randperm(64, generator=torch.Generator().manual_seed(0))
    found = ExactConv2d(conv(weight[:, order], 0.25))(activations[:, order])
    total = 31 * (8 << 21) - 7 * 3 + 5 + (4096 << 10)  # in units of 2^-24
    assert float(found) * 1024 == round(total / 2**14)


def test_weights_beyond_the_bound_are_refused() -> None:
    just_below, at = torch.full((1, 64, 1, 1), 4095.0), torch.full((1, 64, 1, 1), 4096.0)
    ExactConv2d(conv(just_below))
    for weight in (at, torch.full((1, 1, 1, 1), math.inf), torch.full((1, 1, 1, 1), math.nan)):
        with pytest.raises(CheckpointError, match="too large for exact arithmetic"):
            ExactConv2d(conv(weight))
    with pytest.raises(CheckpointError, match="too large for exact arithmetic"):
        ExactConv2d(conv(just_below, bias=2.0**29))


@pytest.mark.parametrize("kernel", [3, 5])
def test_pairs_of_rows_are_exact_up_to_the_weights_that_are_left_to_single_rows(kernel: int) -> None:
    """Large weights on large activations that all but cancel: one bit lost would show."""
    generator = torch.Generator().manual_seed(kernel)
    half = torch.rand(2, 3, kernel, kernel, generator=generator) - 0.5
    large = uniform((1, 3, 7, 4), LIMIT - 1.0, kernel)
    step = torch.randint(-1, 2, large.shape, generator=generator) * 2.0**-10
    x = torch.cat([large, large + step], dim=1)
    fitted = []
    for exponent in range(4, 13):
        layer = conv(torch.cat([half, -half], dim=1) * 2.0**exponent, 0.25)
        chosen, expected = exact_conv(layer), ExactConv2d(layer)(x)
        assert torch.equal(chosen(x), expected)
        assert 0.25 < float(expected.abs().max()) < LIMIT
        fitted.append(isinstance(chosen, ExactPairsConv2d))
    assert fitted[0] and not fitted[-1]


def test_an_entropy_model_with_exploded_weights_is_refused(entropy: EntropyModel) -> None:
    broken = copy.deepcopy(entropy)
    broken.context[1].anchor_params[2].weight.mul_(1e6)
    with pytest.raises(CheckpointError, match="weights are too large"):
        exact_copy(broken)


def test_activations_beyond_the_range_are_clamped_not_wrapped() -> None:
    layer = ExactConv2d(conv(torch.ones(1, 1, 1, 1)))
    far = torch.tensor([1e6, -1e6, 2048.5]).double().view(3, 1, 1, 1)
    assert layer(far).flatten().tolist() == [LIMIT, -LIMIT, LIMIT]

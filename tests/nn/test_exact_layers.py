"""Layers of the exact networks: snapping, tables, and the bound within which float64 is exact."""

from __future__ import annotations

import copy
import hashlib
import math

import numpy as np
import pytest
import torch
from torch import nn

from rdeic.entropy import tables
from rdeic.errors import CheckpointError
from rdeic.model.entropy_model import EntropyModel
from rdeic.nn.exact import ExactGELU, ExactLeakyReLU, ExactQualityTable, exact_copy
from rdeic.nn.exact_conv import ExactConv2d, ExactPairsConv2d, exact_conv
from rdeic.nn.grid import LIMIT, snap
from rdeic.nn.quality import QualityTable
from support import integer_decoder
from support.exact_networks import conv, entropy, uniform

__all__ = ["entropy"]  # a fixture

CPU = torch.device("cpu")


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
    in_units = tables.THRESHOLDS * 1024
    assert np.abs(in_units - np.rint(in_units)).min() > 0.002


def test_scale_index_at_the_ends_of_what_a_network_can_say() -> None:
    sigma = np.array([-LIMIT, -1.0, 0.0, 119 / 1024, 120 / 1024, 240.7, 240.8, LIMIT])
    assert tables.scale_index(sigma).tolist() == [0, 0, 0, 0, 1, 62, 63, 63]


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

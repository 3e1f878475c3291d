"""Which scale a search begins at, and which it takes."""

from __future__ import annotations

import dataclasses

import pytest

import rdeic
from rdeic.codec import rate, scaling
from rdeic.codec.rate import Scales
from rdeic.config import MINI
from rdeic.container.stored_size import Size

# The scale to begin with


@pytest.mark.parametrize(
    ("size", "target", "factor"),
    [
        (Size(4000, 3000), 10**9, 1),
        (Size(4000, 3000), 30_000, 1),
        (Size(4000, 3000), 15_000, 2),
        (Size(4000, 3000), 3_000, 3),
        (Size(768, 512), 2_000, 1),
        (Size(768, 512), 600, 2),
        (Size(1, 1), 10, 1),
        (Size(64, 64), 10, 1),
        (Size(65_535, 1), 2_000, 5),
    ],
)
def test_the_scale_to_begin_with(size: Size, target: float, factor: int) -> None:
    factors, start = scaling.scales(size, target, MINI)
    assert factors[start] == factor
    assert factors[0] == 1
    # As much as the rule demands is there for each pixel at that scale, and not at the next larger one.
    rule = scaling.RULES["mini"]
    if start + 1 < len(factors):
        assert scaling.stored_rate(size, factor, target, MINI) >= rule.least(factor)
    if start:
        larger = factors[start - 1]
        assert scaling.stored_rate(size, larger, target, MINI) < rule.least(larger)


def test_nothing_is_scaled_below_what_is_coded_as_one_position() -> None:
    assert scaling.scales(Size(64, 64), 1, MINI) == Scales((1,), 0)
    assert scaling.scales(Size(127, 64), 1, MINI) == Scales((1, 2), 1)
    assert scaling.scales(Size(4000, 3000), 1, MINI).factors == scaling.FACTORS
    assert scaling.stored(Size(4000, 3), 32) == (125, 1)


def test_other_models_begin_at_the_largest_scale_whose_indices_fit() -> None:
    other = dataclasses.replace(MINI, name="other")
    # 63 x 47 positions of 10 bits at full size: 3702 bytes, and 19 around them; 32 x 24 at half.
    assert scaling.scales(Size(4000, 3000), 3_721, other).start == 0
    assert scaling.scales(Size(4000, 3000), 3_720, other).start == 1


def test_the_rate_of_what_is_stored_counts_the_padding() -> None:
    assert scaling.stored_rate(Size(768, 512), 1, 768 * 512 / 8, MINI) == 1
    assert scaling.stored_rate(Size(768, 512), 3, 256 * 192 / 8, MINI) == 1  # 256x171, padded to 192 rows


# The search


def sized(sizes: dict[int, tuple[int, int]]) -> tuple[rate.MakeAt, list[tuple[int, int]]]:
    """Files whose size rises evenly from the first to the second number of their scale, and the calls."""
    calls: list[tuple[int, int]] = []

    def make(factor: int, level: int) -> bytes:
        calls.append((factor, level))
        low, high = sizes[factor]
        return bytes([factor]) * (low + (high - low) * level // 255)

    return make, calls


LADDER = {1: (1000, 9000), 2: (300, 2500), 3: (150, 1200), 4: (90, 700)}


@pytest.mark.parametrize(
    ("start", "limit", "factor", "size"),
    [
        (0, 1000, 1, 1000),
        (0, 999, 2, 998),
        (0, 200, 3, 199),
        (1, 200, 3, 199),
        (3, 2400, 2, 2396),  # room for more than 1/4 and 1/3 can use
        (3, 9999, 1, 9000),
        (2, 89, None, 90),
    ],
)
def test_the_largest_scale_that_fits_from_any_beginning(
    start: int, limit: int, factor: int | None, size: int
) -> None:
    make, calls = sized(LADDER)
    if factor is None:
        with pytest.raises(rdeic.RateError, match=f"smallest possible is {size} bytes"):
            rate.largest_within_scaled(make, Scales((1, 2, 3, 4), start), 255, limit)
        return
    file = rate.largest_within_scaled(make, Scales((1, 2, 3, 4), start), 255, limit)
    assert (file[0], len(file)) == (factor, size)
    assert len(calls) <= 16


def test_a_scale_that_is_too_large_costs_one_try() -> None:
    sizes = {factor: (90_000 // factor**2, 900_000 // factor**2) for factor in range(1, 9)}
    make, calls = sized(sizes)
    rate.largest_within_scaled(make, Scales(tuple(range(1, 9)), 2), 255, 3000)
    assert [call for call in calls if call[0] < 6] == [(3, 0), (4, 0), (5, 0)]
    assert {factor for factor, _ in calls} == {3, 4, 5, 6}


@pytest.mark.parametrize(("wanted", "size", "factor"), [(40, 40, 2), (60, 55, 2), (70, 80, 1), (100, 100, 1)])
def test_between_two_scales_the_nearer_one_is_taken(wanted: int, size: int, factor: int) -> None:
    for start in (0, 1):
        make, _ = sized({1: (80, 160), 2: (20, 55)})
        file = rate.closest_scaled(make, Scales((1, 2), start), 255, 8 * wanted / 1000, 1000)
        assert (file[0], len(file)) == (factor, size)
        limited = rate.largest_within_scaled(make, Scales((1, 2), start), 255, wanted)
        assert len(limited) <= wanted

"""Meeting a wanted size, against size functions with known answers."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rdeic.codec import rate
from rdeic.errors import RateError


def maker(sizes: list[int]) -> Callable[[int], bytes]:
    return lambda quality: bytes(sizes[quality])


GROWING = [100 + 3 * quality for quality in range(256)]
sizes = st.lists(st.integers(0, 40), min_size=256, max_size=256).map(
    lambda steps: [50 + sum(steps[: index + 1]) for index in range(256)]
)


@pytest.mark.parametrize(
    ("bpp", "size"), [(0.8, 100), (1.612, 202), (1.6, 199), (6.92, 865), (0.79, 100), (7.0, 865)]
)
def test_closest_size_wins(bpp: float, size: int) -> None:
    assert len(rate.closest(maker(GROWING), 255, bpp, pixels=1000)) == size


@pytest.mark.parametrize("bpp", [0.77, 7.2])
def test_rates_more_than_three_percent_outside_name_the_range(bpp: float) -> None:
    with pytest.raises(RateError, match=rf"{bpp} bpp .* 0\.8000 to 6\.9200 bpp"):
        rate.closest(maker(GROWING), 255, bpp, pixels=1000)


def test_a_fixed_rate_reaches_itself_only() -> None:
    assert len(rate.closest(maker([125]), 0, 1.0, pixels=1000)) == 125
    assert len(rate.largest_within(maker([125]), 0, 125)) == 125
    with pytest.raises(RateError, match=r"1\.0000 to 1\.0000"):
        rate.closest(maker([125]), 0, 1.1, pixels=1000)
    with pytest.raises(RateError, match="smallest possible is 125 bytes"):
        rate.largest_within(maker([125]), 0, 124)


@given(sizes, st.integers(50, 12_000))
def test_nothing_is_closer_and_nothing_better_fits(growing: list[int], target: int) -> None:
    target = min(max(target, growing[0]), growing[-1])
    near = len(rate.closest(maker(growing), 255, 8.0 * target / 1000, pixels=1000))
    assert abs(near - target) == min(abs(size - target) for size in growing)
    assert len(rate.largest_within(maker(growing), 255, target)) == max(
        size for size in growing if size <= target
    )


@given(st.lists(st.integers(80, 120), min_size=256, max_size=256), st.integers(60, 140))
def test_the_limit_holds_however_sizes_behave(wild: list[int], limit: int) -> None:
    try:
        assert len(rate.largest_within(maker(wild), 255, limit)) <= limit
    except RateError as error:
        smallest = int(re.findall(r"(\d+) bytes", str(error))[-1])
        assert smallest > limit
        assert len(rate.largest_within(maker(wild), 255, smallest)) <= smallest  # a try at it may find less


def test_a_search_takes_few_trials() -> None:
    tried: list[int] = []

    def make(quality: int) -> bytes:
        tried.append(quality)
        return bytes(GROWING[quality])

    rate.closest(make, 255, 3.0, pixels=1000)
    assert len(tried) == len(set(tried)) <= 10

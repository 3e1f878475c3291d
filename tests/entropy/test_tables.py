"""Tables and index packing: exact integers and bytes."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rdeic.entropy import tables
from rdeic.entropy.indices import pack_indices, packed_size, unpack_indices
from rdeic.entropy.tables import CENTRES, SCALE_COUNT, SCALES, THRESHOLDS, TOTAL, pmf, scale_index
from rdeic.errors import FileFormatError

# --- tables ---


def test_tables_are_the_ones_of_the_format() -> None:
    digest = hashlib.sha256(SCALES.astype("<f8").tobytes())
    for index in range(SCALE_COUNT):
        digest.update(pmf(index).astype("<u4").tobytes())
    assert digest.hexdigest() == "ece5197b063f4c73fef82a366abd715fe090d74948bab811df16c329d95549d7"


def test_exact_frequencies_of_the_smallest_scale() -> None:
    assert pmf(0).tolist() == [1, 65533, 1, 1]


@pytest.mark.parametrize("index", range(SCALE_COUNT))
def test_table_is_symmetric_complete_and_unimodal(index: int) -> None:
    table, c = pmf(index), int(CENTRES[index])
    symbols, escape = table[:-1], table[-1]
    assert len(table) == 2 * c + 2
    assert table.sum() == TOTAL
    assert table.min() == escape == 1
    assert (symbols == symbols[::-1]).all()
    assert (np.diff(symbols[: c + 1]) >= 0).all()


def test_no_table_entry_lies_near_a_rounding_tie() -> None:
    """float64 errors here are about 1e-11, so another erfc or exp gives the same integers."""
    low, high = np.log(tables.SCALE_MIN), np.log(tables.SCALE_MAX)
    on_grid = np.exp(np.linspace(low, high, SCALE_COUNT)) * 2.0**32
    assert np.abs(on_grid - np.round(on_grid)).max() < 0.4999
    assert np.abs(on_grid - SCALES * 2.0**32).max() < 0.501
    edges = 6.1094102 * SCALES
    assert np.abs(edges - np.round(edges)).min() > 1e-3
    for index in range(SCALE_COUNT):
        half = tables._half_line(index)
        weight = tables._weight(half)
        for tried in (weight, weight + 1):  # the search compares the two
            scaled = half * tried + 0.5
            scaled = scaled[scaled > 1.5]  # below, the floor of 1 decides
            assert np.abs(scaled - np.round(scaled)).min(initial=1.0) > 1e-6


def test_scale_index_takes_the_scale_that_is_nearest_in_the_logarithm() -> None:
    assert scale_index(SCALES).tolist() == list(range(64))
    sigma = np.exp(np.random.default_rng(0).uniform(np.log(0.05), np.log(400), 10_000))
    nearest = np.abs(np.log(sigma)[:, None] - np.log(SCALES)).argmin(axis=1)
    assert (scale_index(sigma) == nearest).all()
    exact = [0.11 * (256 / 0.11) ** ((i + 0.5) / 63) for i in range(63)]
    assert pytest.approx(exact, abs=2.0**-32, rel=0) == THRESHOLDS
    assert min(abs(one * 2.0**32 % 1 - 0.5) for one in exact) > 1e-3  # no math library rounds another way
    assert scale_index(THRESHOLDS).tolist() == list(range(63))
    assert scale_index(np.nextafter(THRESHOLDS, np.inf)).tolist() == list(range(1, 64))
    assert scale_index(np.array([[0.0, 1e-30], [1e9, np.inf]])).tolist() == [[0, 0], [63, 63]]
    grid = np.arange(-4096, 2**18, 7) / 1024  # what the exact networks give
    limits = [np.nextafter(SCALES, 0), 2.0 ** np.arange(-4, 9), np.nextafter(2.0 ** np.arange(-4, 9), 0)]
    for sigma in (np.geomspace(0.05, 400, 10_001), grid, *limits):
        counted = (sigma[:, None] > THRESHOLDS).sum(axis=1)
        assert (scale_index(sigma) == counted).all()


def test_pmf_refuses_an_index_outside_the_table() -> None:
    for index in (-1, 64):
        with pytest.raises(ValueError, match=r"0\.\.63"):
            pmf(index)


# --- indices ---


def test_exact_bytes_of_packed_indices() -> None:
    assert pack_indices(np.array([1, 2, 1023]), 1024) == bytes.fromhex("00402ffc")
    assert pack_indices(np.array([4, 0, 1]), 5) == bytes([0b10000000, 0b10000000])
    assert pack_indices(np.zeros(9, np.int64), 1) == b""


@given(st.integers(1, 20_000), st.integers(0, 60), st.integers(0, 2**32))
def test_indices_round_trip(codebook_size: int, count: int, seed: int) -> None:
    indices = np.random.default_rng(seed).integers(0, codebook_size, count)
    data = pack_indices(indices, codebook_size)
    assert len(data) == packed_size(count, codebook_size)
    restored = unpack_indices(data, count, codebook_size)
    assert restored.dtype == np.int64
    assert restored.tolist() == indices.tolist()


def test_indices_are_packed_row_by_row() -> None:
    grid = np.arange(6).reshape(2, 3)
    assert pack_indices(grid, 8) == pack_indices(grid.ravel(), 8)


@pytest.mark.parametrize(
    ("data", "count", "size", "message"),
    [
        (b"\x00\x00", 3, 5, None),
        (b"\x00", 3, 5, "2 bytes of hyper indices expected"),
        (b"\x00\x00\x00", 3, 5, "2 bytes of hyper indices expected"),
        (b"", 10**15, 1024, "1250000000000000 bytes"),
        (b"\xa0\x00", 3, 5, "codebook of 5"),
        (b"\x00\x01", 3, 5, "padding"),
    ],
)
def test_damaged_indices_are_refused(data: bytes, count: int, size: int, message: str | None) -> None:
    if message is None:
        assert unpack_indices(data, count, size).tolist() == [0, 0, 0]
        return
    with pytest.raises(FileFormatError, match=message):
        unpack_indices(data, count, size)


@pytest.mark.parametrize("indices", [[5], [-1]])
def test_indices_outside_the_codebook_cannot_be_packed(indices: list[int]) -> None:
    with pytest.raises(ValueError, match="codebook of 5"):
        pack_indices(np.array(indices), 5)

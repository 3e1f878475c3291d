"""The range coder: exact bytes, any symbols, coding efficiency."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rdeic.entropy.coder import SymbolDecoder, SymbolEncoder
from rdeic.entropy.tables import CENTRES, SCALE_COUNT, TOTAL, pmf
from support.symbol_blocks import Call, decode, encode, gaussian_call

INT32 = np.iinfo(np.int32)


def assert_round_trip(calls: list[Call]) -> None:
    for restored, (symbols, _) in zip(decode(encode(calls), calls), calls, strict=True):
        assert restored.dtype == np.int32
        assert restored.tolist() == symbols.tolist()


def reference(calls: list[Call]) -> bytes:
    """The coder as docs/format.md states it, in unbounded integers."""
    low, width, words = 0, 2**64 - 1, 0

    def put(left: int, probability: int) -> None:
        nonlocal low, width, words
        unit = width >> 24
        low, width = low + unit * left, unit * probability
        if width < 2**32:
            low, width, words = low << 32, width << 32, words + 1

    for symbols, scales in calls:
        escaped = []
        for index in sorted(set(scales.tolist())):
            n = len(pmf(index))
            cumulated = [0, *np.cumsum(pmf(index)).tolist()]
            left = [(total * (2**24 - n) >> 16) + j for j, total in enumerate(cumulated)]
            for position in np.flatnonzero(scales == index).tolist():
                j = int(symbols[position]) + int(CENTRES[index])
                if not 0 <= j < n - 1:
                    escaped.append((position, int(symbols[position]), int(CENTRES[index])))
                    j = n - 1
                put(left[j], left[j + 1] - left[j])
        codes = [2 * (abs(value) - c - 1) + (value < 0) for _, value, c in sorted(escaped)]
        digits = [code.to_bytes(max(1, -(-code.bit_length() // 8)), "little") for code in codes]
        for group in digits:
            put((len(group) - 1) << 22, 1 << 22)
        for digit in b"".join(digits):
            put(digit << 16, 1 << 16)
    for length in range(4 * words, 4 * words + 9):
        unit = 1 << 8 * (4 * words + 8 - length)
        point = -(-low // unit)
        if point * unit < low + width:
            return point.to_bytes(length, "big")
    raise AssertionError("unreachable: the interval is at least 2**32 wide")


def test_exact_coded_bytes() -> None:
    symbols = np.array([0, 1, -1, 3, 0, -7, 40, 0], np.int32)
    scales = np.array([0, 10, 20, 20, 5, 30, 40, 63])
    assert encode([(symbols, scales)]).hex() == "eeeb4e5f25"
    assert encode([(symbols[:4], scales[:4]), (symbols[4:], scales[4:])]).hex() == "f080c1dcb3"
    extremes = np.array([INT32.min, 0, INT32.max, 2], np.int32)
    assert encode([(extremes, np.array([0, 0, 63, 0]))]).hex() == "fffffffdf801fde7e3f3ff09e79ffbf8"


def test_nothing_takes_no_bytes() -> None:
    nothing: Call = (np.empty(0, np.int32), np.empty(0, np.int64))
    assert encode([]) == encode([nothing, nothing]) == b""
    assert_round_trip([nothing])


def test_certain_symbols_take_almost_no_bytes() -> None:
    quiet: Call = (np.zeros(100_000, np.int32), np.zeros(100_000, np.int64))
    assert len(encode([quiet])) <= 2
    assert_round_trip([quiet])


SYMBOLS = st.integers(INT32.min, INT32.max) | st.integers(-4, 4) | st.sampled_from([INT32.min, INT32.max])
CALLS = st.lists(
    st.lists(st.tuples(SYMBOLS, st.integers(0, 63)), max_size=40).map(
        lambda pairs: (np.array([p[0] for p in pairs], np.int32), np.array([p[1] for p in pairs], np.int64))
    ),
    max_size=4,
)


@given(CALLS)
@settings(deadline=None)
def test_any_int32_survives_and_bytes_are_those_of_the_format(calls: list[Call]) -> None:
    assert encode(calls) == reference(calls)
    assert_round_trip(calls)


@pytest.mark.parametrize("index", range(SCALE_COUNT))
def test_both_sides_of_every_escape_boundary_survive(index: int) -> None:
    c = int(CENTRES[index])
    edge = np.array([-c - 129, -c - 2, -c - 1, -c, c, c + 1, c + 128, c + 129, c + 2**23], np.int32)
    assert_round_trip([(edge, np.full(edge.size, index))])


def test_stream_can_end_anywhere_even_with_a_carry_pending() -> None:
    """Symbols read from 0x80000... keep the interval around 1/2: a carry stays possible to the end."""
    scales = np.full(40, 40)
    symbols = SymbolDecoder(b"\x80" + bytes(100)).decode(scales)
    for count in range(41):
        for last in (-1, 0, 1):  # below, across and above 1/2
            ended = symbols[:count].copy()
            ended[-1:] += last
            calls = [(ended, scales[:count])]
            assert encode(calls) == reference(calls)
            assert_round_trip(calls)


def test_long_streams_match_the_format() -> None:
    random = np.random.default_rng(1)
    calls = [gaussian_call(random, random.integers(0, 64, 1500)) for _ in range(4)]
    assert encode(calls) == reference(calls)


def test_finish_leaves_the_encoder_usable() -> None:
    random = np.random.default_rng(2)
    calls = [gaussian_call(random, random.integers(0, 64, 50)) for _ in range(2)]
    encoder = SymbolEncoder()
    for done, call in enumerate(calls, start=1):
        encoder.encode(*call)
        assert encoder.finish() == encode(calls[:done])


@pytest.mark.parametrize("index", [0, 1, 8, 16, 32, 48, 63, None])
def test_coded_size_is_within_half_a_percent_of_the_ideal(index: int | None) -> None:
    random = np.random.default_rng(3)
    scales = random.integers(0, 64, 40_000) if index is None else np.full(40_000, index)
    symbols, _ = gaussian_call(random, scales)
    symbols = np.clip(symbols, -CENTRES[scales], CENTRES[scales])
    ideal = sum(
        -np.log2(pmf(i)[symbols[scales == i] + CENTRES[i]] / TOTAL).sum() for i in np.unique(scales).tolist()
    )
    assert len(encode([(symbols, scales)])) <= ideal / 8 * 1.005 + 8


def test_decoding_in_blocks_gives_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    random = np.random.default_rng(4)
    call = gaussian_call(random, random.integers(10, 20, 2000))
    monkeypatch.setattr("rdeic.entropy.coder._BLOCK", 7)
    assert_round_trip([call])

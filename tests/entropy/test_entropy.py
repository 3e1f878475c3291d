"""Tables, index packing and range coder: exact integers and bytes, hostile streams, coding efficiency."""

from __future__ import annotations

import hashlib
import tracemalloc

import constriction
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from rdeic.entropy import tables
from rdeic.entropy.coder import SymbolDecoder, SymbolEncoder, _gaussian, _sealed, _uniform
from rdeic.entropy.indices import pack_indices, packed_size, unpack_indices
from rdeic.entropy.tables import CENTRES, SCALE_COUNT, SCALES, TOTAL, pmf, scale_index, scale_thresholds
from rdeic.errors import FileFormatError

INT32 = np.iinfo(np.int32)
Call = tuple[NDArray[np.int32], NDArray[np.int64]]


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
    assert scale_thresholds() == pytest.approx(exact, abs=2.0**-32, rel=0)
    assert min(abs(one * 2.0**32 % 1 - 0.5) for one in exact) > 1e-3  # no math library rounds another way
    assert scale_index(scale_thresholds()).tolist() == list(range(63))
    assert scale_index(np.nextafter(scale_thresholds(), np.inf)).tolist() == list(range(1, 64))
    assert scale_index(np.array([[0.0, 1e-30], [1e9, np.inf]])).tolist() == [[0, 0], [63, 63]]
    grid = np.arange(-4096, 2**18, 7) / 1024  # what the exact networks give
    limits = [np.nextafter(SCALES, 0), 2.0 ** np.arange(-4, 9), np.nextafter(2.0 ** np.arange(-4, 9), 0)]
    for sigma in (np.geomspace(0.05, 400, 10_001), grid, *limits):
        counted = (sigma[:, None] > scale_thresholds()).sum(axis=1)
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


# --- coder ---


def encode(calls: list[Call]) -> bytes:
    encoder = SymbolEncoder()
    for symbols, scales in calls:
        encoder.encode(symbols, scales)
    return encoder.finish()


def decode(data: bytes, calls: list[Call]) -> list[NDArray[np.int32]]:
    decoder = SymbolDecoder(data)
    decoded = [decoder.decode(scales) for _, scales in calls]
    decoder.finish()
    return decoded


def assert_round_trip(calls: list[Call]) -> None:
    for restored, (symbols, _) in zip(decode(encode(calls), calls), calls, strict=True):
        assert restored.dtype == np.int32
        assert restored.tolist() == symbols.tolist()


def gaussian_call(random: np.random.Generator, scales: NDArray[np.int64]) -> Call:
    return np.rint(random.normal(size=scales.size) * SCALES[scales]).astype(np.int32), scales


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


# --- hostile streams ---


@given(st.binary(max_size=80), st.lists(st.integers(0, 63), max_size=120))
@settings(deadline=None, max_examples=300)
def test_garbage_raises_only_file_format_error(data: bytes, scales: list[int]) -> None:
    decoder = SymbolDecoder(data)
    try:
        symbols = decoder.decode(np.array(scales, np.int64))
        decoder.finish()
    except FileFormatError:
        return
    assert encode([(symbols, np.array(scales, np.int64))]) == data


def test_every_truncation_and_bit_flip_is_noticed_or_harmless() -> None:
    """Streams have no redundancy of their own: a near miss may be another valid stream, for the CRC to catch.

    But nothing other than FileFormatError may come out, and a stream cut by a few words must be noticed.
    """
    random = np.random.default_rng(5)
    scales = random.integers(0, 40, 200)
    data = encode([gaussian_call(random, scales)])
    for cut in range(len(data) - 12):
        with pytest.raises(FileFormatError):
            decode(data[:cut], [(scales.astype(np.int32), scales)])
    for damaged in [data[:-cut] for cut in range(1, 12)] + [
        (int.from_bytes(data, "big") ^ 1 << bit).to_bytes(len(data), "big") for bit in range(8 * len(data))
    ]:
        try:
            (symbols,) = decode(damaged, [(scales.astype(np.int32), scales)])
        except FileFormatError:
            continue
        assert encode([(symbols, scales)]) == damaged


def test_trailing_bytes_are_refused() -> None:
    random = np.random.default_rng(6)
    call = gaussian_call(random, random.integers(0, 40, 200))
    for trailer in (b"\0", bytes(4), bytes(1000), b"\xff" * 1000):
        with pytest.raises(FileFormatError, match="damaged"):
            decode(encode([call]) + trailer, [call])


def test_symbols_left_in_the_stream_are_noticed() -> None:
    random = np.random.default_rng(7)
    calls = [gaussian_call(random, random.integers(20, 40, 200)) for _ in range(2)]
    with pytest.raises(FileFormatError, match="damaged"):
        decode(encode(calls), calls[:1])


@pytest.mark.parametrize("data", [b"", b"\0", b"\x55" * 5, b"\xff" * 64])
def test_reading_beyond_the_end_stops_early(data: bytes) -> None:
    """A short stream that claims millions of symbols fails within a block, not after decoding them all."""
    decoder = SymbolDecoder(data)
    with pytest.raises(FileFormatError):
        decoder.decode(np.full(3_000_000, 30, np.uint8))
    words_decoded, _ = decoder._again.pos()
    assert words_decoded < 1 << 16


def test_invalid_escape_codes_are_refused() -> None:
    """Escapes beyond int32 and with a superfluous zero digit, written with the raw coder."""
    for digits in ([255, 255, 255, 255], [1, 0], [0, 0, 0, 0]):
        raw = constriction.stream.queue.RangeEncoder()
        raw.encode(np.array([3], np.int32), _gaussian(0))
        raw.encode(np.array([len(digits) - 1], np.int32), _uniform(4))
        raw.encode(np.array(digits, np.int32), _uniform(256))
        with pytest.raises(FileFormatError, match="invalid escape code"):
            SymbolDecoder(_sealed(raw)).decode(np.zeros(1, np.int64))


def test_hostile_stream_needs_memory_only_for_the_symbols_asked_for() -> None:
    tracemalloc.start()
    try:
        with pytest.raises(FileFormatError):
            SymbolDecoder(b"\xff" * 32).decode(np.full(1000, 63))
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 1_000_000


@pytest.mark.parametrize(
    ("symbols", "scales", "message"),
    [
        (np.zeros(2, np.int32), np.zeros(3, np.int64), "must be int32"),
        (np.zeros(2, np.int64), np.zeros(2, np.int64), "int64"),
        (np.zeros((2, 1), np.int32), np.zeros((2, 1), np.int64), "1-D"),
        (np.zeros(2, np.int32), np.zeros(2, np.float64), "1-D integers"),
        (np.zeros(2, np.int32), np.array([0, 64]), "0..63"),
        (np.zeros(2, np.int32), np.array([-1, 0]), "0..63"),
    ],
)
def test_misuse_is_a_value_error(symbols: NDArray[np.int32], scales: NDArray[np.int64], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        SymbolEncoder().encode(symbols, scales)

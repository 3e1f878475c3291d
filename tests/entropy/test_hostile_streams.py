"""What nobody encoded: an error of ours, in little memory, and nothing else."""

from __future__ import annotations

import constriction
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from rdeic.entropy.coder import SymbolDecoder, SymbolEncoder, _gaussian, _sealed, _uniform
from rdeic.errors import FileFormatError
from support.symbol_blocks import decode, encode, gaussian_call
from support.traced_memory import at_most


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
    with at_most(1_000_000), pytest.raises(FileFormatError):
        SymbolDecoder(b"\xff" * 32).decode(np.full(1000, 63))


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

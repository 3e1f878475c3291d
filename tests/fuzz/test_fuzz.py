"""Hostile input: whatever the bytes, only documented errors, little memory, and no accepted file that is not canonical.

`fuzz/` has the long-running harnesses (`make fuzz`); here are properties, and that the harnesses would notice a defect.
"""

from __future__ import annotations

import signal
import struct
import subprocess
import sys
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import TypeVar

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

import rdeic
from fuzz import engine, fuzz_container, fuzz_decoder
from fuzz.mutations import mutated, resealed
from rdeic.codec.codec import Codec
from rdeic.container import container
from rdeic.container.metadata import Metadata
from rdeic.container.stored_size import Size
from rdeic.entropy.coder import SymbolDecoder, SymbolEncoder
from rdeic.entropy.indices import pack_indices, packed_size, unpack_indices
from rdeic.errors import FileFormatError

Result = TypeVar("Result")

OVERHEAD = 50_000  # bytes that any call may take for itself


def peak_memory(run: Callable[[], Result]) -> tuple[int, Result | None]:
    """Bytes at the peak, as Python and numpy count them, and what came out unless it was FileFormatError."""
    tracemalloc.start()
    try:
        return _peak_after(run)
    finally:
        tracemalloc.stop()


def _peak_after(run: Callable[[], Result]) -> tuple[int, Result | None]:
    try:
        result = run()
    except FileFormatError:
        return tracemalloc.get_traced_memory()[1], None
    return tracemalloc.get_traced_memory()[1], result


# Container

NUMBER = st.sampled_from([0, 1, 2, 63, 64, 127, 128, 255]) | st.integers(0, 255)
SIDE = st.sampled_from([0, 1, 63, 64, 65, 255, 256, 32_767, 32_768, 65_535]) | st.integers(0, 65_535)
LENGTH = st.sampled_from([b"\0", b"\1", b"\x7f", b"\x80\1", b"\x80\0", b"\xff" * 3 + b"\x7f", b"\xff" * 5])
STORED = st.tuples(SIDE, SIDE).map(lambda size: b"\1\x81\4" + struct.pack("<HH", *size))
SECTIONS = (
    STORED
    | st.binary(max_size=40)
    | st.lists(st.tuples(NUMBER, LENGTH, st.binary(max_size=9)), min_size=1, max_size=4).map(
        lambda parts: (
            bytes([len(parts)]) + b"".join(bytes([kind]) + size + rest for kind, size, rest in parts)
        )
    )
)


@st.composite
def sealed_files(draw: st.DrawFn) -> bytes:
    """Any fields, mostly at their extremes, under a correct checksum."""
    flags = draw(st.sampled_from([0, 1, 2, 3]) | NUMBER)
    version = draw(st.just(1) | NUMBER)
    fields = struct.pack(
        "<3sBB4sHHBB",
        b"RDE",
        version,
        flags,
        draw(st.binary(min_size=4, max_size=4)),
        draw(SIDE),
        draw(SIDE),
        draw(NUMBER),
        draw(NUMBER),
    )
    seed = draw(st.sampled_from([b"", bytes(4), b"\1\0\0\0", b"\xff" * 4]))
    return resealed(fields + seed + draw(SECTIONS) + draw(st.binary(max_size=60)) + bytes(4))


@given(sealed_files() | st.binary(max_size=200) | st.binary(max_size=200).map(lambda data: b"RDE\x01" + data))
@settings(max_examples=500, deadline=None)
def test_a_file_is_refused_or_the_only_one_with_its_content(data: bytes) -> None:
    peak, file = peak_memory(lambda: container.unpack(data, max_pixels=None))
    assert file is None or container.pack(file) == data
    assert peak < OVERHEAD + 20 * len(data)


@given(sealed_files())
@settings(max_examples=300, deadline=None)
def test_inspecting_says_what_the_file_says(data: bytes) -> None:
    peak, info = peak_memory(lambda: rdeic.inspect(data))
    assert peak < OVERHEAD + 20 * len(data)
    if info is not None:
        assert struct.pack("<HH", info.width, info.height) == data[9:13]
        assert info.steps > 0 and info.bpp > 0


# Indices and symbols


@given(st.binary(max_size=60), st.integers(0, 200), st.integers(1, 70_000))
@settings(max_examples=300, deadline=None)
def test_indices_are_refused_or_pack_to_the_same_bytes(data: bytes, count: int, size: int) -> None:
    fitting = data.ljust(packed_size(count, size), b"\xa5")[: packed_size(count, size)]
    for field in (data, fitting):
        peak, found = peak_memory(lambda field=field: unpack_indices(field, count, size))  # type: ignore[misc]
        assert found is None or pack_indices(found, size) == field
        assert peak < OVERHEAD + 1000 * (count + len(data))


SCALES = st.lists(st.integers(0, 63), max_size=60) | st.tuples(st.integers(0, 63), st.integers(1, 60)).map(
    lambda run: [run[0]] * run[1]
)


@given(st.binary(max_size=60), st.lists(SCALES, max_size=5))
@settings(max_examples=400, deadline=None)
def test_a_stream_is_refused_or_the_only_one_with_its_symbols(data: bytes, calls: list[list[int]]) -> None:
    arrays = [np.array(call, np.int64) for call in calls]

    def run() -> list[NDArray[np.int32]]:
        decoder = SymbolDecoder(data)
        found = [decoder.decode(call) for call in arrays]
        decoder.finish()
        return found

    peak, found = peak_memory(run)
    assert peak < 10 * OVERHEAD
    if found is not None:
        encoder = SymbolEncoder()
        for symbols, call in zip(found, arrays, strict=True):
            encoder.encode(symbols, call)
        assert encoder.finish() == data


# The whole decoder


@pytest.fixture(scope="module")
def decoder() -> engine.Harness:
    return fuzz_decoder.load()


@given(number=st.integers(0, 2**32))
@settings(max_examples=60, deadline=None)
def test_a_mutated_file_gives_a_picture_or_a_documented_error(decoder: engine.Harness, number: int) -> None:
    decoder.target(mutated(decoder.corpus, Random(number)))


def test_files_that_no_encoder_would_make_give_pictures(decoder: engine.Harness, tmp_path: Path) -> None:
    """Symbols up to the largest that can be coded: features overflow no type on their way to pixels."""
    codec = fuzz_decoder.tiny_codec(tmp_path)
    for blob in fuzz_decoder.wild(codec):
        assert decoder.target(blob)


def test_a_large_claim_takes_no_memory(tiny: Codec) -> None:
    header = container.unpack(tiny.compress(np.zeros((64, 64, 3), np.uint8))).header
    claim = header._replace(width=65_535, height=3_000)  # within the limit of pixels
    data = container.pack(container.RdeicFile(claim, bytes(40)))
    peak, picture = peak_memory(lambda: tiny.decompress(data))
    assert picture is None
    assert peak < OVERHEAD


@pytest.fixture(scope="module")
def kinds(tiny: Codec) -> dict[str, bytes]:
    """One file of each kind."""
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
    plain = tiny.compress(noise)
    unpacked = container.unpack(plain)
    return {
        "plain": plain,
        "seed": tiny.compress(noise[:1, :1], seed=7),
        "metadata": tiny.compress(noise, 100, metadata=Metadata(make="Maker", comment="hello")),
        "stored smaller": container.pack(
            unpacked._replace(header=unpacked.header._replace(width=100, height=65, stored=Size(64, 64)))
        ),
        "unknown section": container.pack(unpacked._replace(sections=(container.Section(90, b"later"),))),
        "large symbols": fuzz_decoder.adopted(engine.stored("decoder")[-1], unpacked.header.fingerprint),
    }


@pytest.mark.parametrize(
    "kind", ["plain", "seed", "metadata", "stored smaller", "unknown section", "large symbols"]
)
def test_every_bit_flip_and_every_truncation_is_refused(
    tiny: Codec, kinds: dict[str, bytes], kind: str
) -> None:
    data = kinds[kind]
    rdeic.inspect(data)
    for bit in range(8 * len(data)):
        flipped = bytearray(data)
        flipped[bit // 8] ^= 1 << bit % 8
        with pytest.raises(FileFormatError):
            tiny.decompress(bytes(flipped))
    for length in range(len(data)):
        with pytest.raises(FileFormatError):
            tiny.decompress(data[:length])


# The harnesses


def test_the_stored_files_are_what_their_names_say() -> None:
    target = fuzz_container.load().target
    accepted = {
        path.stem: target(path.read_bytes()) for path in (engine.CORPUS / "container").glob("*.rdeic")
    }
    assert [name for name, sound in accepted.items() if not sound] == ["seed-cut-off"]
    assert all(target(data) for data in engine.stored("decoder"))


def test_a_defect_behind_the_checksum_is_found_and_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One that takes a correct checksum, a flag and an extreme field."""
    monkeypatch.chdir(tmp_path)

    def target(data: bytes) -> bool:
        try:
            header = container.unpack(data, max_pixels=None).header
        except FileFormatError:
            return False
        if header.seed and header.width == 0xFFFF:
            raise ZeroDivisionError
        return True

    stored = [data for data in engine.stored("container") if data[9:11] != b"\xff\xff"]
    with pytest.raises(ZeroDivisionError):
        engine.loop(engine.Harness(target, stored, 64 << 20), engine.Budget(60, 100_000), seed=1)
    with pytest.raises(ZeroDivisionError):
        target(engine.replayed(engine.FAILED))


DEFECTS = {
    "while True: pass": -signal.SIGPROF,
    "return bool(bytes(1 << 30))": 1,  # more than is allowed
    "return bool(bytes(1 << 20))": 0,
}


@pytest.mark.parametrize("body", DEFECTS)
def test_hangs_and_large_allocations_end_the_process(tmp_path: Path, body: str) -> None:
    program = f"""
from fuzz import engine
engine.HANG_SECONDS = 0.2
def target(data):
    {body}
engine.loop(engine.Harness(target, [b"RDE"], 64 << 20), engine.Budget(60, 3), seed=1)
"""
    place = str(Path(engine.__file__).parent.parent)
    done = subprocess.run(
        [sys.executable, "-c", program],
        env={"PYTHONPATH": place},
        cwd=tmp_path,
        capture_output=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == DEFECTS[body], done.stderr.decode()
    failed = tmp_path / engine.FAILED
    assert failed.exists() == (done.returncode != 0)
    assert not failed.exists() or engine.replayed(failed) == mutated([b"RDE"], Random(1))

"""The container: exact bytes, every kind of damage, hostile headers."""

from __future__ import annotations

import struct
import zlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rdeic.container.container import CRITICAL, OVERHEAD, Header, RdeicFile, Section, pack, unpack
from rdeic.errors import FileFormatError
from support.traced_memory import at_most

HEADER = Header(b"\x01\x02\x03\x04", width=768, height=512, quality=128, steps=2, seed=0)
PLAIN = RdeicFile(HEADER, b"payload")
SEEDED = RdeicFile(HEADER._replace(seed=0xDEADBEEF), b"payload")
SECTIONED = RdeicFile(
    HEADER._replace(seed=0xDEADBEEF), b"payload", (Section(1, b"abc"), Section(77, bytes(130)))
)


def forged(
    version: int = 1, flags: int = 0, size: tuple[int, int] = (8, 8), steps: int = 2, rest: bytes = b""
) -> bytes:
    """A file with a correct checksum whatever its fields are."""
    body = struct.pack("<3sBB4sHHBB", b"RDE", version, flags, b"abcd", *size, 0, steps) + rest
    return body + struct.pack("<I", zlib.crc32(body))


def test_exact_bytes_without_seed() -> None:
    body = bytes.fromhex("524445 01 00 01020304 0003 0002 80 02") + b"payload"
    assert pack(PLAIN) == body + zlib.crc32(body).to_bytes(4, "little")
    assert len(pack(PLAIN)) == 7 + OVERHEAD == 7 + 19


def test_exact_bytes_with_seed() -> None:
    body = bytes.fromhex("524445 01 01 01020304 0003 0002 80 02 efbeadde") + b"payload"
    assert pack(SEEDED) == body + zlib.crc32(body).to_bytes(4, "little")


def test_exact_bytes_with_sections() -> None:
    header = bytes.fromhex("524445 01 03 01020304 0003 0002 80 02 efbeadde")
    sections = bytes.fromhex("02  01 03 616263  4d 8201") + bytes(130)
    body = header + sections + b"payload"
    assert pack(SECTIONED) == body + zlib.crc32(body).to_bytes(4, "little")


@pytest.mark.parametrize(
    ("length", "stored"), [(0, "00"), (127, "7f"), (128, "8001"), (16383, "ff7f"), (2**21, "80808001")]
)
def test_lengths_take_seven_bits_a_byte(length: int, stored: str) -> None:
    file = RdeicFile(HEADER, b"", (Section(9, bytes(length)),))
    data = pack(file)
    assert data[15:].startswith(bytes.fromhex("01 09" + stored))
    assert unpack(data) == file


HEADERS = st.builds(
    Header,
    st.binary(min_size=4, max_size=4),
    st.integers(1, 65535),
    st.integers(1, 65535),
    st.integers(0, 255),
    st.integers(1, 255),
    st.integers(0, 2**32 - 1),
    st.none(),
)


SECTIONS = st.dictionaries(st.integers(1, CRITICAL - 1), st.binary(max_size=200), max_size=5).map(
    lambda contents: tuple(Section(kind, contents[kind]) for kind in sorted(contents))
)


@given(HEADERS, st.binary(max_size=200), SECTIONS)
def test_round_trip(header: Header, payload: bytes, sections: tuple[Section, ...]) -> None:
    file = RdeicFile(header, payload, sections)
    data = pack(file)
    assert unpack(data, max_pixels=None) == file
    extra = 1 + sum(2 + (len(one.content) > 127) + len(one.content) for one in sections) if sections else 0
    assert len(data) == OVERHEAD + (4 if header.seed else 0) + extra + len(payload)


@pytest.mark.parametrize("file", [PLAIN, SEEDED, SECTIONED, RdeicFile(HEADER, b"")])
def test_every_truncation_is_refused(file: RdeicFile) -> None:
    data = pack(file)
    for length in range(len(data)):
        with pytest.raises(FileFormatError, match=r"empty|truncated"):
            unpack(data[:length])


@pytest.mark.parametrize("file", [PLAIN, SEEDED, SECTIONED, RdeicFile(HEADER, bytes(64))])
def test_every_single_bit_flip_is_refused(file: RdeicFile) -> None:
    data = pack(file)
    for bit in range(8 * len(data)):
        flipped = bytearray(data)
        flipped[bit // 8] ^= 1 << bit % 8
        with pytest.raises(FileFormatError):
            unpack(bytes(flipped))


@given(st.binary(max_size=64) | st.binary(max_size=64).map(lambda tail: b"RDE\x01" + tail))
def test_garbage_raises_only_file_format_error(data: bytes) -> None:
    with pytest.raises(FileFormatError):
        unpack(data)


@given(st.binary(min_size=11, max_size=40))
@settings(max_examples=300)
def test_garbage_with_a_correct_checksum_is_refused_or_canonical(fields: bytes) -> None:
    """Whatever can be read is the only way to write it."""
    body = b"RDE\x01" + bytes([fields[0] & 3]) + fields[1:]
    data = body + struct.pack("<I", zlib.crc32(body))
    try:
        file = unpack(data, max_pixels=None)
    except FileFormatError:
        return
    assert pack(file) == data


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "empty"),
        (b"\x89PNG\r\n\x1a\n" + bytes(40), "not an .rdeic file"),
        (b"RD", "truncated"),
        (forged(version=2), "version 2 is newer"),
        (forged(version=0), "version 0"),
        *((forged(flags=1 << bit, rest=bytes(8)), "a newer rdeic is needed") for bit in range(2, 8)),
        (forged(flags=2), "ends within its sections"),
        (forged(flags=2, rest=b"\0"), "announces sections but has none"),
        (forged(flags=2, rest=b"\2\1\0"), "ends within its sections"),
        (forged(flags=2, rest=b"\1\0\0"), "ascending order"),
        (forged(flags=2, rest=b"\2\5\0\5\0"), "ascending order"),
        (forged(flags=2, rest=b"\2\5\0\4\0"), "ascending order"),
        (forged(flags=2, rest=b"\1\5\2x"), "longer than the file"),
        (forged(flags=2, rest=b"\1\5\xff\xff\xff\x7f"), "longer than the file"),
        (forged(flags=2, rest=b"\1\5\x81"), "ends within its sections"),
        (forged(flags=2, rest=b"\1\5\x80\0"), "length of a section is malformed"),
        (forged(flags=2, rest=b"\1\5\x81\x80\x80\x80\0x"), "length of a section is malformed"),
        (forged(flags=2, rest=b"\1\x80\0"), "newer rdeic is needed: the file has a section of kind 128"),
        (forged(flags=2, rest=b"\2\1\0\xff\0"), "newer rdeic is needed: the file has a section of kind 255"),
        (forged(flags=1), "announces a seed"),
        (forged(flags=1, rest=bytes(4)), "seed must not be 0"),
        (forged(steps=0), "0 denoising steps"),
        (forged(size=(0, 5)), "implausible picture size 0x5"),
        (forged(size=(5, 0)), "implausible picture size 5x0"),
        (pack(PLAIN) + b"x", "damaged"),
    ],
)
def test_message_names_the_defect(data: bytes, message: str) -> None:
    with pytest.raises(FileFormatError, match=message):
        unpack(data)


def test_pixel_limit() -> None:
    data = forged(size=(100, 50))
    assert unpack(data, max_pixels=5000).header.width == 100
    with pytest.raises(FileFormatError, match="100x50: over the limit of 4999 pixels"):
        unpack(data, max_pixels=4999)


def test_hostile_header_allocates_nothing() -> None:
    data = forged(size=(65535, 65535))
    with at_most(100_000):
        with pytest.raises(FileFormatError, match="65535x65535"):
            unpack(data)
        assert unpack(data, max_pixels=None).payload == b""


@pytest.mark.parametrize(
    "fields",
    [
        {"fingerprint": b"abc"},
        {"width": 0},
        {"width": 65536},
        {"height": 0},
        {"height": 65536},
        {"quality": -1},
        {"quality": 256},
        {"steps": 0},
        {"steps": 256},
        {"seed": -1},
        {"seed": 2**32},
    ],
)
def test_fields_out_of_range_cannot_be_packed(fields: dict[str, bytes | int]) -> None:
    (name,) = fields
    with pytest.raises(ValueError, match=name):
        pack(RdeicFile(HEADER._replace(**fields), b""))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("sections", "message"),
    [
        ((Section(0, b""),), "kind"),
        ((Section(256, b""),), "kind"),
        ((Section(3, b""), Section(3, b"")), "kind"),
        ((Section(3, b""), Section(2, b"")), "kind"),
        (tuple(Section(1 + i, b"") for i in range(256)), "number of sections"),
    ],
)
def test_sections_that_cannot_be_packed(sections: tuple[Section, ...], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        pack(RdeicFile(HEADER, b"", sections))

"""The section that says at which size a picture is stored: exact bytes, and what readers refuse."""

from __future__ import annotations

import struct

import numpy as np
import pytest

import rdeic
from rdeic.codec.codec import Codec
from rdeic.container import container, stored_size
from rdeic.container.container import Header, RdeicFile, Section
from rdeic.container.stored_size import Size
from support.traced_memory import at_most

HEADER = Header(b"\1\2\3\4", width=768, height=512, quality=128, steps=2, seed=0, stored=Size(256, 171))


def test_exact_bytes_of_the_section() -> None:
    file = RdeicFile(HEADER, b"payload", (Section(1, b"abc"),))
    data = container.pack(file)
    assert data[4] == 2
    assert data[15:] == bytes.fromhex("02  01 03 616263  81 04 0001 ab00") + b"payload" + data[-4:]
    assert container.unpack(data) == file
    plain = RdeicFile(HEADER._replace(stored=None), b"payload")
    alone = container.pack(RdeicFile(HEADER, b"payload"))
    assert len(alone) == len(container.pack(plain)) + stored_size.FILE_BYTES


def test_the_coded_size_is_the_stored_one_where_there_is_one() -> None:
    assert HEADER.coded == (256, 171)
    assert HEADER._replace(stored=None).coded == (768, 512)


BAD_SECTIONS = [
    (struct.pack("<HH", 768, 512), "implausible stored size 768x512 of a picture of 768x512"),
    (struct.pack("<HH", 769, 171), "implausible stored size 769x171"),
    (struct.pack("<HH", 256, 513), "implausible stored size 256x513"),
    (struct.pack("<HH", 65535, 65535), "implausible stored size 65535x65535"),
    (struct.pack("<HH", 0, 171), "implausible stored size 0x171"),
    (struct.pack("<HH", 256, 0), "implausible stored size 256x0"),
    (struct.pack("<HH", 11, 171), "implausible stored size 11x171"),  # 64 * 11 < 768
    (struct.pack("<HH", 256, 7), "implausible stored size 256x7"),
    (b"", "its stored size takes 0 bytes instead of 4"),
    (b"\0\1\0", "its stored size takes 3 bytes instead of 4"),
    (b"\0\1\0\1\0", "its stored size takes 5 bytes instead of 4"),
]


@pytest.mark.parametrize(("content", "message"), BAD_SECTIONS)
def test_a_stored_size_that_makes_no_sense_is_refused(content: bytes, message: str) -> None:
    plain = HEADER._replace(stored=None)
    data = container.pack(RdeicFile(plain, bytes(100), (Section(stored_size.KIND, content),)))
    for read in (container.unpack, rdeic.inspect):
        with pytest.raises(rdeic.FileFormatError, match=message):
            read(data)


@pytest.mark.parametrize("stored", [Size(12, 8), Size(768, 511), Size(767, 512), Size(400, 300)])
def test_stored_sizes_at_the_edge_of_what_is_allowed(stored: Size) -> None:
    data = container.pack(RdeicFile(HEADER._replace(stored=stored), b"x"))
    assert container.unpack(data).header.stored == stored
    assert rdeic.inspect(data)[-2:] == stored


def test_what_cannot_be_packed() -> None:
    for stored in (Size(0, 1), Size(768, 512), Size(769, 1), Size(11, 512)):
        with pytest.raises(ValueError, match="stored size"):
            container.pack(RdeicFile(HEADER._replace(stored=stored), b""))


def test_other_critical_sections_are_still_refused_with_and_without_it() -> None:
    plain = HEADER._replace(stored=None)
    good = Section(stored_size.KIND, struct.pack("<HH", 256, 171))
    for sections in ((Section(128, b""), good), (good, Section(130, b""))):
        with pytest.raises(rdeic.FileFormatError, match=r"newer rdeic is needed: .* of kind (128|130)"):
            container.unpack(container.pack(RdeicFile(plain, b"", sections)))


def test_a_hostile_stored_size_takes_no_memory(tiny: Codec) -> None:
    fingerprint = container.unpack(tiny.compress(np.zeros((1, 1, 3), np.uint8))).header.fingerprint
    claim = HEADER._replace(fingerprint=fingerprint, width=65_000, height=3_000, stored=Size(64_999, 2_999))
    with at_most(100_000):
        with pytest.raises(rdeic.FileFormatError, match=r"takes at least .* bytes of indices"):
            tiny.decompress(container.pack(RdeicFile(claim, bytes(40))))
        small = claim._replace(width=65_000, height=65_000, stored=Size(1100, 1100))
        with pytest.raises(rdeic.FileFormatError, match="over the limit"):
            tiny.decompress(container.pack(RdeicFile(small, bytes(4000))))

"""Random changes to .rdeic files, most of them with a correct checksum: without one, nothing behind it is reached."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable, Sequence
from random import Random

LONGEST = 4096  # bytes of a mutated file
SEALED = 0.9  # share of files whose checksum is made to fit
MOST_CHANGES = 4
# Offsets and sizes of docs/format.md, section 1: version, flags, fingerprint, width, height, quality, steps, seed.
FIELDS = ((3, 1), (4, 1), (5, 4), (9, 2), (11, 2), (13, 1), (14, 1), (15, 4))
EXTREMES = (
    0,
    1,
    2,
    63,
    64,
    65,
    0x7F,
    0x80,
    0xFF,
    0x100,
    0x7FFF,
    0x8000,
    0xFFFF,
    0x7FFFFFFF,
    0x80000000,
    0xFFFFFFFF,
)

Change = Callable[[bytearray, Random], None]


def resealed(data: bytes) -> bytes:
    """`data` with its last four bytes replaced by the checksum of the others."""
    return data[:-4] + struct.pack("<I", zlib.crc32(data[:-4])) if len(data) >= 4 else data


def mutated(corpus: Sequence[bytes], random: Random) -> bytes:
    """A new file: one of `corpus`, or the head of one and the tail of another, changed in a few places."""
    data = bytearray(random.choice(corpus))
    if random.random() < 0.1:
        other = random.choice(corpus)
        data[random.randint(0, len(data)) :] = other[random.randint(0, len(other)) :]
    for _ in range(random.randint(1, MOST_CHANGES)):
        random.choice(CHANGES)(data, random)
    del data[LONGEST:]
    return resealed(bytes(data)) if random.random() < SEALED else bytes(data)


def _flip_bit(data: bytearray, random: Random) -> None:
    if data:
        data[random.randrange(len(data))] ^= 1 << random.randrange(8)


def _set_byte(data: bytearray, random: Random) -> None:
    if data:
        data[random.randrange(len(data))] = random.randrange(256)


def _set_field(data: bytearray, random: Random) -> None:
    start, size = random.choice(FIELDS)
    value = random.choice(EXTREMES) if random.random() < 0.7 else random.getrandbits(32)
    if len(data) >= start + size:
        data[start : start + size] = (value & (1 << 8 * size) - 1).to_bytes(size, "little")


def _insert(data: bytearray, random: Random) -> None:
    place = random.randint(0, len(data))
    data[place:place] = random.randbytes(random.choice((1, 2, 4, 7, 64)))


def _insert_constant(data: bytearray, random: Random) -> None:
    place = random.randint(0, len(data))
    data[place:place] = random.choice((b"\0", b"\xff")) * random.choice((1, 4, 16, 256))


def _delete(data: bytearray, random: Random) -> None:
    place = random.randint(0, len(data))
    del data[place : place + random.choice((1, 2, 4, 16))]


def _cut(data: bytearray, random: Random) -> None:
    del data[random.randint(0, len(data)) :]


def _copy(data: bytearray, random: Random) -> None:
    start, place = random.randint(0, len(data)), random.randint(0, len(data))
    data[place:place] = data[start : start + random.choice((1, 4, 16, 64))]


CHANGES: tuple[Change, ...] = (
    _flip_bit,
    _flip_bit,
    _set_byte,
    _set_byte,
    _set_field,
    _set_field,
    _insert,
    _insert_constant,
    _delete,
    _cut,
    _copy,
)

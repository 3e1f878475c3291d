"""Pictures stored smaller than they are: which, how they come back, and what readers refuse."""

from __future__ import annotations

import dataclasses
import json
import re
import struct
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import rdeic
from fuzz.mutations import resealed
from rdeic.codec import rate, scaling
from rdeic.codec.codec import Codec
from rdeic.codec.rate import Scales
from rdeic.config import MINI
from rdeic.container import container, stored_size
from rdeic.container.container import Header, RdeicFile, Section
from rdeic.container.metadata import Metadata
from rdeic.container.stored_size import Size
from rdeic.pictures import images
from support.program_runs import Program, model, picture, program
from support.tiny import TINY, save_random_model

__all__ = ["model", "picture", "program"]  # fixtures

HEADER = Header(b"\1\2\3\4", width=768, height=512, quality=128, steps=2, seed=0, stored=Size(256, 171))


@pytest.fixture(scope="module")
def large() -> images.Picture:
    """(300, 400, 3): waves and texture."""
    y, x = np.mgrid[:300, :400].astype(np.float64)
    waves = [np.sin(x / 9 + y / 17), np.cos(y / 7 - x / 31), np.sin(x * y / 900)]
    noise = np.random.default_rng(0).normal(0, 6, (300, 400, 3))
    return (np.stack(waves, -1) * 90 + 128 + noise).clip(0, 255).astype(np.uint8)


@pytest.fixture(scope="module")
def full_bytes(tiny: Codec, large: images.Picture) -> int:
    """Of the smallest file at full size."""
    return len(tiny.compress(large, quality=0))


# The section


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
    tracemalloc.start()
    try:
        with pytest.raises(rdeic.FileFormatError, match=r"takes at least .* bytes of indices"):
            tiny.decompress(container.pack(RdeicFile(claim, bytes(40))))
        small = claim._replace(width=65_000, height=65_000, stored=Size(1100, 1100))
        with pytest.raises(rdeic.FileFormatError, match="over the limit"):
            tiny.decompress(container.pack(RdeicFile(small, bytes(4000))))
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 100_000


# The rule


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


# The codec


def test_a_wish_below_the_full_size_is_met_at_a_smaller_one(
    tiny: Codec, large: images.Picture, full_bytes: int
) -> None:
    limit = full_bytes - 1
    blob = tiny.compress(large, max_bytes=limit, verify=True)
    info = rdeic.inspect(blob)
    assert len(blob) <= limit
    assert (info.width, info.height) == (400, 300)
    assert (info.stored_width, info.stored_height) == (200, 150)
    assert info.bpp == 8 * len(blob) / (400 * 300)
    assert tiny.decompress(blob).size == (400, 300)
    finer = tiny.compress(scaling.shrink(large, Size(200, 150)), quality=(info.quality * 2.55 + 1) / 2.55)
    assert len(finer) + stored_size.FILE_BYTES > limit


def test_the_picture_is_that_of_the_smaller_one_enlarged(
    tiny: Codec, large: images.Picture, full_bytes: int
) -> None:
    blob = tiny.compress(large, max_bytes=full_bytes // 4, seed=9, metadata=Metadata(make="Maker"))
    file = container.unpack(blob)
    stored = file.header.coded
    small = Image.fromarray(large).resize(stored, Image.Resampling.LANCZOS)
    alone = tiny.compress(small, quality=file.header.quality / 2.55, seed=9)
    assert container.unpack(alone).payload == file.payload
    expected = tiny.decompress(alone).resize((400, 300), Image.Resampling.LANCZOS)
    assert np.array_equal(np.asarray(tiny.decompress(blob)), np.asarray(expected))
    assert rdeic.inspect(blob).metadata == Metadata(make="Maker")


def test_every_limit_down_to_the_smallest_is_kept(
    tiny: Codec, large: images.Picture, full_bytes: int
) -> None:
    with pytest.raises(rdeic.RateError, match=r"the smallest possible is \d+ bytes") as caught:
        tiny.compress(large, max_bytes=20)
    smallest = int(re.findall(r"(\d+) bytes", str(caught.value))[-1])
    assert smallest < full_bytes / 5
    sizes, limit = [], full_bytes + 50
    while limit > smallest:
        sizes.append(len(tiny.compress(large, max_bytes=limit)))
        assert sizes[-1] <= limit
        limit = limit * 2 // 3
    assert len(tiny.compress(large, max_bytes=smallest)) == smallest
    assert sizes == sorted(sizes, reverse=True)
    assert len(set(sizes)) > 4


def test_a_wanted_rate_below_the_full_size_is_met(
    tiny: Codec, large: images.Picture, full_bytes: int
) -> None:
    for target in (full_bytes * 0.9, full_bytes / 2, full_bytes / 5):
        blob = tiny.compress(large, bpp=8 * target / (400 * 300))
        assert len(blob) == pytest.approx(target, rel=0.03)
        assert rdeic.inspect(blob).stored_width < 400
    with pytest.raises(
        rdeic.RateError, match=r"1e-05 bpp is out of reach .*choose from 0\.00\d\d bpp upwards"
    ):
        tiny.compress(large, bpp=1e-5)
    with pytest.raises(rdeic.RateError, match=r"30 bpp is out of reach .*choose up to \d\.\d+ bpp"):
        tiny.compress(large, bpp=30)


def test_without_scaling_it_is_refused_as_ever(tiny: Codec, large: images.Picture, full_bytes: int) -> None:
    with pytest.raises(rdeic.RateError, match=f"the smallest possible is {full_bytes} bytes"):
        tiny.compress(large, max_bytes=full_bytes - 1, scale=False)
    with pytest.raises(rdeic.RateError, match=r"choose from \d\.\d+ to \d\.\d+ bpp"):
        tiny.compress(large, bpp=4 * full_bytes / (400 * 300), scale=False)
    assert len(tiny.compress(large, max_bytes=full_bytes, scale=False)) == full_bytes


def test_a_quality_never_scales(large: images.Picture, tmp_path: Path) -> None:
    ruled = rdeic.load(
        save_random_model(dataclasses.replace(TINY, name="mini"), tmp_path / "mini", seed=0), "cpu"
    )
    for quality in (None, 0, 100):
        assert rdeic.inspect(ruled.compress(large, quality))[-2:] == (400, 300)


def test_small_pictures_are_left_alone_and_still_refused(tiny: Codec) -> None:
    for size in ((1, 1), (64, 64), (1, 64)):
        with pytest.raises(rdeic.RateError, match="smallest possible is"):
            tiny.compress(np.zeros((*size, 3), np.uint8), max_bytes=21)


def test_long_strips_keep_a_pixel(tiny: Codec, large: images.Picture) -> None:
    strip = np.ascontiguousarray(large.reshape(1, -1, 3)[:, :20_000])
    blob = tiny.compress(strip, max_bytes=100)
    info = rdeic.inspect(blob)
    assert (info.width, info.height, info.stored_height) == (20_000, 1, 1)
    assert tiny.decompress(blob).size == (20_000, 1)


def test_one_fixed_rate_becomes_a_ladder_of_sizes(large: images.Picture, tmp_path: Path) -> None:
    fixed = dataclasses.replace(TINY, compression=dataclasses.replace(TINY.compression, quality_levels=0))
    codec = rdeic.load(save_random_model(fixed, tmp_path / "fixed", seed=0), "cpu")
    whole = codec.compress(large)
    assert codec.compress(large, max_bytes=len(whole)) == whole
    half = codec.compress(large, max_bytes=len(whole) - 1)
    assert rdeic.inspect(half).stored_width == 200
    assert codec.compress(large, bpp=8 * len(half) / (400 * 300)) == half
    assert codec.compress(large, bpp=8 * (len(half) + 9) / (400 * 300)) == half  # between two: the nearest
    assert codec.decompress(half).size == (400, 300)


def test_scaled_files_survive_no_damage(tiny: Codec, large: images.Picture) -> None:
    blob = tiny.compress(large, max_bytes=120)
    assert rdeic.inspect(blob).stored_width < 400
    for length in range(len(blob)):
        with pytest.raises(rdeic.FileFormatError):
            tiny.decompress(blob[:length])
    larger = bytearray(blob)
    place = blob.index(bytes([stored_size.KIND, 4]))
    larger[place + 2 : place + 6] = struct.pack("<HH", 400, 299)
    with pytest.raises(rdeic.FileFormatError, match=r"takes at least|damaged|invalid"):
        tiny.decompress(resealed(bytes(larger)))


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


# The program


def test_the_program_scales_says_so_and_can_be_told_not_to(
    program: Program, model: tuple[str, ...], large: images.Picture, tmp_path: Path, full_bytes: int
) -> None:
    images.write(large, tmp_path / "a.png", "png")
    limit = str(full_bytes - 1)
    refused = program("compress", "a.png", "--bytes", limit, "--no-scale", *model)
    assert refused.code == 1
    assert f"the smallest possible is {full_bytes} bytes" in refused.err
    assert not (tmp_path / "a.rdeic").exists()
    assert program("compress", "a.png", "--bytes", limit, "--verify", *model).code == 0
    assert (tmp_path / "a.rdeic").stat().st_size < full_bytes
    assert b": 400x300, stored as 200x150, " in program("info", "a.rdeic").out
    found = json.loads(program("info", "a.rdeic", "--json").out)
    assert [found[key] for key in ("width", "height", "stored_width", "stored_height")] == [
        400,
        300,
        200,
        150,
    ]
    assert program("decompress", "a.rdeic", "-o", "b.png", *model).code == 0
    with Image.open(tmp_path / "b.png") as image:
        assert image.size == (400, 300)


def test_nothing_is_said_of_a_size_that_is_the_pictures_own(
    program: Program, model: tuple[str, ...], picture: Path
) -> None:
    assert program("compress", picture, *model).code == 0
    assert b"stored as" not in program("info", "photo.rdeic").out

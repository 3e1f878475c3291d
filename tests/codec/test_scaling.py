"""Pictures stored smaller than they are: which, how they come back, and what is said."""

from __future__ import annotations

import dataclasses
import json
import re
import struct
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import rdeic
from fuzz.mutations import resealed
from rdeic.codec import scaling
from rdeic.codec.codec import Codec
from rdeic.container import container, stored_size
from rdeic.container.metadata import Metadata
from rdeic.container.stored_size import Size
from rdeic.pictures import images
from support.picture_files import photograph
from support.program_runs import Program, model, picture, program
from support.tiny import TINY, save_random_model

__all__ = ["model", "picture", "program"]  # fixtures


@pytest.fixture(scope="module")
def large() -> images.Picture:
    """(300, 400, 3): waves and texture."""
    return photograph(300, 400)


@pytest.fixture(scope="module")
def full_bytes(tiny: Codec, large: images.Picture) -> int:
    """Of the smallest file at full size."""
    return len(tiny.compress(large, quality=0))


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

"""TIFF that is refused, with the reason, or left to another reader."""

from __future__ import annotations

import io
import sys

import imagecodecs
import numpy as np
import pytest
import tifffile
from PIL import Image

from rdeic.errors import ImageError
from rdeic.pictures import exif, images
from support.picture_files import tiff
from support.tiff import BLACK_IS_ZERO, CMYK, COLOURS, LONG, RGB, SHORT, random, written


@pytest.mark.parametrize(
    ("kind", "reason"),
    [
        ("i1", "signed samples"),
        ("i2", "signed samples"),
        ("i4", "signed samples"),
        ("u4", "samples of 32 bits"),
        ("u8", "samples of 64 bits"),
        ("f2", "floating-point samples"),
        ("f4", "floating-point samples"),
        ("f8", "floating-point samples"),
        ("c8", "complex samples"),
    ],
)
@pytest.mark.parametrize("shape", [(9, 8), (9, 8, 3)])
def test_samples_without_black_and_white_are_refused(kind: str, reason: str, shape: tuple[int, ...]) -> None:
    data = written(np.zeros(shape, kind), photometric="rgb" if len(shape) == 3 else "minisblack")
    with pytest.raises(ImageError, match=f"has {reason}.*; convert it to 8 or 16 bits a channel"):
        images.read(data)


@pytest.mark.parametrize(
    ("photometric", "depth", "count", "more", "reason"),
    [
        (4, 1, 1, {}, "a transparency mask; convert it to RGB"),
        (9, 8, 3, {}, r"ICC L\*a\*b\*"),
        (32_803, 16, 1, {}, "a camera's raw data"),
        (77, 8, 1, {}, "colours of kind 77"),
        (RGB, 8, 3, {50_706: (1, (1, 4, 0, 0))}, "a camera's raw data; develop"),
        (RGB, 8, 3, {258: (SHORT, (5, 6, 5))}, "samples of 5/6 bits"),
        (RGB, 8, 2, {}, "has 2 samples a pixel, 3 to 8 can be read"),
        (BLACK_IS_ZERO, 8, 9, {}, "has 9 samples a pixel"),
        (CMYK, 8, 4, {332: (SHORT, (2,))}, "inks other than"),
    ],
)
def test_what_no_reader_shows_right_is_refused(
    photometric: int, depth: int, count: int, more: dict[int, tuple[int, tuple[int, ...]]], reason: str
) -> None:
    with pytest.raises(ImageError, match=reason):
        images.read(tiff(random(depth, count), depth, photometric, tags=more))


def test_the_first_page_is_read_unless_it_is_a_preview_of_another() -> None:
    full, small = random(8, 3).astype(np.uint8), random(8, 3)[::2, ::2].astype(np.uint8)
    for pages, right in (((full, small), True), ((small, full), False)):
        buffer = io.BytesIO()
        with tifffile.TiffWriter(buffer) as file:
            for page in pages:
                file.write(page, photometric="rgb", subfiletype=int(page is small))
        if right:
            assert np.array_equal(images.read(buffer.getvalue()), full)
            assert images.frame_count(buffer.getvalue()) == 1  # nothing but the same picture once more
        else:
            with pytest.raises(ImageError, match="its first page is a small copy of another one"):
                images.read(buffer.getvalue())


def test_layouts_that_take_another_reader_name_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tifffile", None)
    for samples, depth, photometric, planar, layout in (
        (random(12, 1), 12, BLACK_IS_ZERO, False, "1x12-bit samples"),
        (random(16, 3), 16, RGB, True, "3x16-bit samples in planes"),
    ):
        with pytest.raises(ImageError, match=rf"a TIFF with {layout}.*pip install 'rdeic\[tiff\]'"):
            images.read(tiff(samples, depth, photometric, planar=planar))
    assert images.read(tiff(random(8, 3), 8, RGB)).shape == (13, 11, 3)


def test_metadata_are_read_of_layouts_that_pillow_does_not_open() -> None:
    make = {271: (2, tuple(b"Nikon\0"))}
    for depth, order, photometric in ((8, "<", RGB), (10, "<", BLACK_IS_ZERO), (12, ">", BLACK_IS_ZERO)):
        data = tiff(random(depth, COLOURS[photometric]), depth, photometric, order=order, tags=make)
        assert exif.read(data, location=True).make == "Nikon"
    data = tiff(random(10, 1), 10, BLACK_IS_ZERO, big=True, tags=make)
    assert images.read(data).shape == (13, 11, 3)
    assert exif.read(data, location=True).taken is None


def test_damage_is_an_error_in_either_reader() -> None:
    for depth, planar in ((8, False), (16, True)):
        samples = random(depth, 3)
        data = tiff(samples, depth, RGB, planar=planar)
        for length in range(0, len(data) - 1, 7):
            with pytest.raises(ImageError):
                images.read(data[:length])
    for kind in ("lzw", "deflate", "zstd", "png", "lerc", "jpeg2000"):
        packed = written(np.moveaxis(random(16, 3), 2, 0).astype("u2"), photometric="rgb", compression=kind)
        with pytest.raises(ImageError):
            images.read(packed[: len(packed) * 2 // 3])


def test_tags_that_make_no_sense_are_an_error() -> None:
    big = tiff(random(8, 1), 8, BLACK_IS_ZERO, big=True)
    small = tiff(random(12, 3), 12, RGB, rows_per_strip=2)
    for data, place, size in ((big, 8, 8), (small, 4, 4)):
        for value in (0, 1, 2 ** (8 * size) - 1, 2 ** (8 * size - 1)):
            with pytest.raises(ImageError):
                images.read(data[:place] + value.to_bytes(size, "little") + data[place + size :])
    for place in range(len(small) - 250, len(small)):
        for value in (0, 1, 255):
            try:
                images.read(small[:place] + bytes([value]) + small[place + 1 :], max_pixels=10_000)
            except ImageError:
                continue


def test_a_strip_cannot_unpack_to_more_than_its_size() -> None:
    larger = np.zeros((900, 900, 1), np.int64)
    data = tiff(larger, 12, BLACK_IS_ZERO, deflate=True, tags={256: (LONG, (9,)), 257: (LONG, (9,))})
    with pytest.raises(ImageError, match="damaged or truncated"):
        images.read(data)


def test_sizes_are_checked_before_anything_is_read() -> None:
    data = tiff(random(12, 1), 12, BLACK_IS_ZERO)
    with pytest.raises(ImageError, match="11x13: the limit is"):
        images.read(data, max_pixels=100)
    huge = tiff(random(12, 1), 12, BLACK_IS_ZERO, tags={256: (LONG, (60_000,)), 257: (LONG, (60_000,))})
    with pytest.raises(ImageError, match="60000x60000: the limit is"):
        images.read(huge)
    tile = {322: (LONG, (60_000,)), 323: (LONG, (60_000,))}
    with pytest.raises(ImageError, match="60000x60000: the limit is"):
        images.read(tiff(random(12, 1), 12, BLACK_IS_ZERO, tile=16, tags=tile))


def test_an_image_that_pillow_opened_is_read_the_same() -> None:
    data = tiff(random(12, 1), 12, BLACK_IS_ZERO)
    with Image.open(io.BytesIO(data)) as opened:
        assert np.array_equal(images.read(opened), images.read(data))
    with Image.open(io.BytesIO(data)) as decoded:
        decoded.load()
        with pytest.raises(ImageError, match="give the file's path instead"):
            images.read(decoded)


def test_jpeg_xl_inside() -> None:
    samples = random(8, 3).astype(np.uint8)
    if not imagecodecs.JPEGXL.available:
        pytest.skip("imagecodecs without JPEG XL")
    assert np.array_equal(images.read(written(samples, photometric="rgb", compression="jpegxl")), samples)

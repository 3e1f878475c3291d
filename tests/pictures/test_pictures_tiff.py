"""TIFF in every layout of samples: shown right, or refused with the reason."""

from __future__ import annotations

import io
import itertools
import sys

import imagecodecs
import numpy as np
import pytest
import tifffile
from numpy.typing import NDArray
from PIL import Image

from rdeic.errors import ImageError
from rdeic.pictures import exif, images
from support.picture_files import tiff

WHITE_IS_ZERO, BLACK_IS_ZERO, RGB, PALETTE, CMYK, YCBCR, LAB = 0, 1, 2, 3, 5, 6, 8
COLOURS = {WHITE_IS_ZERO: 1, BLACK_IS_ZERO: 1, RGB: 3, PALETTE: 1, CMYK: 4}
SHORT, LONG = 3, 4
LAYOUTS = list(itertools.product(COLOURS, (1, 2, 4, 6, 8, 10, 12, 14, 16), (False, True)))


def random(depth: int, count: int) -> NDArray[np.int64]:
    """All of a depth's range in 13 x 11 pixels."""
    samples = np.random.default_rng(depth).integers(0, 2**depth, (13, 11, count))
    samples[0, 0], samples[0, 1] = 0, 2**depth - 1
    return samples


def palette(depth: int) -> NDArray[np.int64]:
    return np.random.default_rng(0).integers(0, 65_536, (3, 2**depth)) | 0x100


def shown(samples: NDArray[np.int64], depth: int, photometric: int) -> NDArray[np.float64]:
    """What TIFF 6.0 says the samples look like, 0..255, unrounded."""
    light = samples / (2**depth - 1)
    if photometric == WHITE_IS_ZERO:
        light = 1 - light
    if photometric == PALETTE:
        light = np.moveaxis(palette(depth)[:, samples[..., 0]], 0, 2) / 65_535
    if photometric == CMYK:
        light = (1 - light[..., :3]) * (1 - light[..., 3:])
    return 255 * np.broadcast_to(light, (*samples.shape[:2], 3))


def tags(depth: int, photometric: int) -> dict[int, tuple[int, tuple[int, ...]]]:
    return {320: (SHORT, tuple(palette(depth).ravel().tolist()))} if photometric == PALETTE else {}


def written(array: NDArray[np.generic], **options: object) -> bytes:
    buffer = io.BytesIO()
    tifffile.imwrite(buffer, array, **options)
    return buffer.getvalue()


@pytest.mark.parametrize(("order", "fill_order", "tile"), [("<", 1, 0), (">", 2, 16)])
@pytest.mark.parametrize(("photometric", "depth", "planar"), LAYOUTS)
def test_samples_of_every_depth(
    photometric: int, depth: int, planar: bool, order: str, fill_order: int, tile: int
) -> None:
    samples = random(depth, COLOURS[photometric])
    data = tiff(
        samples,
        depth,
        photometric,
        order=order,
        planar=planar,
        fill_order=fill_order,
        tile=tile,
        rows_per_strip=5,
        tags=tags(depth, photometric),
    )
    # Rounded to the nearest; deep colours lose their low byte, CMYK in each of two factors.
    most = 2.3 if photometric == CMYK else 1 if photometric in (RGB, PALETTE) and depth in (8, 16) else 0.5
    most = 1 if photometric == PALETTE else most
    assert np.abs(images.read(data) - shown(samples, depth, photometric)).max() <= most


@pytest.mark.parametrize("big", [False, True])
@pytest.mark.parametrize("deflate", [False, True])
@pytest.mark.parametrize("order", ["<", ">"])
def test_big_files_and_packed_ones(order: str, deflate: bool, big: bool) -> None:
    for photometric, depth, planar in ((RGB, 8, False), (RGB, 16, True), (WHITE_IS_ZERO, 16, False)):
        samples = random(depth, COLOURS[photometric])
        data = tiff(samples, depth, photometric, order=order, planar=planar, big=big, deflate=deflate)
        assert np.abs(images.read(data) - shown(samples, depth, photometric)).max() <= 1


def test_exact_values_of_12_bit_grey_white_is_zero_and_planes() -> None:
    grey = np.array([[[0], [8], [9], [2048], [4095]]])
    assert images.read(tiff(grey, 12, BLACK_IS_ZERO))[0, :, 0].tolist() == [0, 0, 1, 128, 255]
    deep = np.array([[[0], [257], [65_535]]])
    assert images.read(tiff(deep, 16, WHITE_IS_ZERO))[0, :, 0].tolist() == [255, 254, 0]
    planes = np.array([[[0x1234, 0x8000, 0xFFFF], [0, 0x0100, 0x7FFF]]])
    assert images.read(tiff(planes, 16, RGB, planar=True)).tolist() == [[[0x12, 0x80, 0xFF], [0, 1, 0x7F]]]


@pytest.mark.parametrize("planar", [False, True])
@pytest.mark.parametrize("depth", [4, 8, 12, 16])
@pytest.mark.parametrize("photometric", [WHITE_IS_ZERO, BLACK_IS_ZERO, RGB, PALETTE])
@pytest.mark.parametrize("extra", [(0,), (1,), (2,), (2, 0), (0, 2), None])
def test_extra_samples(extra: tuple[int, ...] | None, photometric: int, depth: int, planar: bool) -> None:
    """0 means nothing and is left out, 1 is premultiplied alpha, 2 alpha; one that is not explained is alpha."""
    colours, top = COLOURS[photometric], 2**depth - 1
    samples = random(depth, colours + (1 if extra is None else len(extra)))
    alpha = samples[..., colours] / top if extra is None or extra[0] else None
    if extra is not None and extra[0] == 1 and photometric != PALETTE:
        samples[..., colours] = np.maximum(samples[..., : colours + 1].max(axis=2), 1)
        alpha = samples[..., colours] / top
        light = 255 * samples[..., :colours] / samples[..., colours : colours + 1]
        seen = np.broadcast_to(255 - light if photometric == WHITE_IS_ZERO else light, (13, 11, 3))
    else:
        seen = shown(samples[..., :colours], depth, photometric)
    data = tiff(samples, depth, photometric, planar=planar, extra=extra, tags=tags(depth, photometric))
    if alpha is None:
        assert np.abs(images.read(data) - seen).max() <= 1
        return
    with pytest.raises(ImageError, match="--background"):
        images.read(data)
    expected = seen * alpha[..., None] + 255 * (1 - alpha[..., None])
    assert np.abs(images.read(data, background="white") - expected).max() <= 2.7


def test_opaque_alpha_is_no_alpha() -> None:
    for extra, depth, planar in itertools.product((1, 2), (8, 12, 16), (False, True)):
        samples = random(depth, 2)
        samples[..., 1] = 2**depth - 1
        picture = images.read(tiff(samples, depth, BLACK_IS_ZERO, planar=planar, extra=(extra,)))
        assert np.abs(picture - shown(samples[..., :1], depth, BLACK_IS_ZERO)).max() <= 0.5


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize(("depth", "planar"), [(8, False), (16, True)])
def test_pictures_are_turned_once(depth: int, planar: bool, orientation: int) -> None:
    upright = random(8, 3)
    turned = {
        1: upright,
        2: np.fliplr(upright),
        3: np.rot90(upright, 2),
        4: np.flipud(upright),
        5: upright.swapaxes(0, 1),
        6: np.rot90(upright, 1),
        7: np.rot90(upright, 2).swapaxes(0, 1),
        8: np.rot90(upright, -1),
    }[orientation]
    data = tiff(turned << depth - 8, depth, RGB, planar=planar, tags={274: (SHORT, (orientation,))})
    assert np.array_equal(images.read(data), upright)


@pytest.mark.parametrize("planar", ["contig", "separate"])
@pytest.mark.parametrize("predictor", [False, True])
@pytest.mark.parametrize("kind", ["lzw", "deflate", "zstd", "lzma", "packbits", "png", "lerc", "jpeg2000"])
@pytest.mark.parametrize("depth", [8, 16])
def test_lossless_compressions(depth: int, kind: str, predictor: bool, planar: str) -> None:
    if predictor and kind not in ("lzw", "deflate", "zstd", "lzma"):
        return
    samples = random(depth, 3).astype(f"u{depth // 8}")
    data = written(
        samples if planar == "contig" else np.moveaxis(samples, 2, 0),
        photometric="rgb",
        planarconfig=planar,
        compression=kind,
        predictor=predictor,
    )
    assert np.array_equal(images.read(data), samples >> depth - 8)


def test_webp_and_12_bit_jpeg_inside() -> None:
    samples = random(8, 3).astype(np.uint8)
    packed = written(samples, photometric="rgb", compression="webp", compressionargs={"lossless": True})
    assert np.array_equal(images.read(packed), samples)
    grey = np.repeat(np.arange(0, 4096, 64, dtype=np.uint16)[None], 16, 0)
    data = written(grey, photometric="minisblack", compression="jpeg", compressionargs={"level": 100})
    assert np.abs(images.read(data)[..., 0] - grey / 4095 * 255).max() <= 1


def test_ycbcr_without_subsampling() -> None:
    samples = np.array([[[76, 85, 255], [149, 43, 21], [128, 128, 128]]])  # red, green, grey
    data = tiff(samples, 8, YCBCR, tags={530: (SHORT, (1, 1))})
    assert np.abs(images.read(data)[0].astype(int) - [[254, 0, 0], [0, 255, 1], [128] * 3]).max() <= 2
    with pytest.raises(ImageError, match="subsampled YCbCr; convert it to RGB"):
        images.read(tiff(samples, 8, YCBCR))
    with pytest.raises(ImageError, match="a TIFF with YCbCr in 3x16-bit samples"):
        images.read(tiff(samples, 16, YCBCR, deflate=True))


def test_lab_has_signed_colours() -> None:
    neutral, yellow = [128, 0, 0], [247, 240, 93]  # L* of 255; a* and b* of two's complement
    seen = images.read(tiff(np.array([[neutral, yellow]]), 8, LAB))[0].astype(int)
    assert np.abs(seen - [[119, 119, 119], [252, 253, 12]]).max() <= 1
    with pytest.raises(ImageError, match=r"L\*a\*b\*"):
        images.read(tiff(np.array([[neutral, yellow]]), 8, LAB, planar=True))


def test_palettes_of_8_bit_entries_are_known_by_their_size() -> None:
    entries = (0, 200, 255, 7, 100, 0, 9, 8, 250, 1, 2, 3)
    data = tiff(np.array([[[0], [1], [2], [3]]]), 2, PALETTE, tags={320: (SHORT, entries)})
    assert images.read(data)[0].tolist() == [[0, 100, 250], [200, 0, 1], [255, 9, 2], [7, 8, 3]]


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

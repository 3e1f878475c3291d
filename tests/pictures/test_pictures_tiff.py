"""TIFF in every layout of samples: shown right."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from numpy.typing import NDArray

from rdeic.errors import ImageError
from rdeic.pictures import images
from support.picture_files import tiff
from support.saved_pictures import UNROTATE
from support.tiff import (
    BLACK_IS_ZERO,
    CMYK,
    COLOURS,
    LAB,
    PALETTE,
    RGB,
    SHORT,
    WHITE_IS_ZERO,
    YCBCR,
    random,
    written,
)

LAYOUTS = list(itertools.product(COLOURS, (1, 2, 4, 6, 8, 10, 12, 14, 16), (False, True)))


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
    turned = UNROTATE[orientation](upright)
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

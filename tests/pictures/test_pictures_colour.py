"""Colours that a file names by numbers, against values worked out from the standards."""

from __future__ import annotations

import numpy as np
import pytest

from rdeic.pictures import colour
from rdeic.pictures.colour import from_cicp, from_png, to_srgb

P3, BT709, BT2020, SRGB, PQ, HLG = 12, 1, 9, 13, 16, 18
UNSPECIFIED = 2


def shown(
    space: colour.Space | None, *pixels: tuple[int, int, int], dtype: type = np.uint8
) -> list[list[int]]:
    assert space is not None
    return to_srgb(np.array([pixels], dtype), space)[0].tolist()


def greys(space: colour.Space | None, *codes: int, dtype: type = np.uint8) -> list[int]:
    found = shown(space, *((code,) * 3 for code in codes), dtype=dtype)
    assert all(max(pixel) - min(pixel) == 0 for pixel in found)
    return [pixel[0] for pixel in found]


def pq(nits: float) -> int:
    """16-bit code value of a luminance (SMPTE ST 2084)."""
    power = (nits / 10_000) ** 0.1593017578125
    return round(65_535 * ((0.8359375 + 18.8515625 * power) / (1 + 18.6875 * power)) ** 78.84375)


def hlg(scene: float) -> int:
    """16-bit code value of the light of a scene, 0..1 (ITU-R BT.2100)."""
    high = 0.17883277 * np.log(12 * max(scene, 0.1) - 0.28466892) + 0.55991073
    return round(65_535 * ((3 * scene) ** 0.5 if scene <= 1 / 12 else high))


def srgb(light: float) -> float:
    return 255 * (12.92 * light if light <= 0.0031308 else 1.055 * light ** (1 / 2.4) - 0.055)


def test_srgb_is_left_alone() -> None:
    for transfer in (SRGB, 1, 6, 11, 12):
        assert from_cicp(BT709, transfer, full_range=True) == colour.SRGB
    every = np.arange(256, dtype=np.uint8).reshape(1, -1, 1).repeat(3, 2)
    assert np.array_equal(to_srgb(every, colour.SRGB), every)
    assert greys(colour.SRGB, 0, 257, 32_768, 65_535, dtype=np.uint16) == [0, 1, 128, 255]


def test_display_p3() -> None:
    # sRGB's red and green, and a skin tone, as Display P3 has them.
    space = from_cicp(P3, SRGB, full_range=True)
    assert shown(space, (234, 51, 35), (117, 251, 76)) == [[255, 0, 0], [3, 255, 0]]
    assert shown(space, (255, 0, 0), (0, 255, 0), (0, 0, 255)) == [[255, 0, 0], [0, 255, 0], [0, 0, 255]]
    assert greys(space, 0, 1, 90, 255) == [0, 1, 90, 255]
    assert shown(space, (224, 172, 140))[0] == pytest.approx([232, 170, 135], abs=2)


def test_bt2020() -> None:
    # sRGB's primaries in BT.2020 are the columns of the matrix of ITU-R BT.2087.
    red, green, blue = (0.6274, 0.0691, 0.0164), (0.3293, 0.9195, 0.0880), (0.0433, 0.0114, 0.8956)
    space = from_cicp(BT2020, 8, full_range=True)
    for primary, expected in ((red, [255, 0, 0]), (green, [0, 255, 0]), (blue, [0, 0, 255])):
        codes = tuple(round(65_535 * part) for part in primary)
        assert shown(space, codes, dtype=np.uint16)[0] == pytest.approx(expected, abs=1)


def test_transfer_functions() -> None:
    half, white = 128, 255
    for transfer, light in {
        4: (half / 255) ** 2.2,
        5: (half / 255) ** 2.8,
        7: ((half / 255 + 0.1115) / 1.1115) ** (1 / 0.45),
        8: half / 255,
        9: 10 ** (2 * (half / 255 - 1)),
        10: 10 ** (2.5 * (half / 255 - 1)),
        14: ((half / 255 + 0.099) / 1.099) ** (1 / 0.45),
        15: ((half / 255 + 0.099) / 1.099) ** (1 / 0.45),
        17: 52.37 / 48 * (half / 255) ** 2.6,
    }.items():
        space = from_cicp(BT709, transfer, full_range=True)
        assert greys(space, 0, half, white) == [0, round(srgb(light)), 255], transfer


def test_white_stays_white_whatever_white_is() -> None:
    for primaries in (4, 5, 6, 7, 8, BT2020, 10, 11, P3, 22):
        assert greys(from_cicp(primaries, SRGB, full_range=True), 0, 77, 200, 255) == [0, 77, 200, 255]


def test_video_range() -> None:
    space = from_cicp(BT709, SRGB, full_range=False)
    assert greys(space, 0, 16, 17, 125, 126, 235, 255) == [0, 0, 1, 127, 128, 255, 255]
    assert greys(space, 4112, 32_125, 60_395, dtype=np.uint16) == [0, 127, 255]


def test_unknown_numbers_say_nothing() -> None:
    for numbers in ((UNSPECIFIED, UNSPECIFIED), (0, SRGB), (99, SRGB), (BT709, 0), (BT709, 3), (BT709, 99)):
        assert from_cicp(*numbers, full_range=True) is None
    assert from_cicp(P3, UNSPECIFIED, full_range=True) == from_cicp(P3, SRGB, full_range=True)
    assert from_cicp(UNSPECIFIED, PQ, full_range=True) == from_cicp(BT2020, PQ, full_range=True)


def test_gamma_and_chromaticities() -> None:
    assert greys(from_png(100_000, None), 0, 1, 64, 255) == [0, 13, 137, 255]
    assert greys(from_png(55_556, None), 128) == [round(srgb((128 / 255) ** 1.8))]
    p3 = (31_270, 32_900, 68_000, 32_000, 26_500, 69_000, 15_000, 6_000)
    assert from_png(45_455, p3) == from_cicp(P3, SRGB, full_range=True)
    # What every sRGB picture may carry, and what makes no sense.
    srgb_primaries = (31_270, 32_900, 64_000, 33_000, 30_000, 60_000, 15_000, 6_000)
    for gamma, chromaticities in (
        (45_455, None),
        (45_000, srgb_primaries),
        (0, None),
        (2**31, None),
        (None, (0,) * 8),
        (None, (31_270, 32_900, *(64_000, 33_000) * 3)),
        (None, (90_000, 5_000, *srgb_primaries[2:])),
        (None, (2**31,) * 8),
    ):
        assert from_png(gamma, chromaticities) is None


def test_pq_up_to_paper_white_is_as_bright_as_it_says() -> None:
    space = from_cicp(BT2020, PQ, full_range=True)
    codes = [pq(nits) for nits in (0, 1, 20.3, 101.5, 203)]
    expected = [round(srgb(light)) for light in (0, 1 / 203, 0.1, 0.5, 1)]
    assert greys(space, *codes, dtype=np.uint16) == expected == [0, 15, 89, 188, 255]


def test_highlights_are_brought_below_white_by_the_spline_of_bt2390() -> None:
    space = from_cicp(BT2020, PQ, full_range=True)
    # Knee, in parts of PQ of 1000 cd/m2: 1.5 * 0.5807 / 0.7518 - 0.5 = 0.6586, which is 87.8 cd/m2.
    below = greys(space, pq(40), pq(80), pq(1000), dtype=np.uint16)
    assert below == [round(srgb(40 / 203)), round(srgb(80 / 203)), 255]
    paper, bright, brighter = greys(space, pq(203), pq(400), pq(1000), dtype=np.uint16)[:3]
    assert (paper, bright, brighter) == (229, 250, 255)
    assert greys(space, pq(203), pq(400), pq(10_000), dtype=np.uint16) == [229, 250, 255]  # as with 1000


def test_tone_mapping_keeps_hues() -> None:
    space = from_cicp(BT709, PQ, full_range=True)
    ((red, green, blue),) = shown(space, (pq(1000), pq(500), pq(250)), dtype=np.uint16)
    assert (red, green, blue) == (255, round(srgb(0.5)), round(srgb(0.25)))


def test_hlg() -> None:
    space = from_cicp(BT2020, HLG, full_range=True)
    paper = (0.203) ** (1 / 1.2)  # of the scene, on a display of 1000 cd/m2
    assert hlg(paper) / 65_535 == pytest.approx(0.75, abs=0.002)  # ITU-R BT.2408
    assert greys(space, 0, hlg(0.05), hlg(paper), dtype=np.uint16) == [
        0,
        round(srgb(0.05**1.2 * 1000 / 203)),
        255,
    ]
    assert greys(space, hlg(paper), 65_535, dtype=np.uint16) == [229, 255]


def test_large_pictures_are_done_in_parts() -> None:
    space = from_cicp(P3, SRGB, full_range=True)
    tall = np.full((1 << 10, (1 << 10) + 1, 3), (117, 251, 76), np.uint8)
    tall[-1, -1] = (234, 51, 35)
    found = to_srgb(tall, space) if space else tall
    assert found[0, 0].tolist() == [3, 255, 0]
    assert found[-1, -1].tolist() == [255, 0, 0]

"""PNG of every colour type, with all that may stand beside the pixels, sound and damaged."""

from __future__ import annotations

import io
import itertools
import struct
import zlib

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image, ImageCms

from rdeic.errors import ImageError
from rdeic.pictures import colour, exif, images
from support.picture_files import chunk, png

GREY, RGB, PALETTE, GREY_ALPHA, RGB_ALPHA = 0, 2, 3, 4, 6
COLOURS = {GREY: 1, RGB: 3, PALETTE: 1, GREY_ALPHA: 1, RGB_ALPHA: 3}
KINDS = [
    *itertools.product([GREY], [1, 2, 4, 8, 16]),
    *itertools.product([RGB, GREY_ALPHA, RGB_ALPHA], [8, 16]),
    *itertools.product([PALETTE], [1, 2, 4, 8]),
]
LINEAR = chunk(b"cICP", bytes([1, 8, 0, 1]))
SRGB_ICC = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()


def random(depth: int, count: int) -> NDArray[np.int64]:
    samples = np.random.default_rng(depth).integers(0, 2**depth, (9, 13, count))
    samples[0, 0], samples[0, 1] = 0, 2**depth - 1
    return samples


def entries(depth: int) -> NDArray[np.uint8]:
    return np.random.default_rng(0).integers(0, 256, (2**depth, 3), np.uint8)


def before(kind: int, depth: int, more: bytes = b"") -> bytes:
    return more + (chunk(b"PLTE", entries(depth).tobytes()) if kind == PALETTE else b"")


def light(samples: NDArray[np.int64], kind: int, depth: int) -> NDArray[np.float64]:
    """(H, W, 3) code values, 0..1."""
    if kind == PALETTE:
        return entries(depth)[samples[..., 0]] / 255
    return np.broadcast_to(samples[..., : COLOURS[kind]] / (2**depth - 1), (*samples.shape[:2], 3))


def srgb(linear: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)


@pytest.mark.parametrize("linear", [False, True])
@pytest.mark.parametrize(("kind", "depth"), KINDS)
def test_every_kind_of_pixel(kind: int, depth: int, linear: bool) -> None:
    """Rounded to the nearest; 16-bit colours that are sRGB lose their low byte, others none of their bits."""
    alpha = kind in (GREY_ALPHA, RGB_ALPHA)
    samples = random(depth, COLOURS[kind] + alpha)
    samples[..., COLOURS[kind] :] = 2**depth - 1
    codes = light(samples, kind, depth)
    data = png(samples, depth, kind, before(kind, depth, LINEAR if linear else b""))
    expected = 255 * (srgb(codes) if linear else codes)
    assert np.abs(images.read(data) - expected).max() <= (1 if depth == 16 and not linear else 0.505)


@pytest.mark.parametrize("linear", [False, True])
@pytest.mark.parametrize(("kind", "depth"), KINDS)
def test_every_kind_of_transparency(kind: int, depth: int, linear: bool) -> None:
    """Alpha of every depth, of palette entries, and the one transparent value, which counts with all its bits."""
    samples = random(depth, COLOURS[kind] + (kind in (GREY_ALPHA, RGB_ALPHA)))
    if kind in (GREY_ALPHA, RGB_ALPHA):
        alpha, stated = samples[..., -1] / (2**depth - 1), b""
    elif kind == PALETTE:
        of_entries = np.random.default_rng(1).integers(0, 256, 2**depth, np.uint8)
        alpha, stated = of_entries[samples[..., 0]] / 255, chunk(b"tRNS", of_entries.tobytes())
    else:
        key = samples[3, 4]
        samples[3, 5] = key ^ 1  # differs in the lowest bit only
        alpha = 1.0 - (samples == key).all(axis=2)
        stated = chunk(b"tRNS", struct.pack(f">{len(key)}H", *key))
    data = png(samples, depth, kind, before(kind, depth, LINEAR if linear else b"") + stated)
    with pytest.raises(ImageError, match="--background"):
        images.read(data)
    codes = light(samples, kind, depth)
    seen = 255 * (srgb(codes) if linear else codes)
    expected = seen * alpha[..., None] + 255 * (1 - alpha[..., None])
    assert np.abs(images.read(data, background="white") - expected).max() <= 1.7


def test_a_transparent_value_that_no_pixel_has_is_no_transparency() -> None:
    for kind, depth in ((GREY, 1), (GREY, 4), (GREY, 16), (RGB, 8), (RGB, 16)):
        samples = np.zeros((2, 2, COLOURS[kind]), np.int64)
        stated = chunk(b"tRNS", struct.pack(f">{COLOURS[kind]}H", *[1] * COLOURS[kind]))
        assert images.read(png(samples, depth, kind, stated)).max() == 0


def interlaced(samples: NDArray[np.int64], more: bytes) -> bytes:
    """16-bit RGB in Adam7."""
    height, width = samples.shape[:2]
    passes = (
        (0, 0, 8, 8),
        (0, 4, 8, 8),
        (4, 0, 8, 4),
        (0, 2, 4, 4),
        (2, 0, 4, 2),
        (0, 1, 2, 2),
        (1, 0, 2, 1),
    )
    rows = b"".join(
        b"\0" + row.astype(">u2").tobytes()
        for y, x, down, right in passes
        for row in samples[y::down, x::right]
        if row.size
    )
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 16, RGB, 0, 0, 1))
    pixels = chunk(b"IDAT", zlib.compress(rows))
    return b"\x89PNG\r\n\x1a\n" + header + more + pixels + chunk(b"IEND", b"")


def test_interlaced_pictures_keep_all_bits_too() -> None:
    samples = random(16, 3)
    expected = 255 * srgb(samples / 65_535)
    assert np.abs(images.read(interlaced(samples, LINEAR)) - expected).max() <= 0.505


# Colour


def test_the_chunks_of_colour_in_their_order() -> None:
    """CICP before the profile, that before sRGB, that before gAMA and cHRM; unknown and damaged ones do not count."""
    grey = np.full((1, 1, 3), 128)
    swapped = bytearray(SRGB_ICC)
    red, green = swapped.find(b"rXYZ"), swapped.find(b"gXYZ")
    swapped[red : red + 4], swapped[green : green + 4] = b"gXYZ", b"rXYZ"
    orange = np.array([[[200, 30, 30]]])
    icc = chunk(b"iCCP", b"x\0\0" + zlib.compress(bytes(swapped)))
    gamma, srgb_chunk = chunk(b"gAMA", struct.pack(">I", 100_000)), chunk(b"sRGB", b"\0")
    unknown, p3 = chunk(b"cICP", bytes([99, 8, 0, 1])), chunk(b"cICP", bytes([12, 13, 0, 1]))
    cut = icc[:-6] + b"\0\0" + icc[-4:]
    for pixel, chunks, expected in (
        (grey, LINEAR + gamma, 188),
        (grey, gamma, 188),
        (grey, gamma + srgb_chunk, 128),
        (grey, gamma + chunk(b"iCCP", b"x\0\0" + zlib.compress(SRGB_ICC)), 128),
        (grey, LINEAR + chunk(b"iCCP", b"x\0\0" + zlib.compress(SRGB_ICC)), 188),
        (grey, unknown + gamma, 188),
        (grey, chunk(b"cICP", bytes([1, 8, 1, 1])) + srgb_chunk, 128),
        (grey, cut + gamma, 188),
        (grey, chunk(b"iCCP", b"x\0\0" + zlib.compress(b"no profile")) + gamma, 188),
        (grey, gamma[:-1] + b"\0", 128),
    ):
        assert images.read(png(pixel, 8, RGB, chunks))[0, 0].tolist() == [expected] * 3
    assert np.abs(images.read(png(orange, 8, RGB, icc))[0, 0].astype(int) - [30, 200, 30]).max() <= 2
    assert images.read(png(orange, 8, RGB, icc + p3))[0, 0].tolist() == [218, 0, 6]


def test_hdr_is_tone_mapped() -> None:
    """A ramp of PQ up to 1000 cd/m2: black, 100, 203 and 1000 cd/m2."""
    codes = np.array([0, 33_303, 38_055, 49_271])
    data = png(np.repeat(codes[None, :, None], 3, 2), 16, RGB, chunk(b"cICP", bytes([9, 16, 0, 1])))
    assert images.read(data)[0, :, 0].tolist() == [0, 186, 229, 255]


def test_grey_has_a_gamma_too() -> None:
    data = png(np.array([[[0], [1], [64], [255]]]), 8, GREY, chunk(b"gAMA", struct.pack(">I", 100_000)))
    assert images.read(data)[0, :, 1].tolist() == [0, 13, 137, 255]


# Damage


def broken(part: bytes) -> bytes:
    """A chunk with a wrong checksum."""
    return part[:-1] + bytes([part[-1] ^ 1])


SOUND = np.arange(24).reshape(2, 4, 3) * 10
TEXT = chunk(b"tEXt", b"Comment\0a text")
BESIDE = {
    "text": TEXT,
    "no keyword": chunk(b"tEXt", b"\0text"),
    "no separator": chunk(b"tEXt", b"text"),
    "empty": chunk(b"tEXt", b""),
    "packed": chunk(b"zTXt", b"Comment\0\0" + zlib.compress(b"a text")),
    "not packed": chunk(b"zTXt", b"Comment\0\0no zlib"),
    "cut": chunk(b"zTXt", b"Comment\0\0" + zlib.compress(b"a text" * 99)[:-9]),
    "unknown method": chunk(b"zTXt", b"Comment\0\7" + zlib.compress(b"a text")),
    "bomb": chunk(b"zTXt", b"Comment\0\0" + zlib.compress(bytes(1 << 25))),
    "international": chunk(b"iTXt", b"Comment\0\0\0en\0\0a text"),
    "packed international": chunk(b"iTXt", b"Comment\0\1\0en\0\0" + zlib.compress(b"a text")),
    "large": chunk(b"iTXt", b"Comment\0\0\0en\0\0" + bytes(1 << 21)),
    "large packed": chunk(b"iTXt", b"Comment\0\1\0en\0\0" + zlib.compress(bytes(1 << 21))),
    "not packed international": chunk(b"iTXt", b"Comment\0\1\0en\0\0no zlib"),
    "cut international": chunk(b"iTXt", b"Comment\0\1\0en"),
    "exif": chunk(b"eXIf", b"II*\0\xff\xff\xff\x7f"),
    "no exif": chunk(b"eXIf", b"nonsense"),
    "profile": chunk(b"iCCP", b"x\0\0" + zlib.compress(SRGB_ICC)),
    "profile of another method": chunk(b"iCCP", b"x\0\5" + zlib.compress(SRGB_ICC)),
    "profile bomb": chunk(b"iCCP", b"x\0\0" + zlib.compress(bytes(1 << 25))),
    "empty profile": chunk(b"iCCP", b""),
    "gamma": chunk(b"gAMA", b"\0"),
    "chromaticities": chunk(b"cHRM", bytes(8)),
    "standard": chunk(b"sRGB", b""),
    "numbers": chunk(b"cICP", b"\1"),
    "size": chunk(b"pHYs", b"\0"),
    "time": chunk(b"tIME", b""),
    "animation": chunk(b"acTL", b"\0"),
    "frame": chunk(b"fcTL", bytes(26)),
    "private": chunk(b"prVt", b"anything"),
    "transparency": chunk(b"tRNS", b"\0"),
    "text too often": TEXT * 500,
}


@pytest.mark.parametrize("name", BESIDE)
def test_damaged_metadata_is_no_reason_to_refuse_sound_pixels(name: str) -> None:
    for part in (BESIDE[name], broken(BESIDE[name])):
        for data in (png(SOUND, 8, RGB, part), png(SOUND, 8, RGB, b"", part)):
            assert np.abs(images.read(data).astype(int) - SOUND).max() <= 1
            assert exif.read(data, location=True).taken is None


def test_texts_are_read_where_they_are_sound() -> None:
    for name in ("text", "packed", "international", "packed international"):
        for place in (0, 1):
            around = (BESIDE["not packed"] + BESIDE[name], b"")
            data = png(SOUND, 8, RGB, around[place], around[1 - place])
            assert exif.read(data, location=False).comment == "a text"
            assert exif.read(png(SOUND, 8, RGB, broken(BESIDE[name])), location=False).comment == ""


def test_a_transparent_value_with_a_wrong_checksum_does_not_count() -> None:
    stated = chunk(b"tRNS", struct.pack(">3H", *SOUND[0, 0]))
    assert np.array_equal(images.read(png(SOUND, 8, RGB, broken(stated))), SOUND)
    with pytest.raises(ImageError, match="transparent"):
        images.read(png(SOUND, 8, RGB, stated))


def test_what_belongs_to_the_picture_is_refused_when_damaged() -> None:
    whole = png(SOUND, 8, RGB)
    complete = len(whole) - 21  # all pixels, but neither their checksums nor IEND
    for length in range(complete):
        with pytest.raises(ImageError):
            images.read(whole[:length])
    for length in range(complete + 1, len(whole)):
        assert np.array_equal(images.read(whole[:length]), SOUND)
    header = bytearray(whole)
    header[29] ^= 1
    with pytest.raises(ImageError, match="without a sound header"):
        images.read(bytes(header))
    colours = broken(chunk(b"PLTE", entries(8).tobytes()))
    with pytest.raises(ImageError, match=r"this PNG file cannot be read \(broken PNG file.*PLTE"):
        images.read(png(random(8, 1), 8, PALETTE, colours))
    with pytest.raises(ImageError, match="a critical 'CgBI' chunk"):
        images.read(whole[:8] + chunk(b"CgBI", bytes(4)) + whole[8:])


def test_a_header_that_makes_no_sense_is_named() -> None:
    for depth, kind in ((3, GREY), (16, PALETTE), (1, RGB), (8, 5)):
        with pytest.raises(ImageError, match="PNG"):
            images.read(
                png(SOUND[..., :1], 8, GREY).replace(bytes([8, GREY, 0, 0, 0]), bytes([depth, kind, 0, 0, 0]))
            )


# Animations, and images that Pillow opened


def test_of_an_animation_the_first_frame_is_read_and_the_others_are_counted() -> None:
    first, second = Image.new("RGB", (3, 2), (10, 20, 30)), Image.new("RGB", (3, 2), (99, 99, 99))
    buffer = io.BytesIO()
    first.save(buffer, "PNG", save_all=True, append_images=[second])
    assert (images.read(buffer.getvalue()) == [10, 20, 30]).all()
    assert images.frame_count(buffer.getvalue()) == 2
    assert images.frame_count(png(SOUND, 8, RGB)) == 1


def test_an_image_that_pillow_opened_is_read_the_same() -> None:
    grey = np.array([[[3], [9]]])
    data = png(grey, 4, GREY, chunk(b"tRNS", b"\0\3"))
    with Image.open(io.BytesIO(data)) as opened, pytest.raises(ImageError, match="transparent"):
        images.read(opened)
    with Image.open(io.BytesIO(png(np.full((1, 1, 3), 128), 8, RGB, LINEAR))) as opened:
        assert images.read(opened)[0, 0].tolist() == [188] * 3
    with Image.open(io.BytesIO(png(SOUND, 8, RGB))) as changed:
        changed.putpixel((0, 0), (1, 2, 3))
        assert images.read(changed)[0, 0].tolist() == [1, 2, 3]


def test_the_space_that_is_stated() -> None:
    from rdeic.pictures import png as parser

    parsed = parser.parse(png(SOUND, 8, RGB, chunk(b"cICP", bytes([9, 16, 0, 0]))))
    assert parsed.space == colour.from_cicp(9, 16, full_range=False)

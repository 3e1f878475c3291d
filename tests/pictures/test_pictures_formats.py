"""Other picture files: alpha that fills up, colours, rotation by the decoder, reasons of refusals."""

from __future__ import annotations

import struct
import subprocess
import sys
import zlib
from pathlib import Path

import numpy as np
import pillow_jxl  # noqa: F401 (registers itself)
import pytest
from PIL import Image

from rdeic.errors import ImageError
from rdeic.pictures import colour, formats, images
from support.picture_files import chunk, cmyk_profile, grey_profile, packed, png, power, rgb_profile, tiff
from support.saved_pictures import RAMP, X, Y, saved, srgb_profile

# BMP


def bmp(
    pixels: bytes, size: tuple[int, int], bits: int, header: int, fields: int, palette: bytes = b""
) -> bytes:
    head = struct.pack("<IiiHHIIii", header, *size, 1, bits, fields, len(pixels), 2835, 2835)
    head += struct.pack("<II", len(palette) // 4, 0)
    head = (head + struct.pack("<4I", 0xFF0000, 0xFF00, 0xFF, 0xFF000000) if header > 40 else head).ljust(
        header, b"\0"
    )
    masks = struct.pack("<3I", 0xFF0000, 0xFF00, 0xFF) if header == 40 and fields == 3 else b""
    start = 14 + len(head) + len(masks) + len(palette)
    return b"BM" + struct.pack("<IHHI", start + len(pixels), 0, 0, start) + head + masks + palette + pixels


@pytest.mark.parametrize("header", [40, 56, 108, 124])
@pytest.mark.parametrize("fields", [0, 3])
def test_bmp_whose_alpha_is_nowhere_set_is_opaque(header: int, fields: int) -> None:
    for alpha in (np.zeros((24, 32)), np.full((24, 32), 255), 255 - X):
        bgra = np.dstack([RAMP[..., ::-1], alpha]).astype(np.uint8)[::-1]
        data = bmp(bgra.tobytes(), (32, 24), 32, header, fields)
        if len(np.unique(alpha)) > 1 and header > 40 and fields == 3:  # the only layout that states alpha
            with pytest.raises(ImageError, match="--background"):
                images.read(data)
        else:
            assert np.array_equal(images.read(data), RAMP)


def test_bmp_of_two_colours_at_every_depth() -> None:
    indices = (X + Y) % 2
    palette = bytes(4) + b"\xff\xff\xff\0"
    for bits in (1, 4, 8):
        pixels = b"".join(packed(row, bits, "<") for row in indices[::-1])
        assert np.array_equal(images.read(bmp(pixels, (32, 24), bits, 40, 0, palette))[..., 0], indices * 255)


def test_tga() -> None:
    bgra = np.dstack([RAMP, np.zeros_like(RAMP[..., 0])])
    assert np.array_equal(images.read(saved(bgra, "TGA")), RAMP)
    bgra[0, 0, 3] = 1
    with pytest.raises(ImageError, match="--background"):
        images.read(saved(bgra, "TGA"))
    for rle in (False, True):
        assert np.array_equal(images.read(saved(RAMP, "TGA", rle=rle)), RAMP)
    with pytest.raises(ImageError, match="cannot be read"):  # without a magic number, the size must do
        images.read(saved(RAMP, "TGA")[:200])


# Other kinds of picture


@pytest.mark.parametrize("kind", ["JPEG2000", "QOI", "SGI", "PCX", "DDS", "PPM", "WEBP", "ICO", "PNG"])
def test_formats_without_loss(kind: str) -> None:
    options = {"lossless": True} if kind == "WEBP" else {"sizes": [(32, 24)]} if kind == "ICO" else {}
    assert np.array_equal(images.read(saved(RAMP, kind, **options)), RAMP)


@pytest.mark.parametrize("kind", ["GIF", "WEBP", "AVIF", "HEIF", "JXL", "JPEG2000", "QOI", "SGI"])
def test_transparency_of_every_format(kind: str) -> None:
    image = Image.fromarray(np.dstack([RAMP, np.where(X < 16, 255, 0).astype(np.uint8)]))
    with pytest.raises(ImageError, match="--background"):
        images.read(saved(image, kind))
    assert images.read(saved(image, kind), background="white")[3, 28].tolist() == pytest.approx(
        [255] * 3, abs=2
    )


def test_profiles_of_grey_and_printers() -> None:
    grey = Image.fromarray(np.array([[0, 64, 128, 255]], np.uint8))
    assert images.read(saved(grey, "PNG", icc_profile=grey_profile(1)))[0, :, 1].tolist() == [
        0,
        137,
        188,
        255,
    ]
    inks = np.full((16, 3), (0, 128, 128), np.uint8)  # any two of them print black
    inks[0], inks[8] = (255, 128, 128), (128, 128, 128)  # paper, and a grey "cyan"
    for ink, expected in (((0, 0, 0, 0), 255), ((255, 0, 0, 0), 119), ((0, 0, 0, 255), 0)):
        page = Image.new("CMYK", (16, 16), ink)
        for data in (
            saved(page, "TIFF", icc_profile=cmyk_profile(inks)),
            saved(page, "JPEG", quality=100, icc_profile=cmyk_profile(inks)),
        ):
            assert np.abs(images.read(data).astype(int) - expected).max() <= 2


def test_profiles_of_displays_agree_with_the_same_space_by_numbers() -> None:
    p3 = rgb_profile(
        (0.51512, 0.2412, -0.00105), (0.29198, 0.69225, 0.04189), (0.1571, 0.06657, 0.78407), power(2.2)
    )
    linear = to_linear_p3(RAMP)
    through_profile = images.read(saved(RAMP, "PNG", icc_profile=p3))
    assert np.abs(through_profile.astype(int) - linear).max() <= 2
    adobe = rgb_profile(
        (0.60974, 0.31111, 0.01947),
        (0.20528, 0.62567, 0.06087),
        (0.14919, 0.06322, 0.74457),
        power(2.19921875),
    )
    red = np.full((4, 4, 3), (219, 0, 0), np.uint8)  # sRGB's, as Adobe RGB has it
    for kind in ("PNG", "TIFF", "WEBP"):
        options = {"lossless": True} if kind == "WEBP" else {}
        assert (
            np.abs(images.read(saved(red, kind, icc_profile=adobe, **options))[0, 0] - [255.0, 0, 0]).max()
            <= 2
        )


LINEAR = rgb_profile((0.4361, 0.2225, 0.0139), (0.3851, 0.7169, 0.0971), (0.1431, 0.0606, 0.7141), power(1))


@pytest.mark.parametrize("alpha", [False, True])
@pytest.mark.parametrize(
    "kind", ["png", "tiff", "big-endian tiff", "packed tiff", "tiled tiff", "tiff in planes"]
)
def test_all_16_bits_go_through_a_profile(kind: str, alpha: bool) -> None:
    """Of the darkest 8-bit steps of linear light, sRGB has 13 in the first; they all count."""
    codes = np.random.default_rng(0).integers(0, 2_000, (9, 11, 3))
    codes[0, 0], codes[0, 1] = 0, 65_535
    samples = np.dstack([codes, np.full((9, 11), 65_535)]) if alpha else codes
    tags = {34_675: (7, tuple(LINEAR))}
    if kind == "png":
        chunks = chunk(b"iCCP", b"x\0\0" + zlib.compress(LINEAR))
        data = png(samples, 16, 6 if alpha else 2, chunks)
    else:
        data = tiff(
            samples,
            16,
            2,
            order=">" if kind.startswith("big") else "<",
            deflate=kind.startswith("packed"),
            tile=16 if kind.startswith("tiled") else 0,
            planar=kind.endswith("planes"),
            extra=(2,) if alpha else None,
            tags=tags,
        )
    light = codes / 65_535
    expected = 255 * np.where(light <= 0.0031308, 12.92 * light, 1.055 * light ** (1 / 2.4) - 0.055)
    assert np.abs(images.read(data) - expected).max() <= 1.5


def to_linear_p3(picture: images.Picture) -> images.Picture:
    space = colour.from_cicp(12, 4, full_range=True)
    assert space is not None
    return colour.to_srgb(picture, space)


def test_misplaced_profiles_are_ignored() -> None:
    for mode, profile in (("L", srgb_profile()), ("RGB", grey_profile(1)), ("CMYK", srgb_profile())):
        image = Image.new(mode, (8, 8), {"L": 90, "RGB": (90, 90, 90), "CMYK": (0, 0, 0, 165)}[mode])
        assert (images.read(saved(image, "TIFF", icc_profile=profile)) == 90).all()


def test_frames_beyond_the_first_are_counted() -> None:
    frames = [Image.new("RGB", (16, 16), colour) for colour in ("red", "green", "blue")]
    for kind in ("GIF", "WEBP", "PNG", "TIFF", "AVIF", "HEIF"):
        data = saved(frames[0], kind, save_all=True, append_images=frames[1:])
        assert images.frame_count(data) == 3, kind
        assert images.read(data)[8, 8].argmax() == 0, kind
    assert images.frame_count(saved(frames[0], "JPEG")) == 1
    stereo = saved(frames[0], "MPO", save_all=True, append_images=frames[1:])
    assert images.frame_count(stereo) == 3
    assert (
        images.frame_count(stereo + b'<x hdrgm:Version="1.0"/>') == 1
    )  # a phone's photograph and its gain map
    assert images.frame_count(RAMP) == images.frame_count(b"no picture") == images.frame_count("missing") == 1


def test_plugins_suffixes_are_known_without_them() -> None:
    for name, plugin in formats.PLUGINS.items():
        assert set(plugin.suffixes) == {
            s for s, kind in Image.registered_extensions().items() if kind == name
        }


# Reasons


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"%PDF-1.7\n" + bytes(99), "a PDF document"),
        (b"<svg xmlns='x'>", "an SVG drawing"),
        (b"\0\0\0\x20ftypisom" + bytes(99), "a video"),
        (b"\0\0\0\x20ftypcrx " + bytes(99), "a camera's raw data"),
        (b"\0\0\0\x20ftypwhat" + bytes(99), "a file of kind 'what'"),
        (b"GIF89a", r"this GIF file cannot be read \(it is damaged or cut short\)"),
        (b"hello, this is text" * 9, "not a picture in a known format"),
        (b"\0\0\0\x1cftypavif" + bytes(16), r"this AVIF file cannot be read \(.+\)"),
        (b"BM" + bytes(12) + struct.pack("<IiiHHI", 40, 8, 8, 1, 2, 0) + bytes(99), "BMP pixel depth .2."),
        (b"RIFF\x10\0\0\0WEBPVP8 " + bytes(9), "this WebP file cannot be read"),
        (b"\xff\x0a", "damaged or truncated"),
    ],
)
def test_refusals_state_the_reason(data: bytes, reason: str) -> None:
    with pytest.raises(ImageError, match=reason) as caught:
        images.read(data)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("module", "kind", "extra"), [("pillow_heif", "HEIF", "heif"), ("pillow_jxl", "JXL", "jxl")]
)
def test_a_missing_plugin_is_named(module: str, kind: str, extra: str, tmp_path: Path) -> None:
    path = tmp_path / "photo"
    path.write_bytes(saved(RAMP, kind))
    program = (
        f"import sys; sys.modules[{module!r}] = None\n"
        "from rdeic.pictures import images\n"
        "try: images.read(sys.argv[1])\n"
        "except images.ImageError as error: print(error)\n"
        "print(sorted({'.heic', '.jxl', '.png'} & images.readable_suffixes()))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, str(path)], capture_output=True, text=True, check=True
    )
    said, suffixes = done.stdout.splitlines()
    assert said.endswith(f"takes a plugin: pip install 'rdeic[{extra}]'")
    assert suffixes == str(sorted({".heic", ".jxl", ".png"} - {f".{ {'heif': 'heic'}.get(extra, extra) }"}))

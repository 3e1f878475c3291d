"""Every kind of picture file a user may throw at the program, made here."""

from __future__ import annotations

import io
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageCms

from rdeic.errors import ConfigError, ImageError
from rdeic.pictures import images
from support.saved_pictures import UNROTATE


def png(image: Image.Image, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "PNG", **options)
    return buffer.getvalue()


def chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def raw_png(width: int, height: int, depth: int, colour: int, rows: bytes, extra: bytes = b"") -> bytes:
    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    body = chunk(b"IHDR", header) + extra + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + body


@pytest.fixture
def colours() -> images.Picture:
    """3 rows of 2 pixels, all different."""
    return np.arange(18, dtype=np.uint8).reshape(3, 2, 3) * 14


def test_rgb_png_is_read_unchanged_from_every_source(colours: images.Picture, tmp_path: Path) -> None:
    picture = Image.fromarray(colours)
    path = tmp_path / "a picture.png"
    path.write_bytes(png(picture))
    for source in (path, str(path), png(picture), picture, colours):
        assert np.array_equal(images.read(source), colours)


def test_grey_and_bilevel_become_rgb() -> None:
    grey = np.array([[0, 7, 255]], dtype=np.uint8)
    assert images.read(png(Image.fromarray(grey))).tolist() == [[[0] * 3, [7] * 3, [255] * 3]]
    assert images.read(png(Image.new("1", (2, 1), 1))).tolist() == [[[255] * 3] * 2]


def test_16_bit_grey_is_scaled_and_rounded_not_clipped() -> None:
    deep = np.array([[0, 128, 129, 257, 32768, 65535]], dtype=np.uint16)
    assert images.read(png(Image.fromarray(deep)))[0, :, 0].tolist() == [0, 0, 1, 1, 128, 255]


def test_16_bit_colour_keeps_its_high_bytes() -> None:
    rows = b"\0" + struct.pack(">6H", 0x1234, 0x8000, 0xFFFF, 0, 0x0100, 0x7FFF)
    assert images.read(raw_png(2, 1, 16, 2, rows)).tolist() == [[[0x12, 0x80, 0xFF], [0, 1, 0x7F]]]


def test_32_bit_and_float_samples_are_refused() -> None:
    for picture in (Image.fromarray(np.full((2, 2), 70_000, np.int32)), Image.new("F", (2, 2), 0.5)):
        with pytest.raises(ImageError, match="convert it to 8 or 16 bits"):
            images.read(picture)


def test_palette_is_looked_up(colours: images.Picture) -> None:
    palette = Image.fromarray(colours).quantize(6)
    assert palette.mode == "P"
    assert np.array_equal(images.read(png(palette)), np.asarray(palette.convert("RGB")))


def test_cmyk_jpeg_becomes_rgb() -> None:
    buffer = io.BytesIO()
    Image.new("CMYK", (16, 16), (0, 255, 255, 0)).save(buffer, "JPEG", quality=95)
    red, green, blue = images.read(buffer.getvalue())[8, 8].tolist()
    assert red > 240
    assert green < 15
    assert blue < 15


@pytest.mark.parametrize("mode", ["RGBA", "LA", "PA"])
def test_opaque_alpha_is_dropped(mode: str) -> None:
    picture = (
        Image.new("RGBA", (3, 2), (40, 40, 40, 255)).convert("LA" if mode != "RGBA" else mode).convert(mode)
    )
    assert (images.read(picture) == 40).all()


@pytest.mark.parametrize("mode", ["RGBA", "LA"])
def test_transparency_is_refused_with_the_remedy_or_composited(mode: str) -> None:
    picture = Image.new("RGBA", (2, 1), (0, 0, 0, 255))
    picture.putpixel((1, 0), (0, 0, 0, 0))
    data = png(picture.convert(mode))
    with pytest.raises(ImageError, match="--background COLOUR"):
        images.read(data)
    assert images.read(data, background="#ff8000").tolist() == [[[0, 0, 0], [255, 128, 0]]]


def test_half_transparency_is_blended() -> None:
    half = png(Image.new("RGBA", (1, 1), (0, 0, 0, 128)))
    assert images.read(half, background="white").tolist() == [[[127, 127, 127]]]


def test_transparent_palette_entry_and_transparent_16_bit_value_count_as_alpha() -> None:
    palette = Image.new("P", (2, 1), 0)
    palette.putpalette([10, 10, 10, 20, 20, 20])
    palette.putpixel((1, 0), 1)
    grey = b"\0" + struct.pack(">2H", 0, 65535)
    for data in (png(palette, transparency=0), raw_png(2, 1, 16, 0, grey, chunk(b"tRNS", b"\0\0"))):
        with pytest.raises(ImageError, match="transparent"):
            images.read(data)
        assert images.read(data, background="red")[0, 0].tolist() == [255, 0, 0]


def test_unknown_background_colour_is_a_setting_error() -> None:
    with pytest.raises(ConfigError, match="'no-colour' is not a colour"):
        images.read(png(Image.new("RGB", (1, 1))), background="no-colour")


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_applied(orientation: int, colours: images.Picture) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    stored = np.ascontiguousarray(UNROTATE[orientation](colours))
    assert np.array_equal(images.read(png(Image.fromarray(stored), exif=exif)), colours)


def test_damaged_exif_does_not_refuse_the_picture(colours: images.Picture) -> None:
    data = png(Image.fromarray(colours), exif=b"Exif\0\0II*\0\xff\xff\xff\x7f")
    assert np.array_equal(images.read(data), colours)


def test_embedded_profile_is_converted_to_srgb() -> None:
    swapped = bytearray(ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes())
    red, green = swapped.find(b"rXYZ"), swapped.find(b"gXYZ")
    swapped[red : red + 4], swapped[green : green + 4] = b"gXYZ", b"rXYZ"
    data = png(Image.new("RGB", (4, 4), (200, 30, 30)), icc_profile=bytes(swapped))
    assert np.abs(images.read(data).astype(int) - [30, 200, 30]).max() <= 2


def test_srgb_profile_changes_nothing_and_a_broken_or_misplaced_one_is_ignored(
    colours: images.Picture,
) -> None:
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    sound = images.read(png(Image.fromarray(colours), icc_profile=profile))
    assert np.abs(sound.astype(int) - colours).max() <= 1
    assert np.array_equal(images.read(png(Image.fromarray(colours), icc_profile=b"no profile")), colours)
    assert (images.read(png(Image.new("L", (2, 2), 90), icc_profile=profile)) == 90).all()


@pytest.mark.parametrize("size", [(1, 1), (1, 65_535), (65_535, 1)])
def test_extreme_sides_are_read(size: tuple[int, int]) -> None:
    assert images.read(png(Image.new("RGB", size))).shape == (size[1], size[0], 3)


def test_a_side_too_long_is_refused() -> None:
    with pytest.raises(ImageError, match="65536x1"):
        images.read(png(Image.new("L", (65_536, 1))))


def test_bombs_are_refused_from_the_header_alone() -> None:
    for side, reason in {60_000: "far too large", 15_000: "15000x15000"}.items():
        with pytest.raises(ImageError, match=f"{reason}: the limit is 200 megapixels"):
            images.read(raw_png(side, side, 8, 2, b""))
    with pytest.raises(ImageError, match=r"10x11: the limit is 0\.0001 megapixels"):
        images.read(np.zeros((11, 10, 3), np.uint8), max_pixels=100)


def test_pillows_own_limit_neither_gets_in_the_way_nor_is_changed() -> None:
    before = Image.MAX_IMAGE_PIXELS
    with pytest.raises(
        ImageError, match="truncated"
    ):  # within our limit, beyond Pillow's, and without pixels
        images.read(raw_png(19_000, 10_000, 1, 0, b""))
    assert before == Image.MAX_IMAGE_PIXELS


def test_missing_empty_and_text_files_name_the_file(tmp_path: Path) -> None:
    (tmp_path / "empty.png").touch()
    (tmp_path / "text.png").write_text("this is no picture\n" * 10)
    for name, reason in {
        "gone.png": "No such file",
        "empty.png": "empty",
        "text.png": "not a picture",
    }.items():
        with pytest.raises(ImageError, match=f"{name}: .*{reason}") as caught:
            images.read(tmp_path / name)
        assert "\n" not in str(caught.value)
    with pytest.raises(ImageError, match="directory"):
        images.read(tmp_path)


def test_a_tiff_beyond_pillows_own_limit_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    buffer = io.BytesIO()
    Image.new("RGB", (64, 48)).save(buffer, "TIFF")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    assert images.read(buffer.getvalue()).shape == (48, 64, 3)


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "TIFF"])
def test_every_truncation_is_an_image_error_or_a_picture(kind: str) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (16, 16, 3), np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(noise).save(buffer, kind)
    data = buffer.getvalue()
    assert images.read(data).shape == (16, 16, 3)
    for length in range(0, len(data), 13):
        try:
            assert images.read(data[:length]).shape == (16, 16, 3)
        except ImageError:
            continue
    with pytest.raises(ImageError):
        images.read(data[: len(data) // 2])


def test_truncated_png_says_so(tmp_path: Path) -> None:
    path = tmp_path / "cut.png"
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
    path.write_bytes(png(Image.fromarray(noise))[:5000])
    with pytest.raises(ImageError, match=r"cut\.png: damaged or truncated"):
        images.read(path)


@given(
    st.binary(max_size=200),
    st.sampled_from([b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff\xe0", b"RIFF", b"II*\0", b"P6 "]),
)
def test_hostile_bytes_raise_nothing_but_image_errors(tail: bytes, magic: bytes) -> None:
    try:
        picture = images.read(magic + tail, max_pixels=10_000)
    except ImageError:
        return
    assert picture.dtype == np.uint8


@pytest.mark.parametrize(
    "array",
    [
        np.zeros((2, 2), np.uint8),
        np.zeros((2, 2, 4), np.uint8),
        np.zeros((2, 2, 3)),
        np.zeros((0, 2, 3), np.uint8),
    ],
)
def test_arrays_of_another_shape_or_type_are_refused(array: np.ndarray) -> None:
    with pytest.raises(ImageError):
        images.read(array)


@pytest.mark.parametrize(("kind", "tolerance"), [("png", 0), ("webp", 0), ("jpg", 12)])
def test_written_pictures_read_back(kind: str, tolerance: int, tmp_path: Path) -> None:
    ramp = np.linspace(0, 255, 16 * 16 * 3).astype(np.uint8).reshape(16, 16, 3)
    images.write(ramp, tmp_path / "out", kind)
    assert np.abs(images.read(tmp_path / "out").astype(int) - ramp).max() <= tolerance
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_writing_reports_what_cannot_be_written(tmp_path: Path) -> None:
    wide = Image.new("RGB", (20_000, 1))
    with pytest.raises(ImageError, match="use png"):
        images.encode(wide, "webp")
    with pytest.raises(ConfigError, match="png, jpg, webp"):
        images.encode(wide, "gif")
    with pytest.raises(ImageError, match="cannot be written"):
        images.write(wide, tmp_path / "no" / "such" / "folder.png", "png")


def test_pad_repeats_the_right_and_bottom_edge(colours: images.Picture) -> None:
    padded = images.pad(colours, 4)
    assert padded.shape == (4, 4, 3)
    assert np.array_equal(padded[:3, :2], colours)
    assert (padded[:3, 2:] == colours[:, -1:]).all()
    assert (padded[3] == padded[2]).all()
    assert np.array_equal(images.pad(padded, 4), padded)


def test_every_suffix_of_a_readable_format_is_known() -> None:
    known = images.readable_suffixes()
    common = ".png .apng .jpg .jpeg .jfif .jpe .mpo .webp .avif .tif .tiff .bmp .dib .gif .ppm .pgm .pbm .jp2 .j2k .qoi"
    more = ".ico .psd .tga .pcx .sgi .heic .heif .hif .jxl"  # HEIF and JPEG XL through plugins
    assert set(f"{common} {more}".split()) <= known
    assert not known & {".eps", ".ps", ".pdf", ".mpg", ".wmf", ".h5", ".fits", ".svg"}
    assert all(suffix == suffix.lower() and suffix.startswith(".") for suffix in known)

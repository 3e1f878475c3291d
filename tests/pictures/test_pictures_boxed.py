"""AVIF, HEIC and JPEG XL: their colours, their size, and rotation by the decoder."""

from __future__ import annotations

import io
import struct
from pathlib import Path

import numpy as np
import pillow_jxl  # noqa: F401 (registers itself)
import pytest
from PIL import Image

from rdeic.errors import ImageError
from rdeic.pictures import colour, images, jxl
from support.picture_files import chunk
from support.saved_pictures import RAMP, UNROTATE, saved, srgb_profile


@pytest.mark.parametrize(("kind", "options"), [("AVIF", {"quality": 100}), ("HEIF", {"quality": -1})])
def test_the_colour_space_of_boxed_files(kind: str, options: dict[str, object]) -> None:
    data = saved(RAMP, kind, **options)
    at = data.index(b"colrnclx") + 8
    plain = images.read(data)
    for numbers in ((12, 13), (9, 14), (9, 16), (9, 18), (1, 8), (1, 13), (2, 2), (99, 13)):
        if kind == "HEIF" and numbers[0] == 99:  # refused by libheif
            continue
        changed = data[:at] + struct.pack(">HH", *numbers) + data[at + 4 :]
        space = colour.from_cicp(*numbers, full_range=True)
        expected = plain if space is None else colour.to_srgb(plain, space)
        assert np.array_equal(images.read(changed), expected)
    with_profile = saved(RAMP, kind, icc_profile=srgb_profile(), **options)
    assert np.abs(images.read(with_profile).astype(int) - plain).max() <= 1
    for cut in (at, at + 1, at - 6):  # damaged boxes say nothing
        changed = data[: cut - 2] + b"\xff\xff" + data[cut:]
        try:
            assert images.read(changed).shape == plain.shape
        except ImageError:
            continue


@pytest.mark.parametrize("kind", ["AVIF", "HEIF", "WEBP", "JPEG", "PNG"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_pictures_are_turned_once(kind: str, orientation: int) -> None:
    note = Image.Exif()
    note[0x0112] = orientation
    quality = {"AVIF": 100, "HEIF": -1, "JPEG": 100}.get(kind, 80)
    options = {"lossless": True} if kind == "WEBP" else {} if kind == "PNG" else {"quality": quality}
    stored = np.ascontiguousarray(UNROTATE[orientation](RAMP))
    found = images.read(saved(stored, kind, exif=note.tobytes(), **options))
    assert found.shape == RAMP.shape
    assert np.abs(found.astype(int) - RAMP).max() <= 9


def test_jpeg_xl_is_turned_by_its_decoder_and_not_again(tmp_path: Path) -> None:
    note = Image.Exif()
    note[0x0112] = 6
    assert np.array_equal(images.read(saved(RAMP, "JXL", lossless=True, exif=note.tobytes())), RAMP)
    path = tmp_path / "a.jpg"  # whose own orientation counts when it is wrapped up
    path.write_bytes(saved(np.ascontiguousarray(np.rot90(RAMP)), "JPEG", quality=100, exif=note.tobytes()))
    with Image.open(path) as image:
        found = images.read(saved(image, "JXL", lossless_jpeg=True))
    assert np.abs(found.astype(int) - RAMP).max() <= 6


@pytest.mark.parametrize(
    "size", [(1, 1), (32, 24), (8, 8), (256, 256), (640, 480), (3000, 17), (16, 9), (300, 1)]
)
@pytest.mark.parametrize("boxed", [False, True])
def test_the_size_of_jpeg_xl_is_known_before_it_is_decoded(size: tuple[int, int], boxed: bool) -> None:
    data = saved(Image.new("L", size), "JXL", use_container=boxed)
    assert jxl.size(data) == size
    if size[0] * size[1] > 100:
        with pytest.raises(ImageError, match=f"{size[0]}x{size[1]}: the limit is"):
            images.read(data, max_pixels=100)


@pytest.mark.parametrize("kind", ["AVIF", "HEIF", "PNG"])
def test_an_image_that_pillow_opened_is_read_the_same(kind: str) -> None:
    if kind == "PNG":
        header = saved(RAMP, kind)
        data = header[:33] + chunk(b"gAMA", struct.pack(">I", 100_000)) + header[33:]
    else:
        data = saved(RAMP, kind)
        at = data.index(b"colrnclx") + 8
        data = data[:at] + struct.pack(">HH", 12, 8) + data[at + 4 :]
    expected = images.read(data)
    assert expected[0, 4, 0] > RAMP[0, 4, 0] + 40
    with Image.open(io.BytesIO(data)) as opened:
        assert np.array_equal(images.read(opened), expected)
    with Image.open(io.BytesIO(data)) as decoded:
        decoded.load()
        if kind != "AVIF":  # of which Pillow keeps no numbers
            assert np.array_equal(images.read(decoded), expected)

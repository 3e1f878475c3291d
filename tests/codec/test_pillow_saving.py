"""Pillow with `rdeic.pillow`: saving, with options, modes and metadata."""

from __future__ import annotations

import io
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageCms
from PIL.ExifTags import GPS, IFD, Base

import rdeic
import rdeic.pillow
from rdeic.codec.codec import Codec
from rdeic.container.metadata import Location, Metadata
from rdeic.pictures import exif, images
from support.pillow_files import blob, file, installed, opened, same

__all__ = ["blob", "file", "installed"]  # fixtures

KODIM23 = Path(__file__).resolve().parents[2] / "examples" / "kodim23.png"


def test_the_repositorys_photograph_there_and_back(tmp_path: Path) -> None:
    codec = rdeic.load()
    with Image.open(KODIM23) as photograph:
        part = photograph.crop((200, 100, 456, 292))
    part.save(tmp_path / "a.rdeic", quality=40)
    blob = (tmp_path / "a.rdeic").read_bytes()
    assert blob == codec.compress(part, quality=40)
    with Image.open(tmp_path / "a.rdeic") as image:
        assert same(image, codec.decompress(blob))
    part.save(tmp_path / "b.rdeic", max_bytes=700)
    assert 400 < (tmp_path / "b.rdeic").stat().st_size <= 700


def saved(image: Image.Image, tiny: Codec, **options: Any) -> bytes:
    stream = io.BytesIO()
    image.save(stream, "RDEIC", codec=tiny, **options)
    return stream.getvalue()


def test_options_are_the_codecs(tiny: Codec, photo: images.Picture) -> None:
    image = Image.fromarray(photo)
    assert saved(image, tiny) == tiny.compress(photo)
    for options in (
        {"quality": 80},
        {"bpp": 0.5, "scale": False},
        {"max_bytes": 700, "seed": 7},
        {"quality": 0, "verify": True},
    ):
        assert saved(image, tiny, **options) == tiny.compress(photo, **options)  # type: ignore[arg-type]
    assert saved(image, tiny, optimize=True) == tiny.compress(photo)  # of other formats: without effect


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"quality": 101}, r"quality 101 is not within 0\.\.100"),
        ({"quality": 50, "bpp": 0.1}, "choose one of quality, bpp and max_bytes"),
        ({"quality": "high"}, "quality must be a number"),
        ({"seed": -1}, "seed -1"),
        ({"exif": "text"}, "exif must be bytes"),
        ({"background": "nocolour"}, "is not a colour"),
        ({"save_all": True, "append_images": [Image.new("RGB", (1, 1))]}, "holds one picture, not 2"),
        ({"append_images": [Image.new("RGB", (1, 1))]}, "holds one picture, not 2"),
    ],
)
def test_senseless_options_leave_nothing_behind(
    options: dict[str, Any], said: str, tiny: Codec, photo: images.Picture, tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match=said):
        Image.fromarray(photo).save(tmp_path / "a.rdeic", codec=tiny, **options)
    stream = io.BytesIO(b"before")
    with pytest.raises(ValueError, match=said):
        Image.fromarray(photo).save(stream, "RDEIC", codec=tiny, **options)
    assert list(tmp_path.iterdir()) == []
    assert stream.getvalue() == b"before"


def test_what_cannot_be_saved_leaves_nothing_behind(
    tiny: Codec, photo: images.Picture, tmp_path: Path
) -> None:
    for image, options in (
        (Image.fromarray(photo), {"max_bytes": 30}),
        (Image.new("F", (9, 9)), {}),
        (Image.new("RGB", (70_000, 1)), {}),
    ):
        with pytest.raises(OSError, match=r"30 bytes|floating-point|70000x1"):
            image.save(tmp_path / "a.rdeic", codec=tiny, **options)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("mode", ["1", "L", "P", "I;16", "CMYK", "YCbCr", "HSV", "LAB", "RGBX", "LA", "RGBA"])
def test_modes_are_converted_as_in_files(mode: str, tiny: Codec, photo: images.Picture) -> None:
    image = Image.fromarray(photo)
    if mode == "LAB":
        to_lab = ImageCms.buildTransform(
            ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB"), "RGB", "LAB"
        )
        changed = ImageCms.applyTransform(image, to_lab)
        assert changed is not None
    elif mode == "I;16":
        changed = Image.fromarray(np.asarray(image.convert("L")).astype(np.uint16) * 257)
    else:
        changed = image.convert(mode)
    assert changed.mode == mode
    assert saved(changed, tiny) == tiny.compress(images.read(changed))


def test_transparency_takes_a_background(tiny: Codec, photo: images.Picture) -> None:
    glass = Image.fromarray(photo)
    glass.putalpha(100)
    with pytest.raises(OSError, match="background="):
        saved(glass, tiny)
    assert saved(glass, tiny, background="red") == tiny.compress(images.read(glass, background="red"))


def test_a_picture_can_replace_the_file_it_comes_from(file: Path, blob: bytes, tiny: Codec) -> None:
    with Image.open(file) as image:
        image.save(file, quality=0, codec=tiny)
    assert file.read_bytes() == tiny.compress(tiny.decompress(blob), quality=0)


# Metadata

TAKEN = Metadata(datetime(2024, 5, 6, 7, 8, 9), "Maker", "M\u00f6del", "", "a comment")


def exif_of(described: Metadata, orientation: int = 1) -> Image.Exif:
    made = exif.parse(exif.to_bytes(described))
    if orientation != 1:
        made[Base.Orientation] = orientation
    return made


def test_exif_goes_in_where_it_is_given_and_comes_out(tiny: Codec, photo: images.Picture) -> None:
    image, place = Image.fromarray(photo), Location(51.5, -0.125)
    data = exif.to_bytes(TAKEN._replace(location=place))
    given = exif.parse(data)
    assert rdeic.inspect(saved(image, tiny)).metadata is None
    assert rdeic.inspect(saved(image, tiny, exif=b"Exif\0\0broken")).metadata is None
    assert rdeic.inspect(saved(image, tiny, exif=given)).metadata == TAKEN
    blob = saved(image, tiny, exif=data, location=True)
    assert rdeic.inspect(blob).metadata == TAKEN._replace(location=place)

    found = opened(blob).getexif()
    assert (found[Base.Make], found[Base.ImageDescription]) == ("Maker", "a comment")
    assert found.get_ifd(IFD.Exif)[Base.DateTimeOriginal] == "2024:05:06 07:08:09"
    assert found.get_ifd(IFD.GPSInfo)[GPS.GPSLatitudeRef] == "N"
    assert found[Base.Software].startswith("rdeic: restored from a file with checksum")
    assert rdeic.inspect(saved(opened(blob), tiny, exif=found)).metadata == TAKEN


def test_pictures_are_stored_upright(tiny: Codec, photo: images.Picture) -> None:
    lying = Image.fromarray(photo)
    upright = tiny.compress(np.rot90(photo, -1))
    assert rdeic.inspect(upright)[:2] == (96, 130)
    assert saved(lying, tiny, exif=exif_of(Metadata(), orientation=6)) == upright
    stream = io.BytesIO()
    lying.save(stream, "PNG", exif=exif_of(Metadata(), orientation=6))
    told = Image.open(stream)
    assert saved(told, tiny) == upright
    assert saved(told, tiny, exif=told.getexif()) == upright
    as_it_is = tiny.compress(photo, metadata=TAKEN)
    assert saved(told, tiny, exif=exif_of(TAKEN)) == as_it_is


def test_a_profile_can_be_given(tiny: Codec, photo: images.Picture) -> None:
    # Red and blue change places.
    swapped = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    swapped = _exchanged(swapped, b"rXYZ", b"bXYZ")
    image = Image.fromarray(photo)
    plain = tiny.compress(photo)
    assert saved(image, tiny, icc_profile=swapped) != plain
    image.info["icc_profile"] = swapped
    assert saved(image, tiny) == saved(Image.fromarray(photo), tiny, icc_profile=swapped)
    assert saved(image, tiny, icc_profile=None) == plain


def _exchanged(data: bytes, one: bytes, other: bytes) -> bytes:
    return data.replace(one, b"????", 1).replace(other, one, 1).replace(b"????", other, 1)

"""Metadata: exact bytes, what the section refuses, and the way from one picture file into another."""

from __future__ import annotations

import io
import struct
from datetime import datetime
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageCms
from PIL.ExifTags import GPS, IFD, Base

from rdeic.container.metadata import MAX_TEXT_BYTES, Location, Metadata, pack, unpack
from rdeic.errors import ConfigError, FileFormatError, ImageError
from rdeic.pictures import exif, images

FULL = Metadata(
    datetime(2026, 11, 21, 9, 5, 59), "Canon", "EOS 5D", "Display P3", "Käse, 日本", Location(-33.9, 18.4)
)


def field(tag: int, content: bytes) -> bytes:
    return struct.pack("<BH", tag, len(content)) + content


TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=30)
METADATA = st.builds(
    Metadata,
    st.none() | st.datetimes().map(lambda moment: moment.replace(microsecond=0)),
    TEXTS,
    TEXTS,
    TEXTS,
    TEXTS,
    st.none()
    | st.builds(
        Location,
        st.integers(-90_000_000, 90_000_000).map(lambda unit: unit / 1_000_000),
        st.integers(-180_000_000, 180_000_000).map(lambda unit: unit / 1_000_000),
    ),
)


# The section


def test_exact_bytes() -> None:
    assert pack(FULL).hex() == (
        "010e00" + b"20261121090559".hex() + "020500" + b"Canon".hex() + "030600" + b"EOS 5D".hex()
        + "040a00" + b"Display P3".hex() + "050d00" + "Käse, 日本".encode().hex()
        + "060800" + struct.pack("<ii", -33_900_000, 18_400_000).hex()
    )  # fmt: skip
    assert pack(Metadata()) == b""


@given(METADATA)
def test_round_trip(metadata: Metadata) -> None:
    assert unpack(pack(metadata)) == metadata


def test_fields_of_the_future_are_skipped() -> None:
    assert unpack(field(2, b"Leica") + field(7, b"\xff") + field(255, b"")) == Metadata(make="Leica")


@pytest.mark.parametrize(
    "section",
    [
        pack(FULL)[:-1],
        field(2, b"a")[:-2],
        b"\2",
        field(0, b""),
        field(3, b"a") + field(2, b"a"),
        field(2, b"a") + field(2, b"b"),
        field(2, b""),
        field(2, b"\xff"),
        field(5, b"a" * (MAX_TEXT_BYTES + 1)),
        field(1, b"2026112109055"),
        field(1, b"20261321090559"),
        field(1, b"20261121090560"),
        field(1, b"0000" + b"1121090559"),
        field(1, b" 0261121090559"),
        field(1, b"2026112109" + "\N{FULLWIDTH DIGIT TWO}".encode() + b"1"),
        field(6, bytes(7)),
        field(6, struct.pack("<ii", 90_000_001, 0)),
        field(6, struct.pack("<ii", 0, -180_000_001)),
        field(7, bytes(65_535)) + field(8, b""),
    ],
)
def test_malformed_sections_are_refused(section: bytes) -> None:
    with pytest.raises(FileFormatError, match="metadata"):
        unpack(section)


@given(st.binary(max_size=40))
def test_whatever_can_be_read_is_written_the_same(section: bytes) -> None:
    try:
        found = unpack(section)
    except FileFormatError:
        return
    assert unpack(pack(found)) == found


@pytest.mark.parametrize(
    ("metadata", "message"),
    [
        (Metadata(comment="ü" * 501), "comment takes 1002 bytes"),
        (Metadata(make="\ud800"), "make is no valid text"),
        (Metadata(location=Location(90.1, 0)), "location"),
        (Metadata(location=Location(float("nan"), 0)), "location"),
    ],
)
def test_what_does_not_fit_is_the_callers_error(metadata: Metadata, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        pack(metadata)


# Picture files


def jpeg(tags: dict[int, Any], gps: dict[int, Any], **options: Any) -> bytes:
    stored = Image.Exif()
    for tag, value in tags.items():
        stored[tag] = value
    stored.get_ifd(IFD.GPSInfo).update(gps)
    buffer = io.BytesIO()
    Image.new("RGB", (8, 8)).save(buffer, "JPEG", exif=stored, **options)
    return buffer.getvalue()


HERE = {
    GPS.GPSLatitudeRef: "S",
    GPS.GPSLatitude: (33, 54, 36),
    GPS.GPSLongitudeRef: "E",
    GPS.GPSLongitude: (18, 30, 0),
}


def test_a_photograph_is_read_and_its_place_only_on_demand() -> None:
    tags = {
        Base.Make: "Canon",
        Base.Model: "EOS\0junk",
        Base.ImageDescription: "Käse\nund  Brot".encode(),
        Base.DateTime: "2020:01:02 03:04:05",
        Base.Orientation: 6,
        Base.Software: "not kept",
    }
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB"))
    data = jpeg(tags, HERE, icc_profile=profile.tobytes())
    found = exif.read(data, location=False)
    assert found == Metadata(
        datetime(2020, 1, 2, 3, 4, 5),
        "Canon",
        "EOS junk",
        ImageCms.getProfileDescription(profile).strip(),
        "Käse und Brot",
    )
    place = exif.read(data, location=True).location
    assert place == pytest.approx((-(33 + 54 / 60 + 36 / 3600), 18.5))


@pytest.mark.parametrize("south", ["S", "s", "S\0", "South", " south", b"S", b"s\0", "SOUTH\0\0"])
@pytest.mark.parametrize("west", ["W", "w", "West", "w\0"])
def test_directions_are_known_by_their_first_letter(south: str | bytes, west: str) -> None:
    place = exif.read(
        jpeg({}, HERE | {GPS.GPSLatitudeRef: south, GPS.GPSLongitudeRef: west}), location=True
    ).location
    assert place == pytest.approx((-33.91, -18.5))
    swapped = HERE | {GPS.GPSLatitudeRef: "north", GPS.GPSLongitudeRef: b"e\0"}
    assert exif.read(jpeg({}, swapped), location=True).location == pytest.approx((33.91, 18.5))


@pytest.mark.parametrize("reference", ["", "\0", "?", "E", "O", 7])
def test_a_place_without_a_direction_is_no_place(reference: str | int) -> None:
    assert exif.read(jpeg({}, HERE | {GPS.GPSLatitudeRef: reference}), location=True).location is None
    nowhere = {tag: value for tag, value in HERE.items() if tag != GPS.GPSLatitudeRef}
    assert exif.read(jpeg({}, nowhere), location=True).location is None


def test_pictures_that_say_nothing(tmp_path: Any) -> None:
    silent = tmp_path / "silent.png"
    Image.new("RGB", (2, 2)).save(silent)
    for source in (
        silent,
        str(silent),
        silent.read_bytes(),
        Image.open(silent),
        np.zeros((2, 2, 3), np.uint8),
    ):
        assert exif.read(source, location=True) == Metadata()
    with pytest.raises(ImageError, match="missing"):
        exif.read(tmp_path / "missing.png", location=False)


def test_comments_of_png_and_jpeg() -> None:
    buffer = io.BytesIO()
    Image.new("RGB", (2, 2)).save(buffer, "JPEG", comment=b"of a JPEG")
    assert exif.read(buffer.getvalue(), location=False).comment == "of a JPEG"
    from PIL.PngImagePlugin import PngInfo

    texts = PngInfo()
    texts.add_itxt("Description", "of a PNG, é")
    buffer = io.BytesIO()
    Image.new("RGB", (2, 2)).save(buffer, "PNG", pnginfo=texts)
    assert exif.read(buffer.getvalue(), location=False).comment == "of a PNG, é"


def test_damaged_entries_are_left_out() -> None:
    tags = {Base.Make: "Nikon", Base.DateTime: "yesterday", Base.ImageDescription: "\u202eevil\x1b[2J" * 400}
    data = jpeg(tags, HERE | {GPS.GPSLatitude: (91, 0, 0)}, icc_profile=b"no profile")
    found = exif.read(data, location=True)
    assert (found.make, found.taken, found.location, found.profile) == ("Nikon", None, None, "")
    assert len(found.comment.encode()) <= MAX_TEXT_BYTES
    assert found.comment.isprintable()
    assert unpack(pack(found)) == found
    for cut in range(30, 120, 7):
        exif.read(data[:cut] + b"\xff" * 40 + data[cut + 40 :], location=True)


@pytest.mark.parametrize("kind", images.FORMATS)
def test_metadata_travel_into_the_restored_picture(kind: str) -> None:
    picture = Image.new("RGB", (4, 4))
    picture.info["exif"] = exif.to_bytes(FULL)
    found = exif.read(images.encode(picture, kind), location=True)
    assert found._replace(location=None) == FULL._replace(location=None, profile="")
    assert found.location == pytest.approx(FULL.location, abs=1e-6)
    assert Image.open(io.BytesIO(images.encode(picture, kind))).getexif().get(Base.Orientation) is None


def test_nothing_makes_no_exif() -> None:
    assert exif.to_bytes(Metadata(profile="Adobe RGB")) == b""
    assert exif.to_bytes(Metadata(make="x")) != b""

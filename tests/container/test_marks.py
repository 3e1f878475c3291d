"""A restored picture says from which file it came."""

from __future__ import annotations

import zlib
from pathlib import Path

import pytest
from PIL import Image
from PIL.ExifTags import Base

from rdeic.codec.codec import Codec
from rdeic.container import marks
from rdeic.container.metadata import Metadata
from rdeic.pictures import images


def test_a_restored_picture_says_from_which_file(tiny: Codec, photo: images.Picture, tmp_path: Path) -> None:
    blob = tiny.compress(photo, metadata=Metadata(make="Canon", comment="at home"))
    restored = tiny.decompress(blob)
    for suffix in images.FORMATS:  # as Pillow saves it when it is told to keep EXIF
        restored.save(tmp_path / f"a.{suffix}", exif=restored.info["exif"])
        with Image.open(tmp_path / f"a.{suffix}") as saved:
            stored = saved.getexif()
        assert stored[Base.Software] == f"rdeic: restored from a file with checksum {blob[:-5:-1].hex()}"
        assert (stored[Base.Make], stored[Base.ImageDescription]) == ("Canon", "at home")
        assert marks.find((tmp_path / f"a.{suffix}").read_bytes()) == blob[:-5:-1].hex()
    assert marks.find(images.encode(photo, "png")) is None


@pytest.mark.parametrize(
    ("picture", "found"),
    [
        (b"...Software\0rdeic: restored from a file with checksum 0123abcd\0", "0123abcd"),
        (b"rdeic: restored from a file with checksum 0123ABC", None),
        (b"rdeic", None),
        (b"", None),
    ],
)
def test_only_the_whole_mark_counts(picture: bytes, found: str | None) -> None:
    assert marks.find(picture) == found


def test_the_checksum_is_the_files_own() -> None:
    blob = b"RDE" + zlib.crc32(b"RDE").to_bytes(4, "little")
    assert marks.checksum(blob) == f"{zlib.crc32(b'RDE'):08x}"
    assert marks.find(marks.text(blob).encode()) == marks.checksum(blob)

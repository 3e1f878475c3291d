"""`rdeic compress`, `decompress` and `info` where they touch verification, metadata and limits."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from PIL import Image
from PIL.ExifTags import GPS, IFD, Base

import rdeic
from rdeic.container import container, marks, metadata
from rdeic.container.metadata import Metadata
from rdeic.pictures import images
from support.program_runs import Program, model, picture, program

__all__ = ["model", "picture", "program"]  # fixtures


@pytest.fixture
def described(photo: images.Picture, tmp_path: Path) -> Path:
    """A photograph that says who took it, where and how it was held."""
    stored = Image.Exif()
    stored[Base.Make], stored[Base.ImageDescription], stored[Base.Orientation] = "Canon", "at home", 6
    stored.get_ifd(IFD.GPSInfo).update({GPS.GPSLatitudeRef: "N", GPS.GPSLatitude: (48, 30, 0)})
    stored.get_ifd(IFD.GPSInfo).update({GPS.GPSLongitudeRef: "E", GPS.GPSLongitude: (2, 15, 0)})
    Image.fromarray(photo).save(tmp_path / "described.jpg", exif=stored)
    return tmp_path / "described.jpg"


def test_nothing_about_a_picture_is_kept_unasked(
    program: Program, described: Path, model: tuple[str, ...]
) -> None:
    assert program("compress", described, *model).code == 0
    blob = described.with_suffix(".rdeic").read_bytes()
    assert rdeic.inspect(blob).metadata is None
    assert b"Canon" not in blob


@pytest.mark.parametrize("suffix", ["png", "jpg", "webp"])
def test_metadata_are_kept_shown_and_restored(
    program: Program, described: Path, model: tuple[str, ...], suffix: str
) -> None:
    assert program("compress", described, *model, "--metadata", "-o", "a.rdeic").code == 0
    assert rdeic.inspect("a.rdeic").metadata == Metadata(make="Canon", comment="at home")
    assert program("info", "a.rdeic").out.endswith(b"\n  make: Canon\n  comment: at home\n")
    shown = json.loads(program("info", "--json", "a.rdeic").out)
    assert shown["metadata"] == {"make": "Canon", "comment": "at home"}
    assert program("decompress", "a.rdeic", *model, "-o", f"a.{suffix}").code == 0
    with Image.open(f"a.{suffix}") as restored:
        stored = restored.getexif()
        assert (stored[Base.Make], stored[Base.ImageDescription]) == ("Canon", "at home")
        assert stored[Base.Software] == marks.text(Path("a.rdeic").read_bytes())
        assert Base.Orientation not in stored
        assert stored.get_ifd(IFD.GPSInfo) == {}
        assert restored.size == (96, 130)  # turned upright


def test_the_place_is_kept_on_demand(program: Program, described: Path, model: tuple[str, ...]) -> None:
    source = described.read_bytes()
    assert program("compress", "-", "-o", "a.rdeic", *model, "--location", stdin=source).code == 0
    found = rdeic.inspect("a.rdeic").metadata
    assert found is not None
    assert (found.make, found.location) == ("Canon", (48.5, 2.25))
    assert b"location: 48.500000, 2.250000" in program("info", "a.rdeic").out


def test_bytes_promised_include_the_metadata(
    program: Program, described: Path, model: tuple[str, ...]
) -> None:
    assert program("compress", described, *model, "--metadata", "--bytes", "300", "-o", "a.rdeic").code == 0
    assert Path("a.rdeic").stat().st_size <= 300
    assert rdeic.inspect("a.rdeic").metadata is not None


def test_hostile_metadata_cannot_command_the_terminal(program: Program, tmp_path: Path) -> None:
    evil = metadata.pack(Metadata(comment="\x1b]0;owned\x07 \x9b2J \u202egnp.exe\nfake: line"))
    header = container.Header(b"abcd", 3, 2, 128, 2, 0)
    file = container.RdeicFile(header, b"", (container.Section(metadata.KIND, evil),))
    (tmp_path / "evil.rdeic").write_bytes(container.pack(file))
    for arguments in (["info", "evil.rdeic"], ["info", "--json", "evil.rdeic"]):
        shown = program(*arguments).out.decode()
        assert "owned" in shown
        assert all(letter.isprintable() or letter == "\n" for letter in shown)
        assert len(shown.splitlines()) == (1 if "--json" in arguments else 2)


def test_verification_is_said_and_can_be_left_out(
    program: Program, picture: Path, model: tuple[str, ...]
) -> None:
    assert program("compress", picture, *model, "--verify", "-o", "a.rdeic").out.endswith(b"bpp  verified\n")
    assert program("compress", picture, *model, "--no-verify", "-o", "b.rdeic").out.endswith(b"bpp\n")
    assert Path("a.rdeic").read_bytes() == Path("b.rdeic").read_bytes()


def test_limits_on_pixels(program: Program, picture: Path, model: tuple[str, ...]) -> None:
    refused = program("compress", picture, *model, "--max-pixels", "1000")
    assert (refused.code, len(refused.err.splitlines())) == (1, 1)
    assert "the limit is 0.001 megapixels" in refused.err
    assert program("compress", picture, *model, "-o", "a.rdeic").code == 0
    refused = program("decompress", "a.rdeic", *model, "-o", "a.png", "--max-pixels", "1000")
    assert (refused.code, len(refused.err.splitlines())) == (1, 1)
    assert "over the limit of 1000 pixels" in refused.err
    assert not Path("a.png").exists()
    assert program("decompress", "a.rdeic", *model, "-o", "a.png", "--max-pixels", "12480").code == 0

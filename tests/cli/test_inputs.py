"""What folders, patterns and names mean, and what is said of the files that are left out."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from rdeic.cli import pictures
from rdeic.cli.inputs import RDEIC_FILES, Inputs, gather, plain
from rdeic.pictures import formats, images
from support.program_runs import Program, model, picture, program

__all__ = ["model", "picture", "program"]  # fixtures

posix_only = pytest.mark.skipif(os.name != "posix", reason="links and pipes as POSIX has them")
PNG, JPEG = (images.encode(np.zeros((2, 3, 3), np.uint8), kind) for kind in ("png", "jpg"))
JPGS = plain({".jpg"})


@pytest.fixture
def album(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder `album` in the current one."""
    monkeypatch.chdir(tmp_path)
    Path("album").mkdir()
    return Path("album")


def files(*names: str, content: bytes = JPEG) -> None:
    for name in names:
        path = Path(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)


def names(inputs: Inputs) -> list[str]:
    return [item.name for item in inputs.items]


def test_every_suffix_that_can_be_read_is_taken(album: Path) -> None:
    taken = ["a.JPG", "b.jfif", "c.jpe", "d.apng", "e.dib", "f.avifs", "g.j2k", "h.tga", "i.heic", "j.jxl"]
    files(*(f"album/{name}" for name in taken), "album/notes.txt", "album/noext")
    Path("album/notes.txt").write_text("notes")
    Path("album/noext").write_text("notes")
    found = gather(["album"], pictures.kind())
    assert names(found) == [f"album/{name}" for name in taken]
    assert (found.left_out, found.missing, found.batch) == ([], [], True)


def test_pictures_that_are_left_out_are_named_with_the_reason(
    album: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files("album/raw.NEF", content=b"II*\0 a raw format is a TIFF, and opens as its thumbnail")
    files("album/drawing.svg", content=b"<svg/>")
    files("album/photo.jpg_original", "album/thumbnail", "album/sent.heic")
    files("album/screen.bak", content=PNG)
    files("album/phone.heic", content=b"\0\0\0\x18ftypheic")
    files("album/phone.dat", content=b"\0\0\0\x18ftypavif")
    readable = formats.readable_suffixes() - {".heic"}  # as without pillow-heif
    monkeypatch.setattr(formats, "readable_suffixes", lambda: readable)
    found = gather(["album"], pictures.kind())
    assert names(found) == ["album/sent.heic"]  # a JPEG, as some phones send it
    assert found.left_out == [
        "album/drawing.svg: left out: .svg files cannot be read; convert it first",
        "album/phone.dat: left out: AVIF by its content, but not by its name; alone it would be taken",
        "album/phone.heic: left out: reading HEIC takes a plugin: pip install 'rdeic[heif]'",
        "album/photo.jpg_original: left out: JPEG by its content, but not by its name; alone it would be taken",
        "album/raw.NEF: left out: .nef files cannot be read; convert it first",
        "album/screen.bak: left out: PNG by its content, but not by its name; alone it would be taken",
        "album/thumbnail: left out: JPEG by its content, but not by its name; alone it would be taken",
    ]


def test_rdeic_files_under_other_names_are_named(album: Path) -> None:
    files("album/a.rdeic", "album/b.rdeic.txt", "album/small", content=b"RDE\1...")
    files("album/c.jpg")
    found = gather(["album"], RDEIC_FILES)
    assert names(found) == ["album/a.rdeic"]
    assert found.left_out == [
        f"album/{name}: left out: an .rdeic file by its content, but not by its name"
        for name in ("b.rdeic.txt", "small")
    ]


def test_hidden_files_and_folders_are_left_out_with_a_word(album: Path) -> None:
    files(
        "album/a.jpg",
        "album/._a.jpg",
        "album/.b.jpg",
        "album/.Trash/1/c.jpg",
        "album/.git/config",
        "album/.DS_Store",
    )
    found = gather(["album"], JPGS)
    assert names(found) == ["album/a.jpg"]
    assert found.left_out == [f"album/{name}: left out: hidden" for name in (".Trash", "._a.jpg", ".b.jpg")]
    files(".cache/d.jpg")
    assert names(gather([".cache", "album/.b.jpg"], JPGS)) == [".cache/d.jpg", "album/.b.jpg"]  # named: meant


@posix_only
def test_links_to_pictures_that_are_there_anyway_are_left_out(album: Path) -> None:
    files("album/m.jpg", "elsewhere/x.jpg")
    Path("album/a.jpg").symlink_to("m.jpg")  # comes before what it leads to
    Path("album/z.jpg").symlink_to("m.jpg")
    Path("album/n.jpg").symlink_to("../elsewhere/x.jpg")
    Path("album/o.jpg").symlink_to("../elsewhere/x.jpg")
    Path("album/p.jpg").symlink_to("../gone.jpg")
    Path("album/q.jpg").symlink_to("q.jpg")
    found = gather(["album"], JPGS)
    assert names(found) == ["album/m.jpg", "album/n.jpg"]
    assert sorted(found.left_out) == [
        "album/a.jpg: left out: the same file as album/m.jpg",
        "album/o.jpg: left out: the same file as album/n.jpg",
        "album/p.jpg: left out: a link that leads nowhere",
        "album/q.jpg: left out: a link that leads nowhere",
        "album/z.jpg: left out: the same file as album/m.jpg",
    ]
    assert names(gather(["album/a.jpg", "album"], JPGS)) == ["album/a.jpg", "album/n.jpg"]


@posix_only
def test_links_to_folders_are_followed_once(album: Path) -> None:
    files("album/real/1.jpg", "other/2.jpg", "other/deep/3.jpg")
    Path("album/also").symlink_to("real")
    Path("album/linked").symlink_to("../other")
    Path("album/real/up").symlink_to("..")  # a loop
    Path("other/back").symlink_to("../album")  # and one through another folder
    Path("album/nowhere").symlink_to("../gone")
    found = gather(["album"], JPGS)
    assert names(found) == ["album/linked/2.jpg", "album/linked/deep/3.jpg", "album/real/1.jpg"]
    assert [str(item.relative) for item in found.items] == ["linked/2.jpg", "linked/deep/3.jpg", "real/1.jpg"]
    assert found.left_out == [
        "album/also: left out: leads to album/real, which is searched anyway",
        "album/real/up: left out: leads to album, which is searched anyway",
        "album/linked/back: left out: leads to album, which is searched anyway",
    ]


@posix_only
def test_pipes_in_folders_are_left_out_unopened(album: Path) -> None:
    files("album/a.jpg")
    os.mkfifo("album/p.jpg")
    os.mkfifo("album/p.txt")
    found = gather(["album"], pictures.kind())
    assert names(found) == ["album/a.jpg"]
    assert found.left_out == ["album/p.jpg: left out: no regular file"]


def test_patterns_take_files_and_folders(album: Path) -> None:
    files("card1/1.jpg", "card2/2.jpg", "card3.jpg", "card4.txt")
    found = gather(["card*"], JPGS)
    assert names(found) == ["card1/1.jpg", "card2/2.jpg", "card3.jpg", "card4.txt"]
    assert found.missing == []
    assert gather(["card?.jpg"], JPGS).batch  # one match, but as several
    assert not gather(["card3.jpg"], JPGS).batch


def test_nothing_is_taken_twice_and_repetitions_are_no_failures(album: Path) -> None:
    files("album/sub/1.jpg")
    for arguments in (
        ["album", "album/sub"],
        ["album", "album"],
        ["album/sub/1.jpg", "./album", "album/*/*.jpg"],
    ):
        found = gather(arguments, JPGS)
        assert [os.path.normpath(name) for name in names(found)] == ["album/sub/1.jpg"]
        assert (found.missing, found.left_out) == ([], [])


def test_arguments_that_mean_nothing_are_named(album: Path) -> None:
    files("album/notes.txt")
    Path("void").mkdir()
    found = gather(["album", "", "void", "*.jpg", "missing.jpg"], JPGS)
    assert found.missing == [
        "album: nothing there to work on",
        "'': an empty name; name a file or a directory",
        "void: nothing there to work on",
        "*.jpg: nothing there to work on",
    ]
    assert names(found) == ["missing.jpg"]  # fails when it is read


GATHER = """
import os, sys
from rdeic.cli.inputs import gather, plain
if os.geteuid() == 0:  # whom nothing is forbidden
    os.seteuid(65534)
found = gather([sys.argv[1]], plain({".jpg"}))
print([item.name for item in found.items], found.missing)
"""


@posix_only
def test_folders_that_cannot_be_read_are_failures(album: Path) -> None:
    files("album/a.jpg", "album/secret/b.jpg")
    Path().resolve().chmod(0o755)
    Path("album/secret").chmod(0)
    done = subprocess.run(
        [sys.executable, "-c", GATHER, "album"], capture_output=True, text=True, check=False
    )
    assert done.stdout == "['album/a.jpg'] ['album/secret: Permission denied']\n", done.stderr


@posix_only
def test_names_that_are_no_text_are_names(album: Path) -> None:
    name = os.fsdecode(b"album/caf\xe9.jpg")  # Latin-1
    files(name)
    assert names(gather(["album"], JPGS)) == [name]


def test_what_is_left_out_is_counted(
    program: Program, picture: Path, model: tuple[str, ...], tmp_path: Path
) -> None:
    files("album/.b.png", "album/c.svg", content=b"<svg/>")
    picture.rename("album/a.png")
    done = program("compress", "album", *model)
    assert done.code == 0
    assert done.err.splitlines() == [
        "rdeic: album/.b.png: left out: hidden",
        "rdeic: album/c.svg: left out: .svg files cannot be read; convert it first",
        "1 done, 0 finished before, 2 left out, 0 failed",
    ]
    listed = program("info", "album")
    assert (listed.code, listed.err) == (0, "")

"""Nothing is lost: restored pictures do not take the place of originals, nor files of other programs."""

from __future__ import annotations

import os
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from PIL.ExifTags import Base

import rdeic
from rdeic.cli.journal import JOURNAL_FILE
from rdeic.pictures import images
from support.cards import cards
from support.program_runs import Program, model, picture, program

__all__ = ["cards", "model", "picture", "program"]  # fixtures


# Restored pictures


@pytest.mark.parametrize("suffix", ["png", "jpg", "webp"])
def test_an_archive_is_not_replaced_by_its_own_restoration(
    program: Program, picture: Path, model: tuple[str, ...], suffix: str
) -> None:
    Path("dir").mkdir()
    picture.rename("dir/a.png")
    assert program("compress", "dir", *model).code == 0
    blob = Path("dir/a.rdeic").read_bytes()
    Path("dir/a.png").unlink()
    assert program("decompress", "dir", *model, "--format", suffix).code == 0
    checksum = f"{zlib.crc32(blob[:-4]):08x}"
    with Image.open(f"dir/a.{suffix}") as restored:
        assert restored.getexif()[Base.Software] == f"rdeic: restored from a file with checksum {checksum}"
    for options in ([], ["--force"], ["-o", "dir/"]):
        again = program("compress", "dir", *model, *options)
        assert (again.code, again.out) == (0, b"")
        assert again.err.splitlines() == [
            (
                f"rdeic: dir/a.{suffix}: left out: restored by rdeic (from a file with checksum {checksum}), "
                "so no original; alone it would be taken"
            ),
            "0 done, 0 finished before, 1 left out, 0 failed",
        ]
        assert Path("dir/a.rdeic").read_bytes() == blob


def test_a_restored_picture_does_not_take_the_place_of_an_original(
    program: Program, picture: Path, model: tuple[str, ...]
) -> None:
    alike = (*model, "--encoder-precision", "fp32")  # at any number of threads
    assert program("compress", picture, "-o", "b.rdeic", *alike).code == 0
    Path("dir").mkdir()
    picture.rename("dir/b.png")
    assert program("decompress", "b.rdeic", "-o", "dir/b.jpg", *model).code == 0  # comes first
    done = program("compress", "dir", *alike)
    assert (done.code, done.err.splitlines()[-1]) == (0, "1 done, 0 finished before, 1 left out, 0 failed")
    assert Path("dir/b.rdeic").read_bytes() == Path("b.rdeic").read_bytes()


def test_a_restored_picture_alone_is_taken_with_a_remark(
    program: Program, picture: Path, model: tuple[str, ...]
) -> None:
    program("compress", picture, *model)
    program("decompress", "photo.rdeic", "-o", "again.png", *model)
    checksum = f"{zlib.crc32(Path('photo.rdeic').read_bytes()[:-4]):08x}"
    remark = f"restored by rdeic before, from a file with checksum {checksum}: losses add up"
    done = program("compress", "again.png", *model)
    assert (done.code, done.err) == (0, "")
    assert done.out.endswith(f"bpp  {remark}\n".encode())
    piped = program("compress", "again.png", "-o", "-", *model)
    assert (piped.code, piped.err) == (0, f"rdeic: again.png: {remark}\n")
    assert piped.out == Path("again.rdeic").read_bytes()


# The other direction


def test_restoring_never_takes_one_file_for_another(
    program: Program, cards: tuple[Path, Path], model: tuple[str, ...]
) -> None:
    for card in ("card1", "card2"):
        assert program("compress", card, "-o", f"packed-{card}", *model).code == 0
    assert program("decompress", "packed-card1", "-o", "all", *model).code == 0
    restored = Path("all/IMG_0001.png").read_bytes()
    assert not Path("all", JOURNAL_FILE).exists()  # the picture itself says from what it was made
    checksum = f"{zlib.crc32(Path('packed-card1/IMG_0001.rdeic').read_bytes()[:-4]):08x}"
    second = program("decompress", "packed-card2", "-o", "all", *model)
    assert second.code == 1
    assert second.failures == [
        (
            "rdeic: packed-card2/IMG_0001.rdeic: another picture of that name is there, all/IMG_0001.png, restored "
            f"from a file with checksum {checksum}; --force overwrites it, -o names another directory"
        )
    ]
    os.utime("packed-card1/IMG_0001.rdeic")
    again = program("decompress", "packed-card1", "-o", "all", *model)
    assert (again.code, again.err) == (0, "0 done, 1 finished before, 0 failed\n")
    assert Path("all/IMG_0001.png").read_bytes() == restored
    Path("all/IMG_0001.png").write_bytes(images.encode(np.zeros((2, 2, 3), np.uint8), "png"))
    foreign = program("decompress", "packed-card1", "-o", "all", *model)
    assert (foreign.code, "all/IMG_0001.png, not restored by rdeic" in foreign.err) == (1, True)


# Named outputs


def test_a_named_output_replaces_nothing_but_our_own_files(
    program: Program, picture: Path, model: tuple[str, ...]
) -> None:
    precious = picture.read_bytes()
    for name in ("precious.jpg", "precious.rdeic", "precious.png"):
        Path(name).write_bytes(precious)
    Path("link.rdeic").symlink_to("precious.jpg")
    assert program("compress", picture, "-o", "precious.jpg", *model).code == 2
    for name in ("precious.rdeic", "link.rdeic"):
        refused = program("compress", picture, "-o", name, *model)
        assert (refused.code, refused.failures) == (
            1,
            [
                f"rdeic: {picture}: {name}: exists and is no sound .rdeic file; --force overwrites it, -o names another"
            ],
        )
    assert program("compress", picture, *model).code == 0
    refused = program("decompress", "photo.rdeic", "-o", "precious.png", *model)
    assert (refused.code, len(refused.failures)) == (1, 1)
    assert "precious.png: exists and is no picture restored by rdeic; --force overwrites it" in refused.err
    for name in ("precious.jpg", "precious.rdeic", "precious.png"):
        assert Path(name).read_bytes() == precious
    # What is ours is meant, and an empty file (of mktemp) holds nothing.
    Path("empty.rdeic").touch()
    Path("empty.png").touch()
    for name in ("photo.rdeic", "empty.rdeic"):
        assert program("compress", picture, "-o", name, *model).code == 0
    for _ in range(2):
        assert program("decompress", "photo.rdeic", "-o", "empty.png", *model).code == 0
    for name in ("precious.jpg", "link.rdeic"):
        assert program("compress", picture, "-o", name, *model, "--force").code == 0
        assert rdeic.inspect(name).width == 130
    assert program("decompress", "photo.rdeic", "-o", "precious.png", *model, "--force").code == 0
    assert Path("precious.png").read_bytes() == Path("empty.png").read_bytes()

"""Nothing is lost or mixed up: restored pictures, cards with the same names, files of other programs."""

from __future__ import annotations

import json
import os
import zlib
from pathlib import Path

import numpy as np
import pytest
import typer
from PIL import Image
from PIL.ExifTags import Base

import rdeic
from rdeic.cli import batch
from rdeic.cli.inputs import Source, gather, plain
from rdeic.cli.journal import JOURNAL_FILE
from rdeic.cli.outputs import Target
from rdeic.cli.rules import Packing
from rdeic.pictures import images
from support.program_runs import Program, model, picture, program

__all__ = ["model", "picture", "program"]  # fixtures


@pytest.fixture
def cards(tmp_path: Path, photo: images.Picture) -> tuple[Path, Path]:
    """Two camera cards that count from the same number; the files are of the same size and age."""
    found = []
    for number in (1, 2):
        place = tmp_path / f"card{number}" / "IMG_0001.bmp"
        place.parent.mkdir()
        Image.fromarray(photo if number == 1 else 255 - photo).save(place)
        os.utime(place, ns=(0, 0))
        found.append(place)
    assert found[0].stat().st_size == found[1].stat().st_size
    return found[0], found[1]


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


# The same name


def test_a_second_card_with_the_same_names_is_not_finished_before(
    program: Program, cards: tuple[Path, Path], model: tuple[str, ...]
) -> None:
    assert program("compress", "card1", "-o", "all", *model).code == 0
    stored = Path("all/IMG_0001.rdeic").read_bytes()
    for arguments in (["card2"], ["card2/*.bmp"], ["card2/IMG_0001.bmp"]):
        second = program("compress", *arguments, "-o", "all", *model)
        assert (second.code, second.out) == (1, b"")
        assert second.err.splitlines() == [
            (
                "rdeic: card2/IMG_0001.bmp: another picture of that name is in all/IMG_0001.rdeic, made from "
                f"../card1/IMG_0001.bmp of {cards[0].stat().st_size} bytes; --force overwrites it, -o names another "
                "directory"
            ),
            "0 done, 0 finished before, 1 failed: card2/IMG_0001.bmp",
        ]
        assert Path("all/IMG_0001.rdeic").read_bytes() == stored
    again = program("compress", "card1", "-o", "all", *model)
    assert (again.code, again.err) == (0, "0 done, 1 finished before, 0 failed\n")
    assert "1 done" in program("compress", "card2", "-o", "all", *model, "--force").err
    assert Path("all/IMG_0001.rdeic").read_bytes() != stored
    assert program("compress", "card1", "-o", "all", *model).code == 1


def test_a_card_at_the_same_place_is_another_card(
    program: Program, cards: tuple[Path, Path], model: tuple[str, ...]
) -> None:
    """Same path, size and time of change; and what looks like an edited picture may be any other."""
    assert program("compress", "card1", *model).code == 0
    stored = Path("card1/IMG_0001.rdeic").read_bytes()
    os.replace(cards[1], cards[0])
    second = program("compress", "card1", *model)
    assert (second.code, second.failures) == (
        1,
        [
            (
                "rdeic: card1/IMG_0001.bmp: has changed since card1/IMG_0001.rdeic was made from it, or is another "
                "picture of that name; --force overwrites it, -o names another directory"
            )
        ],
    )
    assert Path("card1/IMG_0001.rdeic").read_bytes() == stored


def test_the_same_picture_elsewhere_is_finished(
    program: Program, cards: tuple[Path, Path], model: tuple[str, ...]
) -> None:
    assert program("compress", "card1", "-o", "all", *model).code == 0
    Path("card1").rename("backup")
    os.utime("backup/IMG_0001.bmp")
    again = program("compress", "backup", "-o", "all", *model)
    assert (again.code, again.err) == (0, "0 done, 1 finished before, 0 failed\n")
    Path("copies").mkdir()
    for name in ("x.bmp", "x.dib"):
        Path("copies", name).write_bytes(Path("backup/IMG_0001.bmp").read_bytes())
    twice = program("compress", "copies", *model)
    assert (twice.code, twice.err.splitlines()[0]) == (
        0,
        "rdeic: copies/x.dib: left out: the same content as copies/x.bmp",
    )
    assert program("compress", "copies", *model).code == 0


def test_what_fails_does_not_hold_the_place(
    program: Program, cards: tuple[Path, Path], model: tuple[str, ...]
) -> None:
    Path("card1/IMG_0001.BAD.jpg").write_text("no picture")
    Path("card1/IMG_0001.jpg").write_text("no picture")
    Path("card1/IMG_0001.bmp").rename("card1/IMG_0001.png")
    done = program("compress", "card1", *model)
    assert done.code == 1
    assert done.err.splitlines()[-1] == (
        "1 done, 0 finished before, 2 failed: card1/IMG_0001.BAD.jpg, card1/IMG_0001.jpg"
    )
    assert rdeic.inspect("card1/IMG_0001.rdeic").width == 130


def test_without_a_journal_compressing_again_shows_what_is_finished(
    program: Program, cards: tuple[Path, Path], model: tuple[str, ...]
) -> None:
    assert program("compress", "card1", "-o", "all", *model).code == 0
    stored = Path("all/IMG_0001.rdeic").read_bytes()
    journal = Path("all", JOURNAL_FILE)
    journal.unlink()
    refused = program("compress", "card2", "-o", "all", *model)
    assert refused.code == 1
    assert refused.failures == [
        (
            "rdeic: card2/IMG_0001.bmp: all/IMG_0001.rdeic exists, made from another picture of that name, or nobody "
            "can tell; --force overwrites it, -o names another directory"
        )
    ]
    assert not journal.exists()
    for options in ([], ["--quality", "10", "--seed", "3"]):  # whatever the settings, then and now
        again = program("compress", "card1", "-o", "all", *model, *options)
        assert (again.code, again.err) == (0, "0 done, 1 finished before, 0 failed\n")
        assert journal.exists()
        journal.unlink()
    assert Path("all/IMG_0001.rdeic").read_bytes() == stored
    Path("all/IMG_0001.rdeic").write_bytes(b"no such file")
    assert program("compress", "card1", "-o", "all", *model).code == 1


def test_an_output_that_was_exchanged_is_not_finished(
    program: Program, cards: tuple[Path, Path], model: tuple[str, ...]
) -> None:
    for card in ("card1", "card2"):
        assert program("compress", card, "-o", f"packed-{card}", *model).code == 0
    os.replace("packed-card2/IMG_0001.rdeic", "packed-card1/IMG_0001.rdeic")
    done = program("compress", "card1", "-o", "packed-card1", *model)
    assert (done.code, "another picture of that name" in done.err) == (1, True)


def test_a_damaged_journal_costs_nothing(
    program: Program, cards: tuple[Path, Path], model: tuple[str, ...]
) -> None:
    assert program("compress", "card1", "-o", "all", *model).code == 0
    journal = Path("all", JOURNAL_FILE)
    record = json.loads(journal.read_text())
    hostile = [
        b"\xff\xfe",
        b"[]",
        b"{}",
        b'"x"',
        b"[" * 100_000,
        json.dumps(record | {"stamp": 5}).encode(),
        b'{"outp',
    ]
    journal.write_bytes(b"\n".join(hostile))
    assert program("compress", "card1", "-o", "all", *model).err == "0 done, 1 finished before, 0 failed\n"
    assert json.loads(journal.read_bytes().splitlines()[-1]) == record  # after the torn line
    assert "another picture" in program("compress", "card2", "-o", "all", *model).err


@pytest.mark.skipif(os.name != "posix", reason="pipes as POSIX has them")
@pytest.mark.parametrize("kind", ["folder", "pipe", "link"])
def test_where_no_journal_can_be_written_that_is_said_once(
    program: Program, cards: tuple[Path, Path], model: tuple[str, ...], kind: str
) -> None:
    os.replace(cards[1], "card1/IMG_0002.bmp")
    journal = Path("all", JOURNAL_FILE)
    journal.parent.mkdir()
    Path("victim").write_bytes(b"the user's")
    {
        "folder": journal.mkdir,
        "pipe": lambda: os.mkfifo(journal),
        "link": lambda: journal.symlink_to("../victim"),
    }[kind]()
    done = program("compress", "card1", "-o", "all", *model)
    assert (done.code, len(done.failures)) == (0, 1)
    assert "all: what the files there were made from cannot be noted" in done.failures[0]
    assert program("compress", "card1", "-o", "all", *model).err.endswith(
        "0 done, 2 finished before, 0 failed\n"
    )
    assert Path("victim").read_bytes() == b"the user's"


def test_two_batches_at_once_do_not_overwrite_each_other(
    cards: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The second runs from beginning to end while the first is at work."""
    target = Target(str(tmp_path / "all"), ".rdeic", False)

    def run(card: Path, work: batch.Work) -> None:
        batch.run(gather([str(card.parent)], plain({".bmp"})), target, Packing(), work)

    def first(source: Source) -> batch.Result:
        run(cards[1], lambda source: batch.Result(b"second", ""))
        return batch.Result(b"first", "")

    with pytest.raises(typer.Exit):
        run(cards[0], first)
    assert (tmp_path / "all" / "IMG_0001.rdeic").read_bytes() == b"second"
    assert "another picture of that name" in capsys.readouterr().err


def test_outputs_that_are_one_file_by_links_are_written_once(
    program: Program, cards: tuple[Path, Path], model: tuple[str, ...]
) -> None:
    """As names are that differ only in case, on the file systems of Macs and Windows."""
    os.replace(cards[1], "card1/IMG_0002.bmp")
    Path("all").mkdir()
    Path("all/IMG_0002.rdeic").symlink_to("IMG_0001.rdeic")
    for options in ([], ["--force"]):
        done = program("compress", "card1", "-o", "all", *model, *options)
        assert done.code == 1
        assert done.failures == [
            "rdeic: card1/IMG_0002.bmp: all/IMG_0002.rdeic: is the output of another picture too; rename one of them"
        ]
        assert program("compress", "card1/IMG_0001.bmp", "-o", "all", *model).err.startswith(
            "0 done, 1 finished"
        )


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

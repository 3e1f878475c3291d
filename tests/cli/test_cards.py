"""Nothing is mixed up: cards with the same names, journals, outputs that are one file."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
import typer

import rdeic
from rdeic.cli import batch
from rdeic.cli.inputs import Source, gather, plain
from rdeic.cli.journal import JOURNAL_FILE
from rdeic.cli.outputs import Target
from rdeic.cli.rules import Packing
from support.cards import cards
from support.program_runs import Program, model, picture, program

__all__ = ["cards", "model", "picture", "program"]  # fixtures


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

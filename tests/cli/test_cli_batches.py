"""Batches: what goes on, what is skipped, and what is never overwritten."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

import rdeic
from rdeic.pictures import images
from support.program_runs import Program, model, picture, program

__all__ = ["model", "picture", "program"]  # fixtures


@pytest.fixture
def album(tmp_path: Path, photo: images.Picture) -> Path:
    """Two good pictures, one of them nested, and a bad one between them."""
    folder = tmp_path / "album"
    (folder / "sub").mkdir(parents=True)
    images.write(photo, folder / "a.png", "png")
    (folder / "b.png").write_text("no picture")
    images.write(photo[:50], folder / "sub" / "c d.jpg", "jpg")
    (folder / "notes.txt").write_text("left alone")
    return folder


def test_a_batch_goes_on_after_a_failure_and_lists_it(
    program: Program, album: Path, model: tuple[str, ...]
) -> None:
    done = program("compress", "album", "-o", "packed", *model)
    assert done.code == 1
    assert len(done.failures) == 1
    assert done.err.splitlines()[-1] == f"2 done, 0 finished before, 1 failed: {Path('album/b.png')}"
    assert sorted(str(path) for path in Path("packed").rglob("*.rdeic")) == [
        "packed/a.rdeic",
        "packed/sub/c d.rdeic",
    ]
    assert "\r" not in done.err  # no progress bar in a pipe


def test_a_rerun_skips_what_is_finished_whatever_the_times_say(
    program: Program, album: Path, model: tuple[str, ...]
) -> None:
    (album / "b.png").unlink()
    assert program("compress", "album", *model).code == 0
    outputs = [album / "a.rdeic", album / "sub" / "c d.rdeic"]
    before = [output.read_bytes() for output in outputs]
    os.utime(outputs[0], ns=(0, 0))
    again = program("compress", "album/**/*.*g", *model, "--quality", "10")
    assert (again.code, again.out) == (0, b"")
    assert again.err == "0 done, 2 finished before, 0 failed\n"
    assert [output.read_bytes() for output in outputs] == before
    assert "2 done" in program("compress", "album", *model, "--quality", "10", "--force").err
    assert all(output.read_bytes() != old for output, old in zip(outputs, before, strict=True))


def test_originals_are_not_overwritten_by_their_restored_copies(
    program: Program, picture: Path, model: tuple[str, ...], tmp_path: Path
) -> None:
    before = picture.read_bytes()
    os.utime(picture, ns=(0, 0))
    program("compress", picture, *model)
    for arguments in (["photo.rdeic"], ["."]):
        refused = program("decompress", *arguments, *model)
        assert refused.code == 1
        assert "--force" in refused.err
        assert picture.read_bytes() == before
    assert program("compress", picture, *model).code == 1  # photo.rdeic is there already
    assert program("compress", picture, "-o", "photo.rdeic", *model).code == 0  # named: meant
    assert "input itself" in program("compress", picture, "-o", picture, "--force", *model).err
    assert picture.read_bytes() == before
    assert program("decompress", "photo.rdeic", "--force", *model).code == 0
    assert picture.read_bytes() != before


def test_two_inputs_never_share_an_output(program: Program, album: Path, model: tuple[str, ...]) -> None:
    (album / "a.jpg").write_bytes((album / "sub" / "c d.jpg").read_bytes())
    done = program("compress", album / "a.jpg", album / "a.png", *model)
    assert done.code == 1
    assert done.failures == [
        f"rdeic: {album}/a.png: would go to {album}/a.rdeic, as {album}/a.jpg does; rename one of them"
    ]
    assert rdeic.inspect(album / "a.rdeic").height == 50


def test_empty_directories_and_patterns_are_failures(
    program: Program, tmp_path: Path, model: tuple[str, ...]
) -> None:
    (tmp_path / "void").mkdir()
    done = program("compress", "void", "*.tiff", *model)
    assert done.code == 1
    assert [line.split(": ")[1] for line in done.failures] == ["void", "*.tiff"]


def test_brackets_in_names_are_not_patterns(program: Program, picture: Path, model: tuple[str, ...]) -> None:
    picture.rename("a[1].png")
    assert program("compress", "a[1].png", *model).code == 0
    assert Path("a[1].rdeic").exists()


def test_outputs_that_cannot_be_written(program: Program, picture: Path, model: tuple[str, ...]) -> None:
    failed = program("compress", picture, "-o", "no/such/folder/x.rdeic", *model)
    assert (failed.code, len(failed.err.splitlines())) == (1, 1)
    assert "cannot be written" in failed.err

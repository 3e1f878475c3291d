"""Data sets as the protocols want them, and results that survive the disk."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from rdeic.errors import ConfigError
from rdeic.evaluation import datasets, results
from rdeic.evaluation.journal import JOURNAL_FILE, Entry, Journal, Key
from rdeic.evaluation.results import Results, Shown
from rdeic.evaluation.types import Measurement, Score, SetScore, Unavailable, UnavailableCodec
from rdeic.pictures import images


def test_pictures_are_found_by_name_with_the_hash_of_their_file(
    tmp_path: Path, photo: images.Picture
) -> None:
    (tmp_path / "more").mkdir()
    (tmp_path / ".trash").mkdir()
    for name in ("b.png", "more/a.PNG", "notes.txt", "a.webp", "._b.png", ".trash/c.png"):
        images.write(photo, tmp_path / name, "png")
    found = datasets.scan(tmp_path)
    assert [one.name for one in found] == ["a.webp", "b.png", "more/a.PNG"]
    assert len({one.digest for one in found}) == 1
    images.write(255 - photo, tmp_path / "b.png", "png")
    assert len({one.digest for one in datasets.scan(tmp_path)}) == 2


def test_a_folder_without_pictures_is_refused(tmp_path: Path) -> None:
    for folder in (tmp_path, tmp_path / "nowhere"):
        with pytest.raises(ConfigError, match="no pictures there"):
            datasets.scan(folder)


def test_kodak_stays_as_it_is(tmp_path: Path, photo: images.Picture) -> None:
    images.write(photo, tmp_path / "a.png", "png")
    assert np.array_equal(datasets.read(tmp_path / "a.png", "as-is"), photo)


@pytest.mark.parametrize(
    ("width", "height"), [(1200, 1200), (2000, 1365), (600, 900), (768, 768), (400, 300)]
)
def test_the_others_are_resized_to_768_and_cropped(width: int, height: int, tmp_path: Path) -> None:
    """Red grows with x, green with y, so that every pixel tells where it was."""
    y, x = np.mgrid[:height, :width].astype(np.float64)
    source = np.stack([255 * x / (width - 1), 255 * y / (height - 1), 0 * x], -1).round().astype(np.uint8)
    images.write(source, tmp_path / "a.png", "png")
    found = datasets.read(tmp_path / "a.png", "crop-768").astype(int)
    assert found.shape == (768, 768, 3)
    short, long = min(width, height), max(width, height)
    cut = (1 - short / long) / 2 * 255  # of the longer side's colour, lost at either end
    red, green = (0, cut) if width < height else (cut, 0)
    corners = [found[0, 0], found[-1, -1]]
    assert corners[0][:2] == pytest.approx([red, green], abs=2)
    assert corners[1][:2] == pytest.approx([255 - red, 255 - green], abs=2)


def test_a_crop_alone_changes_no_pixel(tmp_path: Path) -> None:
    source = np.random.default_rng(0).integers(0, 256, (768, 1001, 3), np.uint8)
    images.write(source, tmp_path / "a.png", "png")
    assert np.array_equal(datasets.read(tmp_path / "a.png", "crop-768"), source[:, 116 : 116 + 768])
    assert round((1001 - 768) / 2) == 116


def test_an_unknown_protocol_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="choose from as-is, crop-768"):
        datasets.read(tmp_path, "512")


MEASURED = Measurement(
    "avif/2", "q4", "ä.png", 768, 512, 1500, 0.0305, 0.5, 0.01, (Score("psnr", 25.5), Score("ssim", 0.7)), ""
)
NO_TEXT = "caf\udce9.png"  # a name in Latin-1, as Python has it
FAILED = Measurement("vvc", "q55", "ä.png", 0, 0, 0, 0.0, 0.0, 0.0, (), "crashed (SIGSEGV)")


def test_results_survive_the_disk(tmp_path: Path) -> None:
    kept = Results(
        dataset="kodak",
        protocol="as-is",
        metrics=("psnr", "ssim", "fid"),
        codecs=("avif/2", "vvc"),
        measurements=(MEASURED, FAILED),
        set_scores=(SetScore("avif/2", "q4", Score("fid", 12.5)),),
        unavailable=(Unavailable("lpips", "no pyiqa; pip install pyiqa"),),
        unavailable_codecs=(UnavailableCodec("bpg", "no program bpgenc"),),
        shown=(Shown("original", "", "ä.png", "pictures/original/a.webp"),),
        command="rdeic evaluate kodak",
        versions=("rdeic 0.1.0",),
        hardware=("a machine", "another"),
    )
    results.save(kept, tmp_path)
    assert results.load(tmp_path) == kept
    strange = kept._replace(measurements=(MEASURED._replace(image=NO_TEXT),))
    results.save(strange, tmp_path)
    assert results.load(tmp_path) == strange


@pytest.mark.parametrize("content", [None, "", "[]", "{}", '{"dataset": 1}', "\x00"])
def test_other_files_are_no_results(content: str | None, tmp_path: Path) -> None:
    if content is not None:
        (tmp_path / "results.json").write_text(content)
    with pytest.raises(ConfigError, match=r"results\.json"):
        results.load(tmp_path)


KEY = Key("avif/2", "libavif 1", "q4", "ä.png", "abc", "as-is")
GOOD, BAD = Entry(("psnr", "ssim"), "a machine", MEASURED), Entry((), "a machine", FAILED)


def test_a_journal_finds_what_was_measured_and_nothing_else(tmp_path: Path) -> None:
    Journal(tmp_path).add(KEY, GOOD)
    again = Journal(tmp_path)
    assert again.find(KEY, ("psnr",)) == GOOD == again.find(KEY, ("ssim", "psnr"))
    assert again.find(KEY, ("psnr", "lpips")) is None  # a metric that is new
    for field in Key._fields:
        assert again.find(KEY._replace(**{field: "other"}), ()) is None


def test_failures_are_tried_again(tmp_path: Path) -> None:
    journal = Journal(tmp_path)
    journal.add(KEY, BAD)
    assert journal.find(KEY, ()) is None
    journal.add(KEY, GOOD)
    assert Journal(tmp_path).find(KEY, ()) == GOOD


def test_a_picture_may_have_any_name(tmp_path: Path) -> None:
    key, entry = KEY._replace(image=NO_TEXT), GOOD._replace(measurement=MEASURED._replace(image=NO_TEXT))
    Journal(tmp_path).add(key, entry)
    assert Journal(tmp_path).find(key, ()) == entry


def test_measurements_of_an_unknown_machine_count(tmp_path: Path) -> None:
    """Journals once did not tell."""
    Journal(tmp_path).add(KEY, GOOD)
    content = json.loads((tmp_path / JOURNAL_FILE).read_text())
    del content["hardware"]
    (tmp_path / JOURNAL_FILE).write_text(json.dumps(content) + "\n")
    found = Journal(tmp_path).find(KEY, ())
    assert found is not None and found.measurement == MEASURED and "does not name" in found.hardware


def test_a_torn_line_loses_only_itself(tmp_path: Path) -> None:
    journal = Journal(tmp_path)
    for setting in "123":
        journal.add(KEY._replace(setting=setting), GOOD)
    path = tmp_path / JOURNAL_FILE
    whole = path.read_bytes()
    for torn in (whole[:-1], whole[:-20], whole[:-200], whole + b'{"key": {"co', whole + b"\xff\x00"):
        path.write_bytes(torn)
        after = Journal(tmp_path)
        kept = [s for s in "123" if after.find(KEY._replace(setting=s), ())]
        assert kept in (list("12"), list("123"), list("1"))
        after.add(KEY._replace(setting="4"), GOOD)
        once_more = Journal(tmp_path)
        assert [s for s in "1234" if once_more.find(KEY._replace(setting=s), ())] == [*kept, "4"]


@pytest.mark.parametrize("line", ["{}", "[]", "1", '{"key": 1, "labels": [], "measurement": {}}'])
def test_lines_of_another_kind_are_passed_over(line: str, tmp_path: Path) -> None:
    (tmp_path / JOURNAL_FILE).write_text(line + "\n")
    journal = Journal(tmp_path)
    journal.add(KEY, GOOD)
    assert Journal(tmp_path).find(KEY, ()) == GOOD
    assert len((tmp_path / JOURNAL_FILE).read_text().splitlines()) == 2


def test_the_journal_is_text_that_others_can_read(tmp_path: Path) -> None:
    Journal(tmp_path).add(KEY, GOOD)
    content = json.loads((tmp_path / JOURNAL_FILE).read_text())
    assert content["key"]["image"] == "ä.png" and content["measurement"]["scores"][0]["value"] == 25.5

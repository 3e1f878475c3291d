"""`rdeic bench`: times of every stage, costs by size, and what the program makes of them."""

from __future__ import annotations

import json
import shutil
import sys
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest

import rdeic
from rdeic import cli
from rdeic.evaluation.bench import times
from rdeic.evaluation.bench.subject import Named, Subject, check_names
from rdeic.pictures import images
from rdeic.system import memory


@pytest.fixture(scope="module")
def subject(tiny_folder: Path) -> Subject:
    return Subject(str(tiny_folder), "cpu")


def test_models_are_told_apart(tiny_folder: Path, tmp_path: Path) -> None:
    trained = [tmp_path / stage / "model" for stage in ("prior", "independent")]
    for folder in trained:
        shutil.copytree(tiny_folder, folder)
    assert [Subject(str(folder), "cpu").name for folder in trained] == ["prior", "independent"]
    check_names([str(folder) for folder in trained])
    with pytest.raises(rdeic.ConfigError, match="prior: more than one model of this name; rename"):
        check_names([str(trained[0]), str(trained[1]), str(trained[0])])


# Times


def test_denoising_is_told_apart_from_the_rest(subject: Subject, photo: images.Picture) -> None:
    calls: list[None] = []
    pictures = [Named("a", photo), Named("b", photo[:80])]
    few, many = times.measure(subject, pictures, 50, [1, 60], 2, lambda: calls.append(None))
    assert (few.steps, many.steps, few.samples, len(calls)) == (1, 60, 4, 4)
    assert (few.width, few.height) == (0, 0)  # of different sizes
    assert many.denoising.mean > 3 * few.denoising.mean > 0
    assert many.remaining.mean < many.denoising.mean
    assert few.encoding == many.encoding and few.encoding.mean > 0 and few.remaining.mean > 0
    header, rows = times.table([few, many])
    assert header[1:3] == ("steps", "encoding (s)") and rows[1][-1] == "1.0x" and float(rows[0][-1][:-1]) > 3
    with pytest.raises(rdeic.ConfigError, match="301 steps"):
        times.measure(subject, pictures, 50, [301], 1, lambda: None)


def test_spread() -> None:
    assert times.spread([1.0, 3.0]) == (2.0, pytest.approx(np.sqrt(2)))
    assert times.spread([0.5]) == (0.5, 0.0)
    assert str(times.spread([0.1, 0.3])) == "0.200 ± 0.141"


@pytest.mark.parametrize(("width", "height"), [(64, 48), (1, 1), (33, 2)])
def test_generated_pictures(width: int, height: int) -> None:
    pictures = times.synthetic(width, height)
    assert {one.picture.shape for one in pictures} == {(height, width, 3)}
    assert [one.picture.tobytes() for one in times.synthetic(width, height)] == [
        one.picture.tobytes() for one in pictures
    ]
    if width == 64:
        row = pictures[0].picture[:, :, 0].astype(float)
        assert np.corrcoef(row[:, :-1].ravel(), row[:, 1:].ravel())[0, 1] > 0.6  # smooth, as photographs are
        assert not np.array_equal(pictures[0].picture, pictures[1].picture)


# The program


class Outcome(NamedTuple):
    code: int
    out: str
    err: str


@pytest.fixture
def bench(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tiny_folder: Path
) -> Callable[..., Outcome]:
    """Runs `rdeic bench ARGUMENTS` of the tiny model in this process."""

    def run(*arguments: str | Path) -> Outcome:
        always = ("rdeic", "bench", "--model", str(tiny_folder), "--device", "cpu")
        monkeypatch.setattr(sys, "argv", [*always, *map(str, arguments)])
        with pytest.raises(SystemExit) as exit_:
            cli.main()
        captured = capsys.readouterr()
        return Outcome(exit_.value.code or 0, captured.out, captured.err)

    return run


def test_bench_prints_the_table_of_times(bench: Callable[..., Outcome]) -> None:
    done = bench("--size", "64x48", "--runs", "1", "--steps", "1", "--steps", "3")
    assert (done.code, done.err) == (0, "")
    lines = done.out.splitlines()
    assert lines[0].startswith("| model | steps | encoding (s) | denoising (s) | remaining (s) |")
    assert [line.split(" | ")[1] for line in lines[2:4]] == ["1", "3"]
    assert "torch" in lines[5] and lines[7].startswith("5 generated pictures of 64x48 pixels, quality 50")


def test_bench_on_pictures_as_json(
    bench: Callable[..., Outcome], photo: images.Picture, tmp_path: Path
) -> None:
    images.write(photo, tmp_path / "photo.png", "png")
    found = json.loads(bench(tmp_path, "--steps", "2", "--json", "-").out)
    (row,) = found["rows"]
    assert not found["generated_pictures"] and " cores" in found["machine"]
    assert (row["width"], row["height"], row["samples"], row["steps"]) == (130, 96, 3, 2)
    assert row["encoding"]["mean"] > 0 and row["denoising"]["deviation"] >= 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--size", "0x5"], "--size 0x5: give WIDTHxHEIGHT"),
        (["none.png"], "none.png: cannot be read"),
        (["--size", "64x64", "--steps", "400"], "400 steps"),
        (["--megapixels", "0.1,many"], "--megapixels 0.1,many: give numbers"),
        (["--megapixels", "1000"], "--megapixels 1000: give numbers"),
        (["--size", "64x64", "--plot", "plot.svg"], "--plot plot.svg: draws what sizes cost"),
        (["--plot", "plot.gif"], "--plot plot.gif: use a name with .svg"),
        (["--model", "TINY"], "tiny: more than one model of this name"),
    ],
)
def test_bench_says_what_is_wrong(
    bench: Callable[..., Outcome], arguments: list[str], message: str, tiny_folder: Path
) -> None:
    done = bench(*(str(tiny_folder) if argument == "TINY" else argument for argument in arguments))
    assert (done.code, done.out) == (1, "")
    assert message in done.err and len(done.err.splitlines()) == 1


def test_bench_measures_sizes_memory_cold_start_and_coder(
    bench: Callable[..., Outcome], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("matplotlib")
    monkeypatch.setattr(memory, "free", lambda: 10**9)
    found, plot = tmp_path / "found.json", tmp_path / "plot.svg"
    sizes = ("--size", "64x48", "--megapixels", "200,0.02", "--runs", "1", "--steps", "1")
    done = bench(*sizes, "--json", found, "--plot", plot)
    assert done.code == 0
    assert done.err.startswith("rdeic: 200 megapixels: left out: ") and "there are 1.00 GB" in done.err
    lines = done.out.splitlines()
    (header,) = (i for i, line in enumerate(lines) if line.startswith("| megapixels |"))
    assert lines[header + 2].split(" | ")[1] == "128x128" and not lines[header + 3]
    assert "From the shell, 768x512 pixels: compress" in done.out and "million symbols a second" in done.out
    told = json.loads(found.read_text(encoding="utf-8"))
    for row in told["sizes"]:
        for cost in (row["compress"], row["restore"]):
            assert cost["per_megapixel"] == pytest.approx(
                cost["seconds"] / row["width"] / row["height"] * 1e6
            )
            assert 50e6 < cost["peak_bytes"] < 2e9  # of Python with torch, in bytes
    assert told["cold_start"]["decompress"] > 0 and told["range_coder"]["decode"] > 0
    assert ElementTree.parse(plot).getroot().tag == "{http://www.w3.org/2000/svg}svg"


def test_textures_are_the_same_everywhere_and_never_repeat() -> None:
    texture = times.texture(1500, 600)
    assert texture.shape == (600, 1500, 3) and np.array_equal(texture, times.texture(1500, 600))
    assert np.array_equal(texture[:300, :700], times.texture(700, 300))
    assert all(texture[..., channel].std() > 30 for channel in range(3))
    for period in (512, 719, 1024):
        assert (texture[:, :-period] != texture[:, period:]).mean() > 0.9

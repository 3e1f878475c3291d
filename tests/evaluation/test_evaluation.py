"""What measurements rest on: rivals get as many bytes as they are said to, and tables survive being stored."""

from __future__ import annotations

import io
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import rdeic
from rdeic.evaluation import report
from rdeic.evaluation.codecs import pillow
from rdeic.evaluation.codecs.pillow import PillowCodec
from rdeic.evaluation.conventional import HIGHEST, Conventional
from rdeic.pictures import images


@pytest.fixture(scope="module")
def scene() -> images.Picture:
    """(240, 320, 3): edges, gradients and grain, which no codec gets small at full size."""
    y, x = np.mgrid[:240, :320].astype(np.float64)
    bars = 80.0 * ((x // 9 + y // 13) % 2)
    waves = 50 * np.sin(x * y / 700)
    grain = np.random.default_rng(0).normal(0, 12, (240, 320))
    return (
        np.stack([bars + waves + 90, waves + x / 3 + 60, bars + grain + 70], -1).clip(0, 255).astype(np.uint8)
    )


@pytest.mark.parametrize("codec", ["jpeg", "webp", "avif"])
def test_a_file_of_the_wanted_size_is_found_at_every_rate(
    codec: str, scene: images.Picture, monkeypatch: pytest.MonkeyPatch
) -> None:
    fast = pillow.FORMATS["avif"]._replace(options={"speed": 9})
    monkeypatch.setitem(pillow.FORMATS, "avif", fast)
    rival = Conventional(codec, scene)
    errors = []
    for size in (1_500, 3_000, 8_000):
        attempt = rival.closest(size)
        assert len(attempt.data) == pytest.approx(size, rel=0.1)
        assert attempt.data == attempt.codec.encode(scene, attempt.setting)
        assert np.array_equal(attempt.codec.decode(attempt.data), attempt.restored)
        assert attempt.restored.shape == scene.shape and attempt.restored.dtype == np.uint8
        errors.append(np.mean((attempt.restored.astype(float) - scene) ** 2))
    assert errors == sorted(errors, reverse=True)


def test_the_file_is_what_it_says(scene: images.Picture) -> None:
    attempt = Conventional("webp", scene).closest(1_500)
    head = 4 if attempt.downscale > 1 else 0
    with Image.open(io.BytesIO(attempt.data[head:])) as file:
        size = (round(320 / attempt.downscale), round(240 / attempt.downscale))
        assert (file.format, file.size) == ("WEBP", size)


def test_of_the_scales_that_reach_a_size_the_one_of_least_error_is_taken(scene: images.Picture) -> None:
    attempt = Conventional("jpeg", scene).closest(4_000)
    error = np.mean((attempt.restored.astype(float) - scene) ** 2)
    full = pillow.create("jpeg", (), 60)
    assert isinstance(full, PillowCodec)
    files = [full.encode(scene, f"q{quality}") for quality in range(1, HIGHEST + 1)]
    at_full_size = full.decode(min(files, key=lambda data: abs(len(data) - 4_000)))
    assert error <= np.mean((at_full_size.astype(float) - scene) ** 2)


def test_out_of_reach_the_nearest_file_is_taken(scene: images.Picture) -> None:
    rival = Conventional("jpeg", scene)
    smallest, largest = rival.closest(10), rival.closest(10**7)
    assert (smallest.downscale, smallest.setting) == (4, "q0")
    assert (largest.downscale, largest.setting) == (1, f"q{HIGHEST}")


def test_a_picture_of_one_pixel() -> None:
    attempt = Conventional("webp", np.full((1, 1, 3), 200, np.uint8)).closest(30)
    assert attempt.restored.shape == (1, 1, 3)


def test_an_unknown_codec_is_refused(scene: images.Picture) -> None:
    with pytest.raises(rdeic.ConfigError, match=r"'gif'.*jpeg, webp, avif"):
        Conventional("gif", scene)


def test_tables_come_back_with_their_remarks(tmp_path: Path) -> None:
    path = tmp_path / "table.csv"
    report.write_csv(path, ("what", "value"), [("a, b", 1.5), ("c", "")], ["`python x.py`", "a machine"])
    assert path.read_bytes() == b'# `python x.py`\n# a machine\nwhat,value\n"a, b",1.5\nc,\n'
    table = report.read_csv(path)
    assert table.remarks == ("`python x.py`", "a machine")
    assert table.rows == [{"what": "a, b", "value": "1.5"}, {"what": "c", "value": ""}]
    with pytest.raises(rdeic.ConfigError, match=r"nowhere\.csv"):
        report.read_csv(tmp_path / "nowhere.csv")


def test_a_markdown_table() -> None:
    assert report.markdown(("what", "n"), [("a", "1")]) == "| what | n |\n| --- | ---: |\n| a | 1 |"


def test_the_command_tells_no_place_of_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["benchmarks/x.py", "/home/me/my pictures", "--qualities", "0,50"])
    assert report.command() == "python benchmarks/x.py 'my pictures' --qualities 0,50"
    for program in ("/usr/bin/rdeic", "/lib/rdeic/__main__.py"):
        monkeypatch.setattr(sys, "argv", [program, "evaluate", "/home/me/kodak"])
        assert report.command() == "rdeic evaluate kodak"


def test_the_machine_is_named() -> None:
    import torch

    assert f"torch {torch.__version__}" in report.host() and " cores" in report.host()
    assert report.machine() == f"{report.host()}, threads: {torch.get_num_threads()}"

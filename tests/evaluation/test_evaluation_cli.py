"""`rdeic evaluate` as a user meets it."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path

import numpy as np
import pytest

from rdeic import cli
from rdeic.evaluation import results
from rdeic.pictures import images

pytest.importorskip("pytorch_msssim")
COPY = (
    shlex.quote(sys.executable) + " -S -c 'import shutil, sys; shutil.copy(*sys.argv[1:])' {input} {output}"
)


@pytest.fixture
def dataset(tmp_path: Path, photo: images.Picture) -> Path:
    folder = tmp_path / "my pictures"
    folder.mkdir()
    for i in range(2):
        images.write(np.roll(photo, 40 * i, 1), folder / f"{i}.png", "png")
    return folder


def evaluate(monkeypatch: pytest.MonkeyPatch, *arguments: str | Path) -> int:
    monkeypatch.setattr(sys, "argv", ["rdeic", "evaluate", *map(str, arguments)])
    with pytest.raises(SystemExit) as exit_:
        cli.main()
    return int(exit_.value.code or 0)


def test_one_command_from_pictures_to_a_report(
    dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    report = tmp_path / "report"
    own = ("--codec", "jpeg:q5,q20", "--codec", "webp/2:q0,q30", "--codec", "elic")
    lossless = ("--command", f"copy | q1 | {COPY} | {COPY}")
    rest = ("--metrics", "psnr,ssim,dists", "--jobs", "1", "--show", "1", "-o", report)
    assert evaluate(monkeypatch, dataset, *own, *lossless, *rest) == 0
    told = capsys.readouterr()
    page = report / "index.html"
    assert told.out == f"{page}\n" and "jpeg" in page.read_text()
    assert [line.split(":")[0] + ":" + line.split(":")[1] for line in told.err.splitlines()] == [
        "rdeic: elic is not available",
        "rdeic: dists is not available",
    ]
    found = results.load(report)
    assert found.command.startswith("rdeic evaluate 'my pictures' --codec jpeg:q5,q20")
    assert found.dataset == "my pictures"
    assert {(one.codec, one.setting) for one in found.measurements} == {
        ("jpeg", "q5"),
        ("jpeg", "q20"),
        ("webp/2", "q0"),
        ("webp/2", "q30"),
        ("copy", "q1"),
    }
    assert not any(one.error for one in found.measurements)
    assert any(version.startswith("jpeg: libjpeg_turbo") for version in found.versions)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--codec", "gif"), "no codec 'gif'"),
        (("--metrics", "vmaf", "--codec", "jpeg"), "no metric vmaf"),
        (("--qualities", "low"), "--qualities low: write numbers"),
        (("--command", "a | b"), "write NAME | SETTING,... | ENCODE | DECODE"),
        (("--codec", "jpeg", "--published", "Imagenet"), "nothing published on 'Imagenet': choose from"),
        (("--codec", "jpeg", "--anchor", "webp"), "--anchor webp is none of the codecs"),
        (("--codec", "elic"), "no codec to measure: elic"),
        (("--model", "nowhere"), "no model 'nowhere'"),
    ],
)
def test_mistakes_cost_a_line_and_no_work(
    arguments: tuple[str, ...],
    message: str,
    dataset: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    report = tmp_path / "report"
    assert evaluate(monkeypatch, dataset, *arguments, "-o", report) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("rdeic: ") and message in line
    assert not (report / "measurements.jsonl").exists()


def test_a_folder_without_pictures(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert evaluate(monkeypatch, tmp_path, "--codec", "jpeg", "-o", tmp_path / "report") == 1
    assert "no pictures there" in capsys.readouterr().err

"""A run measures everything once, whatever the codecs do and whenever it is killed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from rdeic.errors import ConfigError
from rdeic.evaluation import results, runner
from rdeic.evaluation.codecs.pillow import PillowCodec
from rdeic.evaluation.journal import JOURNAL_FILE
from rdeic.evaluation.results import ORIGINAL
from rdeic.pictures import images
from rdeic.system import memory, threads
from support.evaluation_plans import PATIENCE, Odd, codec, dataset, evaluate, plan

__all__ = ["dataset"]  # a fixture


def test_codecs_fail_alone_and_are_reported(dataset: Path, tmp_path: Path) -> None:
    pytest.importorskip("pytorch_msssim")
    jpeg = PillowCodec("jpeg", ("q10", "q50"), PATIENCE)
    odd = Odd(tmp_path, ("well", "raises", "crashes", "cuts"))
    hanging = Odd(tmp_path, ("hangs",), timeout=0.2, name="hanging")
    ticks: list[None] = []
    wanted = plan(dataset, jpeg, odd, hanging, jobs=2, show=1)
    report = tmp_path / "report"
    found = runner.run(wanted, report, lambda: ticks.append(None))

    assert len(ticks) == len(found.measurements) == runner.count(wanted) == 14
    order = [(one.codec, one.setting, one.image) for one in found.measurements]
    assert order[:5] == [
        ("jpeg", "q10", "a.png"),
        ("jpeg", "q10", "b.png"),
        ("jpeg", "q50", "a.png"),
        ("jpeg", "q50", "b.png"),
        ("odd", "well", "a.png"),
    ]
    errors = {one.setting: one.error for one in found.measurements}
    assert errors["q10"] == errors["q50"] == errors["well"] == ""
    assert errors["raises"] == "out of reach"
    assert errors["crashes"] == "crashed (SIGSEGV)"
    assert errors["cuts"] == "returned a picture of 50x39 (uint8), the original is 50x40"
    assert errors["hangs"] == "not done within 0.2 s"

    first = found.measurements[0]
    data = jpeg.encode(images.read(dataset / "a.png"), "q10")
    assert (first.width, first.height, first.bytes) == (60, 40, len(data))
    assert first.bpp == 8 * len(data) / (60 * 40) and first.encode_seconds > 0
    assert [score.metric for score in first.scores] == ["psnr", "ssim"]
    difference = jpeg.decode(data).astype(float) - images.read(dataset / "a.png")
    assert first.scores[0].value == pytest.approx(10 * np.log10(255**2 / np.mean(difference**2)), abs=1e-3)

    assert [one.metric for one in found.unavailable] == ["niqe"]
    assert found.unavailable_codecs == wanted.unavailable and found.codecs == ("jpeg", "odd", "hanging")
    assert results.load(report) == found

    kept = {(one.codec, one.setting): report / one.path for one in found.shown}
    assert kept.keys() == {(ORIGINAL, ""), ("jpeg", "q10"), ("jpeg", "q50"), ("odd", "well")}
    assert np.array_equal(images.read(kept["jpeg", "q10"]), jpeg.decode(data))
    assert np.array_equal(images.read(kept[ORIGINAL, ""]), images.read(dataset / "a.png"))


def test_a_second_run_repeats_failures_only(dataset: Path, tmp_path: Path) -> None:
    odd = Odd(tmp_path, ("well", "raises"))
    report = tmp_path / "report"
    first = runner.run(plan(dataset, odd), report, lambda: None)
    assert odd.calls() == ["well", "raises"] * 2
    assert runner.run(plan(dataset, odd), report, lambda: None) == first
    assert odd.calls()[4:] == ["raises"] * 2

    # Measured anew is a picture that changed, and one that is to be shown and was not kept.
    (tmp_path / "calls").unlink()
    Image.new("RGB", (40, 40)).save(dataset / "b.png")
    only = plan(dataset, Odd(tmp_path, ("well",)), show=1)
    changed = runner.run(only, report, lambda: None)
    assert odd.calls() == ["well"] * 2
    assert [one.width for one in changed.measurements] == [60, 40]
    assert [one.image for one in changed.shown] == ["a.png"] * 2


def test_a_killed_run_goes_on_where_it_was(dataset: Path, tmp_path: Path) -> None:
    """The third measurement kills the run, as no handler can notice; its line in the journal is torn, too."""
    program = "import sys; import test_evaluation_runner as t; t.evaluate(*sys.argv[1:])"
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(Path(__file__).parent), *sys.path])}
    command = [sys.executable, "-c", program, str(dataset), str(tmp_path)]
    done = subprocess.run(command, env=environment, capture_output=True, timeout=PATIENCE)
    assert done.returncode == -signal.SIGKILL, done.stderr.decode()
    assert not (tmp_path / "report" / results.RESULTS_FILE).exists()
    journal = tmp_path / "report" / JOURNAL_FILE
    lines = journal.read_bytes().splitlines(keepends=True)
    assert len(lines) == 2
    journal.write_bytes(b"".join(lines) + lines[0][:50])

    evaluate(str(dataset), str(tmp_path))
    found = results.load(tmp_path / "report")
    assert [one.error for one in found.measurements] == [""] * 6
    assert codec(tmp_path).calls() == ["first", "second", "kills", "kills", "first", "second", "kills"]


def test_processes_that_are_killed_leave_nothing_behind(dataset: Path, tmp_path: Path) -> None:
    places = [tmp_path / "report" / name for name in ("pictures/jpeg-0/q5", "features/original", "")]
    for place in places:
        place.mkdir(parents=True, exist_ok=True)
        (place / ".rdeic-0123456789abcdef.tmp").write_bytes(b"half a picture")
    found = runner.run(plan(dataset, Odd(tmp_path, ("litters",))), tmp_path / "report", lambda: None)
    assert [one.error for one in found.measurements] == ["crashed (SIGKILL)"] * 2
    assert not Path((tmp_path / "litter").read_text()).exists()
    assert not list((tmp_path / "report").rglob("*.tmp"))


def test_times_are_told_with_the_hardware_they_are_of(dataset: Path, tmp_path: Path) -> None:
    report, jpeg = tmp_path / "report", PillowCodec("jpeg", ("q10",), PATIENCE)
    (alone,) = runner.run(plan(dataset, jpeg), report, lambda: None).hardware
    assert " cores" in alone and "models on cpu, 1 at once, " in alone and alone.endswith(" threads each")
    assert "threads: " not in alone  # of this process, which measures nothing
    both = runner.run(plan(dataset, jpeg, Odd(tmp_path, ("well",)), jobs=2), report, lambda: None)
    assert both.hardware[0] == alone and "models on cpu, 2 at once, " in both.hardware[1]
    assert runner.run(plan(dataset, jpeg, jobs=2), report, lambda: None).hardware == (alone,)


def test_no_more_pictures_at_once_than_memory_has_room_for(
    dataset: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(threads, "cores", lambda: 4)
    monkeypatch.setattr(memory, "free", lambda: 10 * 10**9)
    assert runner.default_jobs(dataset, "as-is") == 4
    Image.new("RGB", (4000, 3000)).save(dataset / "telephone.jpg")
    (dataset / "broken.png").write_bytes(b"no picture")
    assert runner.default_jobs(dataset, "as-is") == 1  # SSIMULACRA2 alone has 6 GB of it
    assert runner.default_jobs(dataset, "crop-768") == 4


@pytest.mark.parametrize("place", ["", "report", "a/b"])
def test_a_report_among_the_pictures_is_refused(dataset: Path, place: str) -> None:
    with pytest.raises(ConfigError, match=r"lies within the pictures.*; choose another -o"):
        runner.run(plan(dataset, PillowCodec("jpeg", ("q10",), 1)), dataset / place, lambda: None)
    assert {path.name for path in dataset.iterdir()} == {"a.png", "b.png"}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"codecs": ()}, "no codec to measure: bpg: no program bpgenc"),
        ({"jobs": 0}, "jobs must be at least 1"),
        ({"protocol": "512"}, "choose from as-is"),
        ({"metrics": ("vmaf",)}, "no metric vmaf"),
        ({"codecs": (PillowCodec("jpeg", ("q1",), 1), PillowCodec("jpeg", ("q2",), 1))}, "jpeg: named twice"),
    ],
)
def test_plans_that_make_no_sense(
    change: dict[str, object], message: str, dataset: Path, tmp_path: Path
) -> None:
    wanted = plan(dataset, PillowCodec("jpeg", ("q10",), 1))._replace(**change)  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match=message):
        runner.run(wanted, tmp_path / "report", lambda: None)
    assert not (tmp_path / "report" / results.RESULTS_FILE).exists()

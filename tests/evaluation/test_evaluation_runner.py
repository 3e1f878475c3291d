"""A run measures everything once, whatever the codecs do and whenever it is killed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import threading
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from rdeic.errors import ConfigError, RateError
from rdeic.evaluation import metrics, patches, results, runner, whole_sets, worker
from rdeic.evaluation.codecs.pillow import PillowCodec
from rdeic.evaluation.journal import JOURNAL_FILE
from rdeic.evaluation.results import ORIGINAL
from rdeic.evaluation.runner import Plan
from rdeic.evaluation.types import Codec, Measurement, UnavailableCodec
from rdeic.evaluation.worker import Setup, Task
from rdeic.pictures import images
from rdeic.pictures.images import Picture

PATIENCE = 600.0  # seconds; far more than anything here takes


@dataclass(frozen=True)
class Odd:
    """A lossless codec that notes its work, and misbehaves as its settings say."""

    folder: Path  # for notes
    settings: tuple[str, ...]
    timeout: float = PATIENCE
    name: str = "odd"
    version: str = "1"

    def prepare(self) -> None:
        pass

    def encode(self, picture: Picture, setting: str) -> bytes:
        with (self.folder / "calls").open("a") as notes:
            notes.write(f"{setting}\n")
        if setting == "raises":
            raise RateError("out of\nreach")
        if setting == "litters":
            (self.folder / "litter").write_text(tempfile.mkdtemp())
            os.kill(os.getpid(), signal.SIGKILL)
        if setting == "crashes":
            os.kill(os.getpid(), signal.SIGSEGV)
        if setting == "hangs":
            threading.Event().wait()
        if setting == "kills" and not (self.folder / "killed").exists():
            (self.folder / "killed").touch()
            os.kill(os.getppid(), signal.SIGKILL)  # the run itself
            threading.Event().wait(1)
        return setting.encode() + b"\n" + images.encode(picture, "png")

    def decode(self, data: bytes) -> Picture:
        setting, _, file = data.partition(b"\n")
        picture = images.read(file)
        return picture[:-1] if setting == b"cuts" else picture

    def calls(self) -> list[str]:
        return (self.folder / "calls").read_text().split()


@pytest.fixture
def worker_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """For tests that start a worker in this process: afterwards its temporary files go where they did."""
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr(tempfile, "tempdir", None)


@pytest.fixture
def dataset(tmp_path: Path) -> Path:
    folder = tmp_path / "pictures"
    folder.mkdir()
    for name, width in (("a.png", 60), ("b.png", 50)):
        y, x = np.mgrid[:40, :width]
        images.write(np.stack([4 * x, 6 * y, x + y], -1).astype(np.uint8), folder / name, "png")
    return folder


def plan(dataset: Path, *codecs: Codec, jobs: int = 1, show: int = 0) -> Plan:
    missing = (UnavailableCodec("bpg", "no program bpgenc"),)
    return Plan(
        dataset,
        "as-is",
        codecs,
        missing,
        ("psnr", "ssim", "niqe"),
        None,
        "cpu",
        jobs,
        show,
        "rdeic evaluate x",
    )


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


@pytest.mark.parametrize("place", ["", "report", "a/b"])
def test_a_report_among_the_pictures_is_refused(dataset: Path, place: str) -> None:
    with pytest.raises(ConfigError, match=r"lies within the pictures.*; choose another -o"):
        runner.run(plan(dataset, PillowCodec("jpeg", ("q10",), 1)), dataset / place, lambda: None)
    assert {path.name for path in dataset.iterdir()} == {"a.png", "b.png"}


def codec(folder: Path) -> Odd:
    return Odd(folder, ("first", "second", "kills"))


def evaluate(dataset: str, folder: str) -> None:
    runner.run(plan(Path(dataset), codec(Path(folder))), Path(folder) / "report", lambda: None)


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


class _Means:
    """Stands in for Inception: the mean colour of a patch."""

    def __call__(self, batch: object, /) -> object:
        return batch.double().mean((2, 3))  # type: ignore[attr-defined]


@pytest.mark.usefixtures("worker_here")
def test_scores_of_whole_sets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Features of every picture are kept, and a set of which a picture failed has no score."""
    folder = tmp_path / "pictures"
    folder.mkdir()
    for name in ("a.png", "b.png"):
        images.write(
            np.random.default_rng(len(name)).integers(0, 256, (384, 512, 3), np.uint8), folder / name, "png"
        )
    monkeypatch.setattr(patches, "load_extractor", lambda device: _Means())
    monkeypatch.setattr(metrics.metadata, "version", lambda package: "1")
    seen = []

    def distance(restored: patches.Features, original: patches.Features) -> float:
        seen.append((restored.shape, float(np.abs(restored - original).max())))
        return 1.5

    monkeypatch.setattr(patches, "fid", distance)
    odd = Odd(tmp_path, ("well", "raises"))
    wanted = plan(folder, odd)._replace(metrics=("psnr", "fid"))
    report = tmp_path / "report"

    def here(start: object, tasks: list[Task], jobs: int, limit: object) -> object:
        work = start()  # type: ignore[operator]
        return [(task, work(task)) for task in tasks]

    monkeypatch.setattr(runner.pool, "run", here)  # in this process, where the stand-in is
    found = runner.run(wanted, report, lambda: None)
    (score,) = found.set_scores
    assert (score.codec, score.setting, score.score) == ("odd", "well", ("fid", 1.5))
    assert seen == [((2 * 3, 3), 0.0)]  # the codec is lossless; 2 + 1 patches a picture
    assert found.unavailable == (("fid", "not of odd raises: 2 of 2 pictures failed"),)

    setup = Setup((odd,), (), None, None, "as-is", 1, report, tmp_path)
    (report / worker.features_path(setup, _task(folder, "well"))).unlink()
    (tmp_path / "calls").unlink()
    runner.run(wanted._replace(codecs=(Odd(tmp_path, ("well",)),)), report, lambda: None)
    assert odd.calls() == ["well"]  # only the one whose features were lost


def _task(folder: Path, setting: str) -> Task:
    return Task(0, setting, runner.datasets.scan(folder)[0], False)


@pytest.mark.parametrize("damaged", [False, True])
def test_a_metric_of_sets_that_fails_costs_itself(
    damaged: bool, dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def singular(restored: patches.Features, original: patches.Features) -> float:
        raise ValueError("singular\nmatrix")

    monkeypatch.setattr(patches, "fid", singular)
    monkeypatch.setattr(patches, "kid", lambda restored, original: 0.5)
    setup = Setup((Odd(tmp_path, ("well",)),), ("fid", "kid"), None, None, "as-is", 1, tmp_path, tmp_path)
    task = _task(dataset, "well")
    for place in (worker.features_path(setup, task), worker.original_features_path(setup, task)):
        (tmp_path / place).parent.mkdir(parents=True)
        np.save(tmp_path / place, np.zeros((3, 4), np.float32))
    if damaged:
        (tmp_path / worker.features_path(setup, task)).write_bytes(b"\x93NUMPY")
    good = Measurement("odd", "well", "a.png", 60, 40, 9, 0.03, 0.1, 0.1, (), "")
    found, gaps = whole_sets.scores(setup, [(task, good)])
    if damaged:
        assert found == [] and [one.metric for one in gaps] == ["fid", "kid"]
        assert all("remove the folder features of the report" in one.reason for one in gaps)
    else:
        assert found == [("odd", "well", ("kid", 0.5))]
        assert gaps == [("fid", "not of odd well: ValueError: singular matrix")]


@pytest.mark.usefixtures("worker_here")
def test_a_worker_without_a_metric_that_was_asked_for_does_nothing(tmp_path: Path) -> None:
    """What it measured would be in the journal as if it had them all."""
    codecs = (Odd(tmp_path, ("well",)),)
    setup = Setup(codecs, ("psnr", "perceptual"), None, None, "as-is", 1, tmp_path, tmp_path)
    with pytest.raises(ConfigError, match="perceptual: no weights given; give the SqueezeNet"):
        worker.start(setup)


@pytest.mark.usefixtures("worker_here")
def test_a_failed_measurement_has_no_scores(tmp_path: Path, dataset: Path) -> None:
    setup = Setup((Odd(tmp_path, ("raises",)),), (), None, None, "as-is", 1, tmp_path, tmp_path)
    found = worker.start(setup)(_task(dataset, "raises"))
    assert found == Measurement("odd", "raises", "a.png", 0, 0, 0, 0.0, 0.0, 0.0, (), "out of reach")

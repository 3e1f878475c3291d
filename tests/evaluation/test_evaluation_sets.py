"""Metrics of whole sets, and workers that cannot measure."""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
import pytest

from rdeic.errors import ConfigError
from rdeic.evaluation import metrics, patches, runner, whole_sets, worker
from rdeic.evaluation.types import Measurement
from rdeic.evaluation.worker import Setup, Task
from rdeic.pictures import images
from support.evaluation_plans import Odd, dataset, plan

__all__ = ["dataset"]  # a fixture


@pytest.fixture
def worker_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """For tests that start a worker in this process: afterwards its temporary files go where they did."""
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr(tempfile, "tempdir", None)


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

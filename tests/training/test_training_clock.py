"""Runs that end by the clock: when, with which learning rate, and over how many parts."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
import torch

from rdeic.training import checkpoint, clock, loop
from rdeic.training.clock import Clock
from rdeic.training.processes import ALONE
from rdeic.training.trainer import Trainer
from support.denoising import CONFIG, Denoising, data, run, weights
from support.image_sets import folder

__all__ = ["data", "folder"]  # fixtures

TEN_SECONDS = dataclasses.replace(
    CONFIG, steps=1000, minutes=10 / 60, warmup_steps=200, log_every=1, checkpoint_every=1000
)


@pytest.fixture
def seconds(monkeypatch: pytest.MonkeyPatch) -> None:
    """A second passes between any two looks at the clock."""
    times = iter(range(1000))
    monkeypatch.setattr(clock, "monotonic", lambda: float(next(times)))


@pytest.mark.usefixtures("seconds")
def test_a_run_by_the_clock_ends_at_its_time(
    data: loop.Data, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run(Denoising(), data, TEN_SECONDS, tmp_path)
    assert checkpoint.steps(tmp_path) == [10]
    assert checkpoint.load(tmp_path / "checkpoint-10.pt").elapsed == 10.0
    assert weights(tmp_path)
    said = capsys.readouterr().err
    assert "step   10/1000  held out" in said and "0:00:03 left" in said and "interrupted" not in said


@pytest.mark.usefixtures("seconds")
def test_the_learning_rate_follows_the_clock(data: loop.Data) -> None:
    trainer = Trainer(Denoising(), TEN_SECONDS)
    trainer.clock.start()
    rates = [trainer.advance(data.training.batch(step)).learning_rate for step in range(10)]
    assert rates[:3] == pytest.approx([0.01 / 200, 0.01 * 101 / 200, 0.01])  # the warm-up takes two seconds
    assert rates[6] == pytest.approx((0.01 + 0.001) / 2)  # half way down the cosine
    assert rates[9] == pytest.approx(0.001, rel=0.4) and rates == sorted(rates[:3]) + sorted(rates[3:])[::-1]
    assert trainer.done


@pytest.mark.usefixtures("seconds")
def test_the_parts_of_a_run_share_its_time(data: loop.Data, tmp_path: Path) -> None:
    run(Denoising(interrupt_at=4), data, TEN_SECONDS, tmp_path, whole=False)
    assert checkpoint.load(tmp_path / "checkpoint-4.pt").elapsed == 4.0
    run(Denoising(), data, TEN_SECONDS, tmp_path, resume=True)
    assert checkpoint.steps(tmp_path)[-1] == 10
    before = (tmp_path / "model" / "weights").read_bytes()
    run(Denoising(), data, TEN_SECONDS, tmp_path, resume=True)  # its time is over: no further step
    assert checkpoint.steps(tmp_path)[-1] == 10
    assert (tmp_path / "model" / "weights").read_bytes() == before


@pytest.mark.usefixtures("seconds")
def test_steps_limit_a_run_by_the_clock_too() -> None:
    config = dataclasses.replace(TEN_SECONDS, steps=8)
    both = Clock(config, ALONE)
    both.start()
    for _ in range(5):
        both.tick()
    assert (both.left, both.position(2), both.position(7)) == (5.0, 4.0, 7)  # whichever is further
    by_steps = Clock(CONFIG, ALONE)
    by_steps.start()
    by_steps.tick()
    assert (by_steps.elapsed, by_steps.position(4)) == (1.0, 4)


def test_a_checkpoint_of_an_earlier_version_has_no_time_behind_it(data: loop.Data, tmp_path: Path) -> None:
    run(Denoising(interrupt_at=2), data, CONFIG, tmp_path, whole=False)
    path = tmp_path / "checkpoint-2.pt"
    fields = torch.load(path, weights_only=True)
    del fields["elapsed"]
    torch.save(fields, path)
    assert checkpoint.load(path).elapsed == 0.0
    run(Denoising(), data, CONFIG, tmp_path, resume=True)

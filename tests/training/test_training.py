"""Training: exact resume, checkpoints, frozen weights, refusals."""

from __future__ import annotations

import dataclasses
import io
import math
import signal
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from rdeic.errors import CheckpointError, TrainingError
from rdeic.training import checkpoint, loop, memory
from rdeic.training.contract import StageLoss
from rdeic.training.noise import Noise
from rdeic.training.trainer import Trainer, learning_rate
from support.denoising import CONFIG, Denoising, data, run, weights
from support.image_sets import folder

__all__ = ["data", "folder"]  # fixtures


# Resuming


def test_resume_ends_with_the_same_bits(data: loop.Data, tmp_path: Path) -> None:
    whole, broken, resumed = Denoising(), Denoising(interrupt_at=3), Denoising()
    run(whole, data, CONFIG, tmp_path / "whole")
    run(broken, data, CONFIG, tmp_path / "broken", whole=False)
    assert broken.finished == []
    assert checkpoint.steps(tmp_path / "broken")[-1] == 3
    run(resumed, data, CONFIG, tmp_path / "broken", resume=True)
    # What the end depends on, the last steps' pictures, is all there, those from before the interruption too.
    assert len(whole.finished) == 6 and whole.finished == resumed.finished
    assert (tmp_path / "whole" / "model" / "weights").read_bytes() == (
        tmp_path / "broken" / "model" / "weights"
    ).read_bytes()
    ends = [checkpoint.load(tmp_path / name / "checkpoint-6.pt") for name in ("whole", "broken")]
    assert _flat(ends[0]) == _flat(ends[1])


def test_moments_of_another_order_are_refused(data: loop.Data, tmp_path: Path) -> None:
    run(Denoising(interrupt_at=3), data, CONFIG, tmp_path, whole=False)
    saved = checkpoint.load(tmp_path / "checkpoint-3.pt")
    moments = dict(zip(saved.optimiser, reversed(saved.optimiser.values()), strict=True))
    checkpoint.save(saved._replace(optimiser=moments), tmp_path, keep_last=1)
    with pytest.raises(CheckpointError, match="moments"):
        run(Denoising(), data, CONFIG, tmp_path, resume=True)


def test_a_finished_run_is_finished_again_alike(data: loop.Data, tmp_path: Path) -> None:
    run(Denoising(), data, CONFIG, tmp_path)
    before = (tmp_path / "model" / "weights").read_bytes()
    (tmp_path / "model" / "weights").unlink()
    run(Denoising(), data, CONFIG, tmp_path, resume=True)
    assert (tmp_path / "model" / "weights").read_bytes() == before


def test_only_the_newest_checkpoints_stay(data: loop.Data, tmp_path: Path) -> None:
    (tmp_path / "checkpoint-2.part").write_bytes(b"of a run that was killed while writing")
    run(Denoising(), data, dataclasses.replace(CONFIG, checkpoint_every=1), tmp_path)
    assert sorted(path.name for path in tmp_path.glob("checkpoint*")) == [
        "checkpoint-5.pt",
        "checkpoint-6.pt",
    ]


def test_checkpoints_of_another_run_are_not_overwritten(data: loop.Data, tmp_path: Path) -> None:
    run(Denoising(), data, CONFIG, tmp_path)
    with pytest.raises(TrainingError, match="--resume"):
        run(Denoising(), data, CONFIG, tmp_path)


def test_bad_checkpoints_are_named(data: loop.Data, tmp_path: Path) -> None:
    run(Denoising(), data, CONFIG, tmp_path)
    newest = tmp_path / "checkpoint-6.pt"
    larger, elsewhere, renamed = Denoising(), Denoising(), Denoising()
    larger.model.append(nn.Conv2d(1, 1, 1))
    with torch.no_grad():
        elsewhere.frozen.weight[0, 0, 0, 0] += 1e-6
    renamed.model.register_buffer("other", torch.zeros(()))
    for other in (larger, elsewhere, renamed):
        with pytest.raises(CheckpointError, match=r"checkpoint-6\.pt belongs to another network"):
            run(other, data, CONFIG, tmp_path, resume=True)
    newest.write_bytes(newest.read_bytes()[:1000])
    with pytest.raises(CheckpointError, match=r"checkpoint-6\.pt.*delete it"):
        run(Denoising(), data, CONFIG, tmp_path, resume=True)


def test_a_disk_that_refuses_is_named(data: loop.Data, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    stage = Denoising()
    with pytest.raises(TrainingError, match=r"cannot make the folder .*file/run.*another with -o"):
        run(stage, data, CONFIG, tmp_path / "file" / "run")
    assert stage.steps == 0
    (tmp_path / "checkpoint-4.part").mkdir()
    with pytest.raises(TrainingError, match=r"cannot write the checkpoint.*make room"):
        run(stage, data, CONFIG, tmp_path)


def test_interruption_gives_the_signal_handlers_back(data: loop.Data, tmp_path: Path) -> None:
    before = signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)
    run(Denoising(interrupt_at=1), data, CONFIG, tmp_path, whole=False)
    assert (signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)) == before


# Steps


def test_frozen_parameters_keep_their_bits_and_trained_ones_move(data: loop.Data, tmp_path: Path) -> None:
    before, stage = Denoising(), Denoising()
    run(stage, data, CONFIG, tmp_path)
    for old, new in zip(before.frozen.parameters(), stage.frozen.parameters(), strict=True):
        assert torch.equal(old, new)
    assert not torch.equal(before.trained.weight, stage.trained.weight)


def test_the_finished_model_holds_the_averages(data: loop.Data, tmp_path: Path) -> None:
    stage = Denoising()
    run(stage, data, CONFIG, tmp_path)
    saved, found = checkpoint.load(tmp_path / "checkpoint-6.pt"), weights(tmp_path)
    assert torch.equal(found["1.weight"], saved.ema[0])
    assert torch.equal(found["1.bias"], saved.ema[1] + stage.finished[0])
    assert not torch.equal(found["1.weight"], saved.trainable[0])


def test_averaging_follows_its_recurrence(data: loop.Data) -> None:
    trainer = Trainer(Denoising(), CONFIG)
    expected = [parameter.detach().double() for parameter in trainer.parameters]
    for step in range(4):
        trainer.advance(data.training.batch(step))
        decay = min(CONFIG.ema_decay, (1 + step) / (10 + step))
        expected = [
            decay * e + (1 - decay) * p.detach() for e, p in zip(expected, trainer.parameters, strict=True)
        ]
    for average, value in zip(trainer.ema.averages, expected, strict=True):
        torch.testing.assert_close(average.double(), value, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("precision", ["fp32", "bf16", "fp16"])
def test_training_lowers_the_held_out_error(data: loop.Data, precision: str) -> None:
    trainer = Trainer(Denoising(), dataclasses.replace(CONFIG, precision=precision, steps=60))
    before = dict(trainer.validate(data.held_out))["mse"]
    for batch in data.training.batches(0, 60):
        trainer.advance(batch)
    assert dict(trainer.validate(data.held_out))["mse"] < 0.9 * before


def test_a_step_that_overflows_in_half_precision_is_left_out(data: loop.Data, tmp_path: Path) -> None:
    config = dataclasses.replace(CONFIG, precision="fp16")
    trainer = Trainer(Denoising(), config)
    trainer.advance(data.training.batch(0))
    trainer.scaler.update(1e38)  # gradients of the next step are beyond all floating-point numbers
    before = [parameter.detach().clone() for parameter in trainer.parameters]
    trainer.advance(data.training.batch(1))
    assert all(torch.equal(old, new) for old, new in zip(before, trainer.parameters, strict=True))
    assert trainer.scaler.get_scale() == pytest.approx(5e37)
    trainer.save(tmp_path)
    again = Trainer(Denoising(), config)
    again.restore(tmp_path / "checkpoint-2.pt")
    assert again.scaler.get_scale() == trainer.scaler.get_scale()


def test_micro_batches_give_the_gradient_of_the_whole_batch() -> None:
    pictures = torch.randint(
        0, 256, (4, 3, 64, 64), dtype=torch.uint8, generator=torch.Generator().manual_seed(1)
    )
    ends = {}
    for accumulate in (1, 2, 4):
        trainer = Trainer(Denoising(), dataclasses.replace(CONFIG, batch=4, accumulate=accumulate))
        steps = [trainer.advance(pictures) for _ in range(3)]
        ends[accumulate] = steps, [parameter.detach() for parameter in trainer.parameters]
    for accumulate in (2, 4):
        for one, other in zip(ends[1][0], ends[accumulate][0], strict=True):
            torch.testing.assert_close(other.loss.total, one.loss.total)
            torch.testing.assert_close(other.grad_norm, one.grad_norm)
            assert [name for name, _ in other.loss.terms] == ["mse", "largest"]
            for (_, value), (_, expected) in zip(other.loss.terms, one.loss.terms, strict=True):
                torch.testing.assert_close(value, expected)
        torch.testing.assert_close(ends[accumulate][1], ends[1][1])


def test_validation_does_not_depend_on_how_it_is_cut_up(data: loop.Data) -> None:
    pictures = torch.cat([data.held_out, data.training.batch(0), data.training.batch(1)])
    found = [
        Trainer(Denoising(), dataclasses.replace(CONFIG, batch=batch)).validate(pictures)
        for batch in (1, 3, 8)
    ]
    for other in found[:2]:
        assert dict(other) == pytest.approx(dict(found[2]), rel=1e-5)


def test_nan_ends_the_run_with_a_remedy_and_spares_the_checkpoints(data: loop.Data, tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match="at step 3; lower learning_rate"):
        run(Denoising(poison_at=2), data, CONFIG, tmp_path)
    assert checkpoint.steps(tmp_path) == [2]


def test_memory_that_runs_out_is_said_with_a_remedy() -> None:
    class Greedy(Denoising):
        def loss(self, x: Tensor, noise: Noise) -> StageLoss:
            return super().loss(torch.empty(1 << 53, dtype=torch.uint8), noise)

    with pytest.raises(TrainingError, match="out of memory; raise `accumulate`"):
        Trainer(Greedy(), CONFIG).advance(torch.zeros(2, 3, 64, 64, dtype=torch.uint8))
    with pytest.raises(TrainingError, match="out of memory"), memory.named_when_exhausted():
        np.zeros(1 << 53, dtype=np.uint8)
    with pytest.raises(RuntimeError, match="mat1 and mat2"), memory.named_when_exhausted():
        torch.zeros(2, 3) @ torch.zeros(2, 3)  # other errors are none of its business


def test_the_learning_rate_rises_and_falls() -> None:
    rates = [learning_rate(dataclasses.replace(CONFIG, steps=102), step) for step in range(102)]
    assert rates[:3] == pytest.approx([0.005, 0.01, 0.01])
    assert rates[52] == pytest.approx((0.01 + 0.001) / 2)
    assert rates[101] == pytest.approx(0.001, rel=0.01)


def test_neither_clipping_nor_averaging_may_be_asked_for(data: loop.Data) -> None:
    trainer = Trainer(Denoising(), dataclasses.replace(CONFIG, clip_norm=math.inf, ema_decay=0.0))
    trainer.advance(data.training.batch(0))
    for parameter, average in zip(trainer.parameters, trainer.ema.averages, strict=True):
        assert bool(parameter.isfinite().all()) and torch.equal(parameter, average)


def _flat(state: checkpoint.Checkpoint) -> bytes:
    """The bits of everything in a checkpoint."""
    tensors = [*state.buffers.values(), *state.trainable, *state.ema]
    tensors += [moments[name] for moments in state.optimiser.values() for name in sorted(moments)]
    buffer = io.BytesIO()
    for tensor in tensors:
        buffer.write(tensor.contiguous().numpy().tobytes())
    return buffer.getvalue() + state.step.to_bytes(8, "little")

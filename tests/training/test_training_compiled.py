"""Training with translated networks. The translator is none that needs a C++ compiler, except where one is there."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from rdeic.errors import ConfigError
from rdeic.model.model import Rdeic
from rdeic.training import checkpoint, compiled, loop, perceptual
from rdeic.training import config as settings
from rdeic.training.stages import build_stage
from rdeic.training.trainer import Trainer
from support.denoising import CONFIG, Denoising, data, run, weights
from support.image_sets import folder
from support.tiny import TINY

__all__ = ["data", "folder"]  # fixtures

CONFIGS = Path(__file__).parents[2] / "configs" / "mini-gpu"
COMPILED = dataclasses.replace(CONFIG, compile=True)


class Counting:
    """Runs what it is given as it is, and counts the networks."""

    def __init__(self) -> None:
        self.seen = 0

    def __call__(self, graph: torch.fx.GraphModule, inputs: list[torch.Tensor]) -> Callable[..., Any]:
        self.seen += 1
        return graph.forward


@pytest.fixture
def counting(monkeypatch: pytest.MonkeyPatch) -> Counting:
    torch.compiler.reset()
    backend = Counting()
    monkeypatch.setattr(compiled, "BACKEND", backend)
    return backend


@pytest.mark.filterwarnings("ignore")  # of the translator
def test_a_compiled_run_resumes_with_the_same_bits(
    data: loop.Data, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(compiled, "BACKEND", "aot_eager")
    for out, stage, whole in (("whole", Denoising(), True), ("broken", Denoising(interrupt_at=3), False)):
        torch.compiler.reset()
        run(stage, data, COMPILED, tmp_path / out, whole=whole)
    torch.compiler.reset()
    run(Denoising(), data, COMPILED, tmp_path / "broken", resume=True)
    ends = [checkpoint.load(tmp_path / out / "checkpoint-6.pt") for out in ("whole", "broken")]
    for one, other in zip(ends[0].trainable, ends[1].trainable, strict=True):
        assert torch.equal(one, other)
    assert all(
        torch.equal(v, weights(tmp_path / "broken")[k]) for k, v in weights(tmp_path / "whole").items()
    )


@pytest.mark.filterwarnings("ignore")
def test_steps_run_translated_and_validation_as_written(data: loop.Data, counting: Counting) -> None:
    trainer, plain = Trainer(Denoising(), COMPILED), Trainer(Denoising(), CONFIG)
    for step in range(2):
        loss = trainer.advance(data.training.batch(step)).loss.total
        assert torch.equal(loss, plain.advance(data.training.batch(step)).loss.total)
    assert counting.seen == 2  # two networks, translated once
    assert trainer.validate(data.held_out) == plain.validate(data.held_out)
    assert counting.seen == 2


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("stage", ["prior", "fixed-step"])
def test_the_stages_can_be_translated(stage: str, tmp_path: Path, counting: Counting) -> None:
    torch.manual_seed(0)
    save_file(perceptual.SqueezeNetDistance().state_dict(), tmp_path / "distance.safetensors")
    crop = 192 if stage == "fixed-step" else 64
    config = dataclasses.replace(
        settings.read(CONFIGS / f"{stage}.toml"),
        batch=2,
        crop=crop,
        perceptual=str(tmp_path / "distance.safetensors"),
    )
    pictures = torch.randint(0, 256, (2, 3, crop, crop), dtype=torch.uint8)
    losses = []
    for compile in (False, True):
        torch.manual_seed(0)
        one = dataclasses.replace(config, compile=compile)
        trainer = Trainer(build_stage(stage, Rdeic(TINY), one), one)
        losses.append([trainer.advance(pictures).loss.total for _ in range(2)])
    torch.testing.assert_close(losses[1], losses[0], rtol=1e-3, atol=0)
    # Each network whole: E, U-Net; and compression, control, D, two kinds of features and their distance.
    assert counting.seen == (2 if stage == "prior" else 8)


def test_a_machine_without_a_compiler_is_told_so(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("CC", "CXX"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("PATH", "")
    with pytest.raises(ConfigError, match=r"needs a C\+\+ compiler here.*set compile = false"):
        compiled.require_compiler(torch.device("cpu"))

"""A training run from pictures to a folder of weights that compresses, and what is said where there is none."""

from __future__ import annotations

import dataclasses
import os
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import rdeic
from rdeic import cli
from rdeic.checkpoints.checkpoints import save_model
from rdeic.errors import ConfigError, TrainingError
from rdeic.model.model import Rdeic
from rdeic.training import config as settings
from rdeic.training import run
from support.tiny import TINY
from support.training_runs import PLAIN, write_config

EXAMPLE = Path(__file__).parents[2] / "configs" / "mini" / "autoencoder.toml"


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pictures")
    rng = np.random.default_rng(0)
    for i in range(80):  # enough for the held-out share
        small = Image.fromarray(rng.integers(0, 255, (8, 8, 3), np.uint8))
        small.resize((136, 136), Image.Resampling.BICUBIC).save(folder / f"{i}.png")
    return folder


@pytest.fixture
def config(tmp_path: Path) -> settings.TrainConfig:
    start = tmp_path / "start"
    save_model(Rdeic(TINY), start)
    return dataclasses.replace(
        settings.read(EXAMPLE),
        model=str(start),
        steps=2,
        batch=2,
        crop=64,
        threads=0,
        validation_images=1,
        perceptual="",
        loss=dataclasses.replace(PLAIN.loss, lambda_min=0.1, lambda_max=1.0),
        critic=PLAIN.critic,
        method=PLAIN.method,
    )


@pytest.mark.filterwarnings("ignore")  # of tensorboard's dependencies
def test_every_stage_goes_on_from_the_one_before(
    pictures: Path, config: settings.TrainConfig, tmp_path: Path
) -> None:
    for stage in ("autoencoder", "prior", "independent", "fixed-step"):
        model = run(stage, config, [pictures], resume=False, dry_run=False, out=tmp_path / stage)
        assert model is not None
        config = dataclasses.replace(
            config, model=str(model), accumulate=2, checkpoint_activations=True, images_on="device"
        )
    picture = np.zeros((64, 64, 3), np.uint8)
    codec = rdeic.load(config.model, "cpu")
    assert codec.decompress(codec.compress(picture)).size == (64, 64)


@pytest.mark.parametrize("stage", ["autoencoder", "fixed-step"])
def test_a_dry_run_says_what_it_would_cost_and_writes_nothing(
    stage: str,
    pictures: Path,
    config: settings.TrainConfig,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    out = tmp_path / "out"
    config = dataclasses.replace(config, batch=4, accumulate=2, checkpoint_activations=True, steps=1000)
    assert run(stage, config, [pictures], resume=False, dry_run=True, out=out) is None
    printed = dict(line.split("  ", 1) for line in capsys.readouterr().out.splitlines())
    said = {name: value.strip() for name, value in printed.items()}
    model = Rdeic(TINY)
    everything = sum(p.numel() for p in model.parameters())
    parts = [model.autoencoder] if stage == "autoencoder" else [model.compression, model.control]
    trained = sum(p.numel() for part in parts for p in part.parameters())
    assert said["trainable parameters"] == f"{trained:,}"
    assert said["frozen parameters"] == f"{everything - trained:,}"
    assert said["batch"] == "4 = 1 processes x 2 micro-batches x 2 crops"
    hours = float(said["seconds per step"]) * 1000 / 3600
    assert float(said["estimated total"].split()[0]) == pytest.approx(hours, abs=0.01)
    assert said["peak memory"].endswith("MiB")
    assert not out.exists()


def failure(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], *arguments: str | Path
) -> str:
    """The one line with which the program ends."""
    monkeypatch.setattr(sys, "argv", ["rdeic", "train", *map(str, arguments)])
    with pytest.raises(SystemExit) as end:
        cli.main()
    lines = capfd.readouterr().err.splitlines()
    complaints = [line for line in lines if not line.startswith("step ")]  # those of the log come before
    assert end.value.code == 1 and len(complaints) == 1 and lines[-1] == complaints[0]
    assert complaints[0].startswith("rdeic: ")
    return complaints[0]


@pytest.mark.filterwarnings("ignore")  # of tensorboard's dependencies
def test_a_run_that_cannot_be_is_refused_in_one_line(
    pictures: Path,
    config: settings.TrainConfig,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    empty, broken, out = tmp_path / "empty", tmp_path / "broken", tmp_path / "out"
    empty.mkdir()
    broken.mkdir()
    (broken / "a.jpg").write_bytes(b"no picture")
    for changes, data, words in (
        ({}, empty, "no usable picture; point --data at folders"),
        ({}, broken, "no usable picture (1 unreadable); point --data"),
        ({}, tmp_path / "missing", "cannot list the pictures in"),
        ({"batch": 4, "accumulate": 3}, pictures, "batch must be a multiple of accumulate"),
        ({"precision": "fp16"}, pictures, 'needs a CUDA device, and there is none; set precision = "bf16"'),
        ({"keep_best": "beauty"}, pictures, "is no held-out metric of this stage: choose from eps_mse_20"),
        ({"model": "nothing/there"}, pictures, "nothing/there"),
        ({"learning_rate": 1e30, "steps": 4}, pictures, "no longer a number at step 2; lower learning_rate"),
    ):
        path = write_config(config, changes, tmp_path / "config.toml")
        said = failure(monkeypatch, capfd, "prior", "--config", path, "--data", data, "-o", out)
        assert words in said
        assert not list(out.glob("checkpoint*"))


def test_what_a_launcher_asks_for_and_cannot_have_is_refused(
    pictures: Path, config: settings.TrainConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def start() -> None:
        run("prior", config, [pictures], resume=False, dry_run=True, out=tmp_path)

    with monkeypatch.context() as patch:
        patch.setitem(os.environ, "ACCELERATE_USE_FSDP", "true")
        with pytest.raises(TrainingError, match="ACCELERATE_USE_FSDP is set"):
            start()
    with monkeypatch.context() as patch:
        patch.setitem(os.environ, "ACCELERATE_MIXED_PRECISION", "fp16")
        with pytest.raises(ConfigError, match="accelerate is set to mixed precision fp16"):
            start()
    with monkeypatch.context() as patch:
        patch.setitem(os.environ, "WORLD_SIZE", "2")
        patch.setitem(sys.modules, "accelerate", None)
        with pytest.raises(
            TrainingError, match=r"several processes need accelerate; pip install 'rdeic\[train\]'"
        ):
            start()

"""A training run from pictures to a folder of weights that compresses."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
from conftest import TINY
from PIL import Image

import rdeic
from rdeic.checkpoints import save_model
from rdeic.model import Rdeic
from rdeic.training import config as settings
from rdeic.training import run

EXAMPLE = Path(__file__).parents[1] / "configs" / "mini" / "autoencoder.toml"


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    folder = tmp_path / "pictures"
    folder.mkdir()
    rng = np.random.default_rng(0)
    for i in range(80):  # enough for the held-out share
        small = Image.fromarray(rng.integers(0, 255, (8, 8, 3), np.uint8))
        small.resize((264, 264), Image.Resampling.BICUBIC).save(folder / f"{i}.png")
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
        loss=settings.LossWeights(
            kl=1e-4, lambda_min=0.1, lambda_max=1.0, mse=1.0, perceptual=0.0, ms_ssim=0.0, latent=1.0
        ),
    )


@pytest.mark.filterwarnings("ignore")  # of tensorboard's dependencies
def test_every_stage_goes_on_from_the_one_before(
    pictures: Path, config: settings.TrainConfig, tmp_path: Path
) -> None:
    for stage in ("autoencoder", "prior", "independent", "fixed-step"):
        model = run(stage, config, [pictures], resume=False, dry_run=False, out=tmp_path / stage)
        assert model is not None
        config = dataclasses.replace(config, model=str(model))
    picture = np.zeros((64, 64, 3), np.uint8)
    codec = rdeic.load(config.model, "cpu")
    assert codec.decompress(codec.compress(picture)).size == (64, 64)


def test_a_dry_run_says_what_it_would_cost_and_writes_nothing(
    pictures: Path, config: settings.TrainConfig, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    assert run("prior", config, [pictures], resume=False, dry_run=True, out=out) is None
    printed = capsys.readouterr().out
    for line in ("trainable parameters", "frozen parameters", "seconds per step", "peak memory"):
        assert line in printed
    assert not out.exists()

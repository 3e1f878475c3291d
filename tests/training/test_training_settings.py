"""Settings of a training run: examples, documentation, refusals."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from rdeic.config import PRESETS
from rdeic.errors import ConfigError
from rdeic.training import config as settings
from rdeic.training.config import CriticConfig, LossWeights, TrainConfig
from rdeic.training.method import MethodConfig

CONFIGS = Path(__file__).parents[2] / "configs"


@pytest.mark.parametrize(
    "path", sorted(CONFIGS.rglob("*.toml")), ids=lambda path: str(path.relative_to(CONFIGS))
)
def test_every_example_is_complete(path: Path) -> None:
    assert settings.read(path).name in PRESETS


def test_every_setting_is_documented() -> None:
    page = (CONFIGS.parent / "docs" / "training.md").read_text(encoding="utf-8")
    for kind in (TrainConfig, LossWeights, CriticConfig, MethodConfig):
        for field in dataclasses.fields(kind):
            assert f"`{field.name}`" in page or f"`[{field.name}]`" in page, field.name


def test_wrong_settings_are_named(tmp_path: Path) -> None:
    text = (CONFIGS / "mini" / "prior.toml").read_text(encoding="utf-8")
    path = tmp_path / "prior.toml"
    for old, new, complaint in (
        ("batch = ", "batsch = ", "batsch"),
        ('precision = "bf16"', 'precision = "fp8"', "precision must be one of fp32, bf16, fp16"),
        ('images_on = "host"', 'images_on = "moon"', "images_on must be one of host, device"),
        ("accumulate = 1", "accumulate = 3", "batch must be a multiple of accumulate"),
        ("crop = 128", "crop = 130", "crop must be a multiple of 64 up to 4096"),
        ("kl = 0.0", "kl = -1.0", r"loss\.kl must be at least 0"),
        ("[loss]", "[loss", "not valid TOML"),
    ):
        assert old in text
        path.write_text(text.replace(old, new), encoding="utf-8")
        with pytest.raises(ConfigError, match=complaint):
            settings.read(path)
    with pytest.raises(ConfigError, match=r"none\.toml"):
        settings.read(tmp_path / "none.toml")

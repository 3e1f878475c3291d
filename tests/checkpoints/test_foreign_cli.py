"""`rdeic import-checkpoint`: from files to a model folder, each rate with its steps, refusals in one line."""

from __future__ import annotations

import sys
from typing import Any

import pytest
import torch

import rdeic
from rdeic import cli
from rdeic import config as configs
from rdeic.checkpoints import registry
from rdeic.checkpoints.checkpoints import load_model
from support.foreign_sources import CONFIG, Sources, own, sources, stable_diffusion

__all__ = ["own", "sources", "stable_diffusion"]  # fixtures


class TestCommand:
    def run(
        self, monkeypatch: pytest.MonkeyPatch, *arguments: object, command: str = "import-checkpoint"
    ) -> object:
        monkeypatch.setattr(sys, "argv", ["rdeic", command, *map(str, arguments)])
        with pytest.raises(SystemExit) as exit_:
            cli.main()
        return exit_.value.code

    def test_from_files_to_a_model_folder(
        self, sources: Sources, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        settings, out = sources.folder / "config.json", sources.folder / "out"
        settings.write_text(configs.to_json(CONFIG))
        places = ("--sd", sources.safetensors, "--rdeic", sources.rdeic, "-o", out)
        assert self.run(monkeypatch, *places, "--config", settings) == 0
        assert registry.fingerprint(out).hex() in capsys.readouterr().out
        assert registry.describe(out).config == CONFIG

    def test_models_shows_each_rate(
        self, sources: Sources, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        finer = sources.pickled("finer.ckpt", {**sources.own, "control_model.scale_list": torch.ones(25)})
        folder = sources.import_(sources.safetensors, "both", sources.rdeic, finer)
        assert self.run(monkeypatch, folder, command="models") == 0
        *_, model, low, high = capsys.readouterr().out.splitlines()
        assert f"{registry.describe(folder).weight_bytes / 1e6:.1f} MB  2 fixed rates" in model
        for line, rate, quality in zip((low, high), registry.rates(folder), ("0", "100"), strict=True):
            own = sum(path.stat().st_size for path in rate.glob("rate-*")) / 1e6
            fingerprint = registry.fingerprint(rate).hex()
            steps = CONFIG.diffusion.default_steps
            assert line == f"  quality {quality}  {fingerprint}  {own:.1f} MB  {steps} steps  {rate.name}"

    @pytest.mark.parametrize(
        ("names", "options", "steps"),
        [
            (("rdeic_0.5_step5", "rdeic_2_step2"), (), (5, 2)),
            (("low", "high"), ("--steps", "5", "--steps", "2"), (5, 2)),
            (("low_step5", "high"), ("--steps", "3"), (3, 3)),
            (("low_step5", "high"), (), (5, CONFIG.diffusion.default_steps)),
        ],
    )
    def test_each_rate_keeps_the_steps_it_was_tuned_for(
        self,
        sources: Sources,
        monkeypatch: pytest.MonkeyPatch,
        photo: Any,
        names: tuple[str, ...],
        options: tuple[str, ...],
        steps: tuple[int, ...],
    ) -> None:
        settings, out = sources.folder / "config.json", sources.folder / "out"
        settings.write_text(configs.to_json(CONFIG))
        given = [
            argument
            for name in names
            for argument in ("--rdeic", sources.pickled(f"{name}.ckpt", sources.own))
        ]
        places = ("--sd", sources.safetensors, *given, "-o", out, "--config", settings)
        assert self.run(monkeypatch, *places, *options) == 0
        codec = rdeic.load(out, device="cpu")
        blobs = [codec.compress(photo, quality=quality) for quality in (0, 100)]
        assert tuple(rdeic.inspect(blob).steps for blob in blobs) == steps

    def test_a_name_that_counts_training_steps_is_refused(
        self, sources: Sources, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        settings, out = sources.folder / "config.json", sources.folder / "out"
        settings.write_text(configs.to_json(CONFIG))
        checkpoint = sources.pickled("rdeic_step50000.ckpt", sources.own)
        places = ("--sd", sources.safetensors, "--rdeic", checkpoint, "-o", out, "--config", settings)
        assert self.run(monkeypatch, *places) == 1
        assert "50000 denoising steps; say with --steps" in capsys.readouterr().err
        assert not out.exists()

    def test_steps_that_fit_no_checkpoint_are_refused(
        self, sources: Sources, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        places = ("--sd", sources.safetensors, "--rdeic", sources.rdeic, "-o", sources.folder / "out")
        assert self.run(monkeypatch, *places, "--steps", "5", "--steps", "2") == 1
        assert "1 --rdeic but 2 --steps" in capsys.readouterr().err

    def test_without_a_checkpoint_the_rest_is_fresh_and_changes_nothing_yet(
        self, sources: Sources, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        settings = sources.folder / "config.json"
        settings.write_text(configs.to_json(CONFIG))
        common = ("--sd", sources.safetensors, "--config", settings, "--precision", "fp32", "-o")
        for name in ("one", "two"):
            assert self.run(monkeypatch, *common, sources.folder / name) == 0
        assert registry.fingerprint(sources.folder / "one") == registry.fingerprint(sources.folder / "two")
        (model, _), (whole, _) = (
            load_model(folder, "cpu")
            for folder in (
                sources.folder / "one",
                sources.import_(sources.safetensors, "whole", precision="fp32"),
            )
        )
        for key, value in whole.unet.state_dict().items():
            assert torch.equal(model.unet.state_dict()[key], value)
        assert not torch.equal(model.compression.to_latent.weight, whole.compression.to_latent.weight)
        latent, width = CONFIG.autoencoder.latent_channels, CONFIG.compression.width
        z, guide, t = torch.randn(1, latent, 16, 16), torch.randn(1, width, 16, 16), torch.tensor([7])
        with torch.inference_mode():
            steered, free = (model.predict_noise(z, t, guide, detail) for detail in (1.0, 0.0))
            assert torch.equal(steered, free)

    def test_steps_without_a_checkpoint_are_refused(
        self, sources: Sources, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        places = ("--sd", sources.safetensors, "-o", sources.folder / "out", "--steps", "5")
        assert self.run(monkeypatch, *places) == 1
        assert "--steps says what --rdeic was fine-tuned for" in capsys.readouterr().err

    def test_weights_of_other_widths_are_a_failure_in_one_line(
        self, sources: Sources, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        places = ("--sd", sources.safetensors, "--rdeic", sources.rdeic, "-o", sources.folder / "out")
        assert self.run(monkeypatch, *places) == 1
        (line,) = capsys.readouterr().err.splitlines()
        assert "rdeic_2.ckpt does not fit" in line and "misshaped: control_model." in line

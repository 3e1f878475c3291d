"""The paper's recipe and the ablations of its Section V: configurations that load, stages that do what they say."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import rdeic
from rdeic.checkpoints.checkpoints import save_model
from rdeic.config import PRESETS, SD21
from rdeic.diffusion.schedule import alpha_bars
from rdeic.errors import ConfigError
from rdeic.model.model import Rdeic
from rdeic.pictures import images
from rdeic.training import config as settings
from rdeic.training.config import TrainConfig
from rdeic.training.method import MethodConfig, reshaped
from rdeic.training.stages import build_stage, reshape
from rdeic.types import CompressedFeatures
from support.stages import config, fresh, learnt, lively, noise, pictures, reached
from support.tiny import TINY, WIDE

CONFIGS = Path(__file__).parents[2] / "configs"
FILES = sorted(CONFIGS.rglob("*.toml"))
RELAY = config().method
# Name: stage, method. All sizes are those of the tiny model.
VARIANTS = {
    "pure noise": ("independent", dataclasses.replace(RELAY, framework="pure-noise", steps=50)),
    "no diffusion": ("independent", dataclasses.replace(RELAY, framework="none")),
    "N = 100": ("independent", dataclasses.replace(RELAY, relay_start=100)),
    "N = 600": ("fixed-step", dataclasses.replace(RELAY, relay_start=600)),
    "L = 1": ("fixed-step", dataclasses.replace(RELAY, steps=1)),
    "L = 5": ("fixed-step", dataclasses.replace(RELAY, steps=5)),
    "64 entries": ("independent", dataclasses.replace(RELAY, codebook=64)),
}


def variant(name: str, **changes: object) -> tuple[str, TrainConfig]:
    stage, method = VARIANTS[name]
    return stage, dataclasses.replace(config(), method=method, **changes)  # type: ignore[arg-type]


def terms(stage: str, model: Rdeic, method: MethodConfig, seed: int = 0) -> dict[str, float]:
    built = build_stage(stage, model, dataclasses.replace(config(), method=method))
    with torch.no_grad():
        loss = built.loss(pictures() / 127.5 - 1, noise(seed))
    return {name: float(value) for name, value in loss.terms}


# Configurations


def command(path: Path) -> tuple[str, str]:
    """Stage and configuration of the command in a file's head."""
    found = re.search(r"^# Run: +rdeic train ([\w-]+) --config (\S+)", path.read_text(encoding="utf-8"), re.M)
    assert found is not None
    return found[1], found[2]


@pytest.mark.parametrize("path", FILES, ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_every_configuration_loads_and_says_how_it_is_run(path: Path) -> None:
    chosen = settings.read(path)
    stage, named = command(path)
    assert named == str(path.relative_to(CONFIGS.parent))
    shape = reshaped(PRESETS[chosen.name], chosen.method)
    assert shape.diffusion.default_steps == chosen.method.steps
    silent = dataclasses.replace(
        chosen,
        perceptual="",
        loss=dataclasses.replace(chosen.loss, perceptual=0.0),
        critic=dataclasses.replace(chosen.critic, feature=0.0),
    )
    model = fresh()  # the preset's size makes no difference to what a stage accepts
    assert build_stage(stage, model, silent).trainable()
    assert model.config.diffusion == shape.diffusion


@pytest.mark.parametrize("path", FILES, ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_every_run_starts_from_one_of_the_others(path: Path) -> None:
    model = settings.read(path).model
    roots = ("mini", "mini-next", "models/sd21-start", "runs/ablation/start/model", "runs/mini/start")
    before = CONFIGS / path.parent.name / f"{Path(model).parent.name}.toml"
    assert model in roots or (model == f"runs/{path.parent.name}/{before.stem}/model" and before.is_file())


def test_full_size_is_the_recipe_of_the_paper() -> None:
    """Section IV-A2: 300K iterations for each lambda_r, the first 100K shared."""
    rates = {"2": 2, "1": 2, "0.5": 5, "0.25": 5, "0.1": 5}  # lambda_r: L
    expected = {"independent-first": ("independent", "models/sd21-start", 512, 1e-4, 2.0, 0.0, 0.0, 2)}
    for rate, steps in rates.items():
        first, second = f"independent-{rate}", f"fixed-step-{rate}"
        before = "runs/sd21/independent-first/model"
        expected[first] = ("independent", before, 512, 2e-5, float(rate), 0.0, 0.0, steps)
        before = f"runs/sd21/{first}/model"
        expected[second] = ("fixed-step", before, 256, 2e-5, float(rate), 1.0, 0.5, steps)
    found = {}
    for path in (CONFIGS / "sd21").glob("*.toml"):
        run = settings.read(path)
        loss = run.loss
        assert (run.steps, run.batch, run.accumulate) == (100_000, 4, 1)
        assert (run.warmup_steps, run.final_lr_fraction, run.weight_decay, run.ema_decay) == (
            0,
            1.0,
            0.0,
            0.0,
        )
        assert (run.clip_norm, run.rounded_rate, run.train_decoder) == (float("inf"), False, False)
        assert (loss.lambda_min, loss.latent, loss.ms_ssim) == (loss.lambda_max, 1.0, 0.0)
        assert (run.method.framework, run.method.relay_start, run.method.codebook) == ("relay", 300, 16384)
        what = (run.model, run.crop, run.learning_rate, loss.lambda_min, loss.mse, loss.perceptual)
        found[path.stem] = (command(path)[0], *what, run.method.steps)
    assert found == expected
    assert reshaped(SD21, settings.read(CONFIGS / "sd21" / "fixed-step-2.toml").method) == SD21


ABLATIONS = [path for path in FILES if path.parent.name == "ablation" and path.stem != "prior"]


@pytest.mark.parametrize("path", ABLATIONS, ids=lambda path: path.stem)
def test_ablations_differ_in_nothing_but_what_they_are_about(path: Path) -> None:
    ending = next((end for end in ("-longer", "-fsft") if path.stem.endswith(end)), "")
    ours, reference = settings.read(path), settings.read(path.with_name(f"rrd{ending}.toml"))
    assert dataclasses.replace(ours, model=reference.model, method=reference.method) == reference
    fields = dataclasses.asdict(reference.method)
    moved = [name for name, value in dataclasses.asdict(ours.method).items() if value != fields[name]]
    about = {"baseline": ["framework", "steps"], "no-diffusion": ["framework"], "rrd": []}
    about |= {"steps": ["steps"], "start": ["relay_start"], "codebook": ["codebook"]}
    assert moved == about[re.split(r"-\d|-longer|-fsft", path.stem)[0]]


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"framework": "relais"}, "method.framework must be one of relay, pure-noise, none, not 'relais'"),
        ({"steps": 0}, "method.steps must be between 1 and 255"),
        ({"steps": 101, "relay_start": 100}, "method.steps must be between 1 and 100"),
        ({"codebook": 1}, "at least 1 and 2"),
    ],
)
def test_methods_that_make_no_sense_are_refused(changes: dict[str, object], complaint: str) -> None:
    with pytest.raises(ConfigError, match=complaint):
        dataclasses.replace(RELAY, **changes)  # type: ignore[arg-type]


def test_methods_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ConfigError, match="relay_start must be at most 1000"):
        reshape(fresh(), dataclasses.replace(RELAY, relay_start=1001), seed=0)
    for framework in ("pure-noise", "none"):
        method = dataclasses.replace(RELAY, framework=framework)
        with pytest.raises(ConfigError, match="fixed-step stage goes through the relay"):
            build_stage("fixed-step", fresh(), dataclasses.replace(config(), method=method))


# What a run leaves in its model


def test_a_model_keeps_the_steps_and_the_codebook_it_was_trained_with(
    tmp_path: Path, photo: images.Picture
) -> None:
    model = fresh()
    build_stage("fixed-step", model, dataclasses.replace(config(), method=MethodConfig("relay", 250, 5, 64)))
    save_model(model, tmp_path / "model")
    codec = rdeic.load(tmp_path / "model", "cpu")
    blob = codec.compress(photo, quality=0)
    assert rdeic.inspect(blob).steps == 5
    assert codec.config.diffusion.relay_start == 250
    assert codec.config.compression.codebook_size == 64
    assert codec.decompress(blob).size == (photo.shape[1], photo.shape[0])


def test_a_codebook_of_the_same_size_is_kept_and_another_depends_on_the_seed_alone() -> None:
    def entries(codebook: int, seed: int, draws: int) -> Tensor:
        model = fresh()
        torch.rand(draws)  # what happened before leaves no trace
        reshape(model, dataclasses.replace(RELAY, codebook=codebook), seed)
        return model.compression.entropy.codebook.entries

    assert torch.equal(entries(16, 1, 0), fresh().compression.entropy.codebook.entries)
    assert entries(64, 1, 0).shape == (64, TINY.compression.width)
    assert torch.equal(entries(64, 1, 0), entries(64, 1, 3))
    assert not torch.equal(entries(64, 1, 0), entries(64, 2, 0))


# Stages


@pytest.mark.parametrize("name", ["pure noise", "no diffusion", "N = 600"])  # the others differ by numbers
def test_a_variant_learns_one_batch_by_heart(name: str) -> None:
    kind, chosen = variant(name)
    assert learnt(build_stage(kind, fresh().train(), chosen), 25) < 0.7


@pytest.mark.parametrize("name", VARIANTS)
def test_gradients_reach_what_a_variant_trains_and_nothing_else(name: str) -> None:
    model = lively(WIDE)
    kind, chosen = variant(name)
    own = ("compression.",) if chosen.method.framework == "none" else ("compression.", "control.")
    found = reached(build_stage(kind, model, chosen))
    assert found == {n for n, _ in model.named_parameters() if n.startswith(own)}


@pytest.mark.parametrize(
    ("name", "low", "high"), [("pure noise", 700, 999), ("N = 100", 70, 99), ("64 entries", 210, 299)]
)
def test_noise_levels_reach_up_to_where_sampling_begins(name: str, low: int, high: int) -> None:
    model = fresh()
    seen: list[int] = []
    model.control.register_forward_pre_hook(lambda module, args: seen.extend(args[2].tolist()))
    _, chosen = variant(name)
    for seed in range(25):  # two pictures each: all 50 below 70% of the range has a probability of 1e-8
        terms("independent", model, chosen.method, seed)
    assert low <= max(seen) <= high
    assert min(seen) < low / 2


def test_pure_noise_learns_the_noise_and_not_the_residual() -> None:
    """A noise estimator that says 0 errs by the noise's variance, whatever z_c; in the relay by e as well."""
    model = fresh()
    nn.init.zeros_(model.unet.conv_out.weight)
    nn.init.zeros_(model.unet.conv_out.bias)
    nn.init.constant_(model.compression.to_latent.bias, 30.0)
    levels: list[int] = []
    model.control.register_forward_pre_hook(lambda module, args: levels.extend(args[2].tolist()))
    error = terms("independent", model, VARIANTS["pure noise"][1])["eps"]
    weights = alpha_bars(model.config.diffusion)[levels] ** -0.5
    assert error == pytest.approx(weights.mean(), rel=0.2)
    assert terms("independent", model, RELAY)["z0"] > 3


@pytest.mark.parametrize(("framework", "mean_level"), [("relay", 1 / 3), ("pure-noise", 1 / 2)])
def test_a_prior_learns_the_levels_that_its_framework_needs(framework: str, mean_level: float) -> None:
    """Low ones oftener for the relay; all alike, and by what they do to z0_hat, where sampling begins at T."""
    model = fresh()
    nn.init.zeros_(model.unet.conv_out.weight)
    nn.init.zeros_(model.unet.conv_out.bias)
    levels: list[int] = []
    model.unet.register_forward_pre_hook(lambda module, args: levels.extend(args[1].tolist()))
    chosen = dataclasses.replace(config(), method=dataclasses.replace(RELAY, framework=framework))
    stage = build_stage("prior", model, chosen)
    with torch.no_grad():
        losses = [float(stage.loss(pictures() / 127.5 - 1, noise(seed)).total) for seed in range(60)]
    alpha_bar = alpha_bars(model.config.diffusion)
    assert np.mean(levels) / len(alpha_bar) == pytest.approx(mean_level, abs=0.08)
    weights = 1 / alpha_bar[levels] if framework == "pure-noise" else np.ones(len(levels))
    assert np.mean(losses) == pytest.approx(weights.mean(), rel=0.05)


def test_without_diffusion_nothing_but_z_c_counts() -> None:
    found = terms("independent", fresh(), VARIANTS["no diffusion"][1])
    assert set(found) == {"bpp", "codebook", "z_c"}


@pytest.mark.parametrize("name", ["pure noise", "no diffusion", "L = 5"])
def test_validation_restores_as_the_variant_does(name: str) -> None:
    model = fresh().eval()
    kind, chosen = variant(name)
    calls: list[int] = []
    model.unet.register_forward_pre_hook(lambda module, args: calls.append(int(args[1][0])))
    with torch.no_grad():
        build_stage(kind, model, chosen).validation(pictures(192) / 127.5 - 1, noise(0))
    steps = {"pure noise": 50, "no diffusion": 0, "L = 5": 5}[name]
    assert len(calls) == 3 * steps  # at three qualities
    assert calls[:1] == {"pure noise": [999], "no diffusion": [], "L = 5": [299]}[name]


def test_without_a_sampler_the_decoder_sees_z_c() -> None:
    def none() -> Iterator[Tensor]:
        raise AssertionError("noise was asked for")
        yield

    model = fresh().eval()
    features = CompressedFeatures(torch.randn(1, 4, 8, 8), torch.randn(1, TINY.compression.width, 8, 8))
    with torch.no_grad():
        restored = model.restore(features, none(), 0, 1.0, None)
        assert torch.equal(restored, model.autoencoder.decode(features.z_c))

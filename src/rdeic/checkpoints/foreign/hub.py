"""The folder layout of hub repositories: `unet/`, `vae/` and `text_encoder/`, each with its own names."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path

from rdeic.checkpoints.foreign.keys import Leaves, Part
from rdeic.checkpoints.foreign.original import TRANSFORMER
from rdeic.config import AutoencoderConfig, UNetConfig
from rdeic.errors import CheckpointError

UNET, AUTOENCODER, TEXT = "unet", "vae", "text_encoder"
_STEMS = {UNET: "diffusion_pytorch_model", AUTOENCODER: "diffusion_pytorch_model", TEXT: "model"}

AE_RES: Leaves = {name: name for name in ("norm1", "conv1", "norm2", "conv2")} | {"skip": "conv_shortcut"}
RES: Leaves = {**AE_RES, "embed": "time_emb_proj"}
AE_ATTENTION: Leaves = {"norm": "group_norm", "q": "to_q", "k": "to_k", "v": "to_v", "out": "to_out.0"}
OLD_AE_ATTENTION: Leaves = {"norm": "group_norm", "q": "query", "k": "key", "v": "value", "out": "proj_attn"}
TIME_EMBEDDING: Leaves = {"0": "linear_1", "2": "linear_2"}


def unet(config: UNetConfig) -> list[Part]:
    """Names of the noise estimator's tensors in the hub's folder layout, by ours."""
    parts = [
        Part("unet.encoder.time_embed", "time_embedding", TIME_EMBEDDING),
        Part("unet.encoder.inputs.0.conv", "conv_in"),
        Part("unet.encoder.middle.res1", "mid_block.resnets.0", RES),
        Part("unet.encoder.middle.transformer", "mid_block.attentions.0", TRANSFORMER),
        Part("unet.encoder.middle.res2", "mid_block.resnets.1", RES),
        Part("unet.norm_out", "conv_norm_out"),
        Part("unet.conv_out", "conv_out"),
    ]
    count = config.blocks_per_level
    for level in range(len(config.widths)):
        down, up = f"down_blocks.{level}", f"up_blocks.{level}"
        first = level * (count + 1)
        for i in range(count):
            here = f"unet.encoder.inputs.{first + 1 + i}"
            parts.append(Part(f"{here}.res", f"{down}.resnets.{i}", RES))
            parts.append(Part(f"{here}.transformer", f"{down}.attentions.{i}", TRANSFORMER))
        parts.append(Part(f"unet.encoder.inputs.{first + count + 1}.conv", f"{down}.downsamplers.0.conv"))
        for i in range(count + 1):
            here = f"unet.outputs.{first + i}"
            parts.append(Part(f"{here}.res", f"{up}.resnets.{i}", RES))
            parts.append(Part(f"{here}.transformer", f"{up}.attentions.{i}", TRANSFORMER))
        parts.append(Part(f"unet.outputs.{first + count}.up.conv", f"{up}.upsamplers.0.conv"))
    return parts


def autoencoder(config: AutoencoderConfig, found: Iterable[str] = ()) -> list[Part]:
    """E and D. Files older than 2023 call the attention's projections otherwise; `found` tells."""
    old = any(".query." in name for name in found)
    attention = OLD_AE_ATTENTION if old else AE_ATTENTION
    parts = [Part(f"autoencoder.{name}", name) for name in ("quant_conv", "post_quant_conv")]
    for half, side, blocks in (("encoder", "down", 0), ("decoder", "up", 1)):
        here = f"autoencoder.{half}"
        parts += [Part(f"{here}.{name}", f"{half}.{name}") for name in ("conv_in", "conv_out")]
        parts.append(Part(f"{here}.norm_out", f"{half}.conv_norm_out"))
        parts += [
            Part(f"{here}.middle.block{i + 1}", f"{half}.mid_block.resnets.{i}", AE_RES) for i in (0, 1)
        ]
        middle = f"{half}.mid_block.attentions.0"
        parts.append(Part(f"{here}.middle.attention", middle, attention, matrices=True))
        count = config.blocks_per_level + blocks
        for level in range(len(config.widths)):
            there = f"{half}.{side}_blocks.{level}"
            parts += [
                Part(f"{here}.levels.{level}.{i}", f"{there}.resnets.{i}", AE_RES) for i in range(count)
            ]
            parts.append(Part(f"{here}.levels.{level}.{count}.conv", f"{there}.{side}samplers.0.conv"))
    return parts


def weight_file(folder: Path, part: str) -> Path:
    """The weights of `part` in a repository's folder, float32 before float16. Raises CheckpointError without any."""
    stem = _STEMS[part]
    for name in (f"{stem}.safetensors", f"{stem}.fp16.safetensors"):
        if (folder / part / name).is_file():
            return folder / part / name
    raise CheckpointError(
        f"{folder} has no {part}/{stem}.safetensors: give a folder with {UNET}, {AUTOENCODER} and {TEXT}"
    )


def require_noise_prediction(folder: Path) -> None:
    """Raise CheckpointError for a model that predicts something else; its weights would fit all the same."""
    path = folder / "scheduler" / "scheduler_config.json"
    if not path.is_file():
        return
    try:
        kind = json.loads(path.read_text(encoding="utf-8")).get("prediction_type", "epsilon")
    except (OSError, ValueError, AttributeError) as error:
        raise CheckpointError(f"{path}: cannot be read: {error}") from error
    if kind != "epsilon":
        raise CheckpointError(
            f"{folder} predicts {kind}, not the noise: take Stable Diffusion 2.1-base (512), not 2.1 (768)"
        )

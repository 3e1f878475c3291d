"""The layout of Stable Diffusion's original checkpoints, and of the authors' on top of it.

model.diffusion_model.   noise estimator     control_model.      control network
first_stage_model.       autoencoder         preprocess_model.   compression module
cond_stage_model.        text encoder (see `text`)
"""

from __future__ import annotations

from rdeic.checkpoints.foreign.keys import SAME, Leaves, Part
from rdeic.config import AutoencoderConfig, CompressionConfig, ModelConfig, UNetConfig
from rdeic.errors import ConfigError

UNET = "model.diffusion_model"
AUTOENCODER = "first_stage_model"
TEXT = "cond_stage_model.model"
CONTROL = "control_model"
COMPRESSION = "preprocess_model"

AE_RES: Leaves = {name: name for name in ("norm1", "conv1", "norm2", "conv2")} | {"skip": "nin_shortcut"}
AE_ATTENTION: Leaves = {name: name for name in ("norm", "q", "k", "v")} | {"out": "proj_out"}
RES: Leaves = {
    "norm1": "in_layers.0",
    "conv1": "in_layers.2",
    "embed": "emb_layers.1",
    "norm2": "out_layers.0",
    "conv2": "out_layers.3",
    "skip": "skip_connection",
}
TRANSFORMER: Leaves = {
    **{name: name for name in ("norm", "proj_in", "proj_out")},
    **{name: f"transformer_blocks.0.{name}" for name in ("norm1", "norm2", "norm3")},
    **{f"{a}.{p}": f"transformer_blocks.0.{a}.to_{p}" for a in ("attn1", "attn2") for p in ("q", "k", "v")},
    **{f"{a}.out": f"transformer_blocks.0.{a}.to_out.0" for a in ("attn1", "attn2")},
    "feed_forward.widen": "transformer_blocks.0.ff.net.0.proj",
    "feed_forward.out": "transformer_blocks.0.ff.net.2",
}
TIME_EMBEDDING: Leaves = {"0": "0", "2": "2"}
RESIDUAL: Leaves = {"conv1": "conv1", "conv2": "conv2", "skip": "adaptor"}
STRIDED: Leaves = {"conv1": "conv1", "conv2": "conv2", "skip": "downsample"}
UPSAMPLE: Leaves = {"up.0": "subpel_conv.0", "conv": "conv", "skip.0": "upsample.0"}
FUSION: Leaves = {index: f"fusion.{index}" for index in ("0", "2", "4")}
CHANNEL_FUSION: Leaves = {index: f"fushion.{index}" for index in ("0", "2", "4")}  # sic


def stable_diffusion(config: ModelConfig) -> list[Part]:
    """Names of the noise estimator's and the autoencoder's tensors in Stable Diffusion's file, by ours."""
    return unet(config.unet) + autoencoder(published(config))


def authors(config: ModelConfig) -> list[Part]:
    """Names of the control network's and the compression module's tensors in the authors' file, by ours."""
    return control(config.unet) + compression(config.compression)


def published(config: ModelConfig) -> AutoencoderConfig:
    """The autoencoder's shape. Raises ConfigError for one that no published weights have."""
    if not isinstance(config.autoencoder, AutoencoderConfig):
        raise ConfigError(
            f"no published weights fit the autoencoder of {config.name}; name a model like sd21"
        )
    return config.autoencoder


def autoencoder(config: AutoencoderConfig) -> list[Part]:
    """E and D, as Stable Diffusion's file names their tensors."""
    ours, theirs, top = "autoencoder", AUTOENCODER, len(config.widths) - 1
    parts = [Part(f"{ours}.{name}", f"{theirs}.{name}") for name in ("quant_conv", "post_quant_conv")]
    for half in ("encoder", "decoder"):
        here, there = f"{ours}.{half}", f"{theirs}.{half}"
        parts += [Part(f"{here}.{name}", f"{there}.{name}") for name in ("conv_in", "norm_out", "conv_out")]
        parts += [Part(f"{here}.middle.block{i}", f"{there}.mid.block_{i}", AE_RES) for i in (1, 2)]
        parts.append(Part(f"{here}.middle.attention", f"{there}.mid.attn_1", AE_ATTENTION))
    for level in range(top + 1):
        here, there, count = (
            f"{ours}.encoder.levels.{level}",
            f"{theirs}.encoder.down.{level}",
            config.blocks_per_level,
        )
        parts += [Part(f"{here}.{i}", f"{there}.block.{i}", AE_RES) for i in range(count)]
        parts.append(Part(f"{here}.{count}.conv", f"{there}.downsample.conv"))
        here, there, count = f"{ours}.decoder.levels.{top - level}", f"{theirs}.decoder.up.{level}", count + 1
        parts += [Part(f"{here}.{i}", f"{there}.block.{i}", AE_RES) for i in range(count)]
        parts.append(Part(f"{here}.{count}.conv", f"{there}.upsample.conv"))
    return parts


def unet(config: UNetConfig) -> list[Part]:
    """The noise estimator, as Stable Diffusion's file names its tensors."""
    parts = _encoder(config, "unet.encoder", UNET)
    index = 0
    for level in reversed(range(len(config.widths))):
        up = 2 if level in config.attention_levels else 1
        for _ in range(config.blocks_per_level + 1):
            here, there = f"unet.outputs.{index}", f"{UNET}.output_blocks.{index}"
            parts.append(Part(f"{here}.res", f"{there}.0", RES))
            parts.append(Part(f"{here}.transformer", f"{there}.1", TRANSFORMER))
            parts.append(Part(f"{here}.up.conv", f"{there}.{up}.conv"))
            index += 1
    return [*parts, Part("unet.norm_out", f"{UNET}.out.0"), Part("unet.conv_out", f"{UNET}.out.2")]


def _encoder(config: UNetConfig, ours: str, theirs: str) -> list[Part]:
    parts = [
        Part(f"{ours}.time_embed", f"{theirs}.time_embed", TIME_EMBEDDING),
        Part(f"{ours}.inputs.0.conv", f"{theirs}.input_blocks.0.0"),
        Part(f"{ours}.middle.res1", f"{theirs}.middle_block.0", RES),
        Part(f"{ours}.middle.transformer", f"{theirs}.middle_block.1", TRANSFORMER),
        Part(f"{ours}.middle.res2", f"{theirs}.middle_block.2", RES),
    ]
    count = len(config.widths) * (
        config.blocks_per_level + 1
    )  # the first convolution, but no last downsampling
    for i in range(1, count):
        here, there = f"{ours}.inputs.{i}", f"{theirs}.input_blocks.{i}"
        parts.append(Part(f"{here}.res", f"{there}.0", RES))
        parts.append(Part(f"{here}.transformer", f"{there}.1", TRANSFORMER))
        parts.append(Part(f"{here}.conv", f"{there}.0.op"))
    return parts


def control(config: UNetConfig) -> list[Part]:
    """The control network with its connections."""
    count = len(config.widths) * (config.blocks_per_level + 1)
    parts = _encoder(config, "control.encoder", f"{CONTROL}.control_model")
    for half, name in (("to_encoder", "enc_zero_convs_out"), ("to_decoder", "dec_zero_convs_out")):
        parts += [Part(f"control.{half}.{i}", f"{CONTROL}.{name}.{i}.0") for i in range(count)]
    return [*parts, Part("control.to_middle", f"{CONTROL}.middle_block_out.0")]


def compression(config: CompressionConfig) -> list[Part]:
    """Transforms, codebook and context model."""
    ours, theirs, blocks = "compression", COMPRESSION, [RESIDUAL] * config.blocks
    codebook: Leaves = {"entries": "embedding.weight", "usage": "embed_prob"}
    return [
        *_sequence(f"{ours}.g_a", f"{theirs}.encoder.g_a", [RESIDUAL, *blocks, STRIDED, *blocks, SAME]),
        *_sequence(f"{ours}.h_a", f"{theirs}.hyper_enc.hyper_enc", [RESIDUAL, RESIDUAL, STRIDED, STRIDED]),
        Part(f"{ours}.entropy.codebook", f"{theirs}.quantize", codebook),
        *_sequence(
            f"{ours}.entropy.hyper_synthesis",
            f"{theirs}.hyper_dec.hyper_dec",
            [UPSAMPLE, UPSAMPLE, RESIDUAL, RESIDUAL],
        ),
        *(
            part
            for i in range(len(config.slices))
            for part in _slice(f"{ours}.entropy.context.{i}", theirs, i)
        ),
        *_sequence(f"{ours}.g_s", f"{theirs}.decoder.g_s", [SAME, *blocks, UPSAMPLE, *blocks, RESIDUAL]),
        Part(f"{ours}.to_latent", f"{theirs}.out"),
    ]


def _slice(ours: str, theirs: str, index: int) -> list[Part]:
    return [
        Part(f"{ours}.local", f"{theirs}.local_context.{index}"),
        Part(f"{ours}.channel", f"{theirs}.channel_context.{index}", CHANNEL_FUSION),
        Part(f"{ours}.anchor_params", f"{theirs}.entropy_parameters_anchor.{index}", FUSION),
        Part(f"{ours}.non_anchor_params", f"{theirs}.entropy_parameters_nonanchor.{index}", FUSION),
    ]


def _sequence(ours: str, theirs: str, kinds: list[Leaves]) -> list[Part]:
    return [Part(f"{ours}.{i}", f"{theirs}.{i}", kind) for i, kind in enumerate(kinds)]

"""The text context of the empty prompt: a constant, computed once from a text encoder that is not kept.

The encoder is OpenCLIP's ViT-H text tower up to its penultimate layer, then the final norm; nothing is projected or
pooled. It runs one block at a time, so that only one block's weights are in memory.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from rdeic.checkpoints.checkpoints import Shape, require_fit
from rdeic.checkpoints.foreign.keys import Leaves, Part, locate
from rdeic.checkpoints.foreign.original import TEXT

TOKENS = 77
EMPTY_PROMPT = (49406, 49407, *[0] * (TOKENS - 2))  # start, end, padding; the padding is attended to


class TextConfig(NamedTuple):
    """Widths of a text tower."""

    width: int
    heads: int
    layers: int  # of OpenCLIP's tower, whose last one is never run; the hub's folder leaves it out
    vocabulary: int


VIT_H = TextConfig(width=1024, heads=16, layers=24, vocabulary=49408)

_OPEN_CLIP_BLOCK: Leaves = {
    "norm1": "ln_1",
    "qkv.weight": "attn.in_proj_weight",
    "qkv.bias": "attn.in_proj_bias",
    "out": "attn.out_proj",
    "norm2": "ln_2",
    "widen": "mlp.c_fc",
    "narrow": "mlp.c_proj",
}
_HUB_BLOCK: Leaves = {
    "norm1": "layer_norm1",
    "q": "self_attn.q_proj",
    "k": "self_attn.k_proj",
    "v": "self_attn.v_proj",
    "out": "self_attn.out_proj",
    "norm2": "layer_norm2",
    "widen": "mlp.fc1",
    "narrow": "mlp.fc2",
}
HUB = "text_model"
_HUB_LEFTOVERS: Mapping[str, Shape] = {f"{HUB}.embeddings.position_ids": (1, TOKENS)}  # 0, 1, 2, ...


class Tower(NamedTuple):
    """A text tower whose weights are fetched when needed, by our names."""

    config: TextConfig
    tensor: Callable[[str], Tensor]


def open_clip(
    found: Mapping[str, Shape], fetch: Callable[[str], Tensor], config: TextConfig, source: str
) -> Tower:
    """The tower in an original checkpoint. `found` are its tensors.

    Raises CheckpointError unless they are exactly the expected ones.
    """
    shapes = _shapes(config, config.layers, {"qkv": (3 * config.width, config.width)})
    places = locate(
        shapes,
        [
            Part("tokens", f"{TEXT}.token_embedding.weight"),
            Part("positions", f"{TEXT}.positional_embedding"),
            Part("norm", f"{TEXT}.ln_final"),
            *(
                Part(f"blocks.{i}", f"{TEXT}.transformer.resblocks.{i}", _OPEN_CLIP_BLOCK)
                for i in range(config.layers)
            ),
        ],
    )
    leftovers: dict[str, Shape] = {f"{TEXT}.text_projection": (config.width,) * 2, f"{TEXT}.logit_scale": ()}
    mask: dict[str, Shape] = {f"{TEXT}.attn_mask": (TOKENS, TOKENS)}  # stored by some versions
    present = {name: shape for name, shape in mask.items() if name in found}
    expected = {place.name: place.shape for place in places.values()} | leftovers | present
    require_fit(expected, found, f"the text encoder in {source}")
    return Tower(config, lambda name: fetch(places[name].name).float())


def hub(found: Mapping[str, Shape], fetch: Callable[[str], Tensor], config: TextConfig, source: str) -> Tower:
    """The tower in a hub folder's `text_encoder`. `found` are its tensors.

    Raises CheckpointError unless they are exactly the expected ones.
    """
    square = (config.width, config.width)
    shapes = _shapes(config, config.layers - 1, {"q": square, "k": square, "v": square})
    places = locate(
        shapes,
        [
            Part("tokens", f"{HUB}.embeddings.token_embedding.weight"),
            Part("positions", f"{HUB}.embeddings.position_embedding.weight"),
            Part("norm", f"{HUB}.final_layer_norm"),
            *(Part(f"blocks.{i}", f"{HUB}.encoder.layers.{i}", _HUB_BLOCK) for i in range(config.layers - 1)),
        ],
    )
    present = {name: shape for name, shape in _HUB_LEFTOVERS.items() if name in found}
    require_fit({place.name: place.shape for place in places.values()} | present, found, source)

    def tensor(name: str) -> Tensor:
        if ".qkv." in name:
            return torch.cat([tensor(name.replace(".qkv.", f".{part}.")) for part in "qkv"])
        return fetch(places[name].name).float()

    return Tower(config, tensor)


def _shapes(config: TextConfig, layers: int, attention: Mapping[str, Shape]) -> dict[str, Shape]:
    c = config.width
    matrices = {**attention, "out": (c, c), "widen": (4 * c, c), "narrow": (c, 4 * c)}
    block: dict[str, Shape] = {
        f"{norm}.{kind}": (c,) for norm in ("norm1", "norm2") for kind in ("weight", "bias")
    }
    block |= {f"{name}.weight": shape for name, shape in matrices.items()}
    block |= {f"{name}.bias": shape[:1] for name, shape in matrices.items()}
    shapes: dict[str, Shape] = {"tokens": (config.vocabulary, c), "positions": (TOKENS, c)}
    shapes |= {"norm.weight": (c,), "norm.bias": (c,)}
    return shapes | {f"blocks.{i}.{name}": shape for i in range(layers) for name, shape in block.items()}


@torch.no_grad()
def empty_context(tower: Tower) -> Tensor:
    """Context of the empty prompt, (1, 77, C) float32."""
    return context_of(tower, torch.tensor([EMPTY_PROMPT]))


@torch.no_grad()
def context_of(tower: Tower, tokens: Tensor) -> Tensor:
    """Token indices (B, 77) -> the penultimate layer after the final norm, (B, 77, C) float32."""
    x = F.embedding(tokens, tower.tensor("tokens")) + tower.tensor("positions")
    for i in range(tower.config.layers - 1):
        x = _block(x, tower, f"blocks.{i}.")
    return _norm(x, tower, "norm")


def _block(x: Tensor, tower: Tower, name: str) -> Tensor:
    qkv = _linear(_norm(x, tower, f"{name}norm1"), tower, f"{name}qkv")
    q, k, v = (
        part.unflatten(2, (tower.config.heads, -1)).transpose(1, 2) for part in qkv.chunk(3, dim=2)
    )  # (B, heads, 77, C / heads)
    h = F.scaled_dot_product_attention(q, k, v, is_causal=True).transpose(1, 2).flatten(2)
    x = x + _linear(h, tower, f"{name}out")
    h = F.gelu(_linear(_norm(x, tower, f"{name}norm2"), tower, f"{name}widen"))
    return x + _linear(h, tower, f"{name}narrow")


def _linear(x: Tensor, tower: Tower, name: str) -> Tensor:
    return F.linear(x, tower.tensor(f"{name}.weight"), tower.tensor(f"{name}.bias"))


def _norm(x: Tensor, tower: Tower, name: str) -> Tensor:
    return F.layer_norm(x, x.shape[-1:], tower.tensor(f"{name}.weight"), tower.tensor(f"{name}.bias"))

"""Stable Diffusion's and the authors' tensors => our state dict, strictly."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from types import MappingProxyType

import torch
from torch import Tensor

from rdeic.checkpoints.checkpoints import Shape, require_fit, shapes_of
from rdeic.checkpoints.foreign import original
from rdeic.checkpoints.foreign.keys import Foreign, locate
from rdeic.checkpoints.foreign.leftovers import expected_leftovers, ignored
from rdeic.config import ModelConfig
from rdeic.model.model import Rdeic

SCALES = f"{original.CONTROL}.scale_list"  # a factor for each connection of the control network
Fetch = Callable[[str], Tensor]


@functools.lru_cache(maxsize=1)
def our_shapes(config: ModelConfig) -> Mapping[str, Shape]:
    """Every tensor of a model that a checkpoint holds; the text context is computed instead."""
    with torch.device("meta"):
        state = Rdeic(config).state_dict()
    return MappingProxyType({key: shape for key, shape in shapes_of(state).items() if key != "context"})


def convert_state(foreign: Mapping[str, Tensor], config: ModelConfig) -> dict[str, Tensor]:
    """A complete checkpoint in the authors' layout => our state dict, float32, without `context`.

    Raises CheckpointError that lists missing, unexpected and misshaped keys.
    """
    located = locate(our_shapes(config), original.stable_diffusion(config) + original.authors(config))
    require_complete(located, config, shapes_of(foreign), "the checkpoint")
    return {key: value_of(key, place, foreign.__getitem__, config) for key, place in located.items()}


def require_complete(
    located: Mapping[str, Foreign], config: ModelConfig, found: Mapping[str, Shape], source: str
) -> None:
    """Raise CheckpointError unless `found` is what `located` needs plus known leftovers."""
    names = {place.name: place.shape for place in located.values()}
    if any(key.startswith("control.") for key in located):
        names[SCALES] = (len(_connections(config)),)
    relevant = {name: shape for name, shape in found.items() if not ignored(name)}
    require_fit(names | expected_leftovers(config, relevant), relevant, source)


def value_of(key: str, place: Foreign, fetch: Fetch, config: ModelConfig) -> Tensor:
    """Our tensor `key`, float32, from where the other layout keeps it."""
    value = fetch(place.name).float()
    if place.matrix:
        value = value[:, :, None, None]
    layer = key.rpartition(".")[0]
    connections = _connections(config)
    if layer in connections:
        value = value * fetch(SCALES)[connections.index(layer)]
    return value


def _connections(config: ModelConfig) -> list[str]:
    """The control network's connections in the order of the authors' factors."""
    count = len(config.unet.widths) * (config.unet.blocks_per_level + 1)
    encoder, decoder = (
        [f"control.{half}.{i}" for i in range(count)] for half in ("to_encoder", "to_decoder")
    )
    return [*encoder, "control.to_middle", *decoder]

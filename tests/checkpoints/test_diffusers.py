"""Independent parity: the reference library's networks with the same random weights, both ways through the key map."""

from __future__ import annotations

from collections.abc import Mapping

import pytest
import torch
from torch import Tensor, nn

from rdeic.checkpoints.checkpoints import Shape
from rdeic.checkpoints.foreign import hub, text
from rdeic.checkpoints.foreign.convert import our_shapes
from rdeic.checkpoints.foreign.keys import Part, locate
from rdeic.model.model import Rdeic
from support.golden_set import assert_close, load

diffusers = pytest.importorskip("diffusers")

CONFIG = load().config


def random_state(shapes: Mapping[str, Shape]) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(1)
    state = {}
    for name, shape in shapes.items():
        fan_in = max(1, torch.Size(shape[1:]).numel())
        state[name] = torch.randn(shape, generator=generator) / fan_in**0.5
        if len(shape) == 1:
            state[name] = state[name] * 0.1 + (1.0 if name.endswith("weight") else 0.0)
    return state


def pair(prefix: str, parts: list[Part], reference: nn.Module, to_reference: bool) -> Rdeic:
    """A model of ours whose part at `prefix` has the weights of `reference`, copied in the direction asked for."""
    model = Rdeic(CONFIG).eval().requires_grad_(False)
    shapes = {key: shape for key, shape in our_shapes(CONFIG).items() if key.startswith(prefix)}
    places = locate(shapes, parts)
    names = {place.name: place.shape for place in places.values()}
    assert names == {key: tuple(value.shape) for key, value in reference.state_dict().items()}
    state = model.state_dict()
    if to_reference:
        state |= random_state(shapes)
        reference.load_state_dict(
            {place.name: state[key].reshape(place.shape) for key, place in places.items()}
        )
    else:
        theirs = random_state(names)
        reference.load_state_dict(theirs)
        state |= {key: theirs[place.name].reshape(shapes[key]) for key, place in places.items()}
    model.load_state_dict(state)
    reference.eval().requires_grad_(False)
    return model


@pytest.mark.parametrize("to_reference", [True, False])
def test_noise_estimator(to_reference: bool) -> None:
    u = CONFIG.unet
    kinds = [
        "CrossAttnDownBlock2D" if i in u.attention_levels else "DownBlock2D" for i in range(len(u.widths))
    ]
    reference = diffusers.UNet2DConditionModel(
        in_channels=4,
        out_channels=4,
        block_out_channels=u.widths,
        layers_per_block=u.blocks_per_level,
        down_block_types=tuple(kinds),
        up_block_types=tuple(kind.replace("Down", "Up") for kind in reversed(kinds)),
        attention_head_dim=tuple(width // u.head_channels for width in u.widths),
        cross_attention_dim=u.context_channels,
        use_linear_projection=True,
    )
    model = pair("unet.", hub.unet(u), reference, to_reference)
    generator = torch.Generator().manual_seed(2)
    x = torch.randn(2, 4, 16, 24, generator=generator)
    context = torch.randn(2, 77, u.context_channels, generator=generator)
    t = torch.tensor([299, 0])
    assert_close(model.unet(x, t, context), reference(x, t, context).sample)


@pytest.mark.parametrize("to_reference", [True, False])
def test_autoencoder(to_reference: bool) -> None:
    a = CONFIG.autoencoder
    levels = len(a.widths)
    reference = diffusers.AutoencoderKL(
        block_out_channels=a.widths,
        layers_per_block=a.blocks_per_level,
        latent_channels=a.latent_channels,
        down_block_types=("DownEncoderBlock2D",) * levels,
        up_block_types=("UpDecoderBlock2D",) * levels,
    )
    model = pair("autoencoder.", hub.autoencoder(a), reference, to_reference)
    x = torch.rand(1, 3, 64, 96, generator=torch.Generator().manual_seed(3)) * 2.0 - 1.0
    encoded, posterior = model.autoencoder.encode(x), reference.encode(x).latent_dist
    assert_close(encoded.mean, posterior.mean)
    assert_close(encoded.logvar, posterior.logvar)
    z0 = a.latent_scale * encoded.mean
    assert_close(model.autoencoder.decode(z0), reference.decode(encoded.mean).sample)


def test_text_encoder() -> None:
    transformers = pytest.importorskip("transformers")
    config = text.TextConfig(width=64, heads=2, layers=4, vocabulary=100)
    reference = transformers.CLIPTextModel(
        transformers.CLIPTextConfig(
            vocab_size=config.vocabulary,
            hidden_size=config.width,
            intermediate_size=4 * config.width,
            num_hidden_layers=config.layers - 1,
            num_attention_heads=config.heads,
            hidden_act="gelu",
            eos_token_id=99,
        )
    ).eval()
    state = {
        key if key.startswith("text_model.") else f"text_model.{key}": value
        for key, value in reference.state_dict().items()
    }
    tower = text.hub({k: tuple(v.shape) for k, v in state.items()}, state.__getitem__, config, "the library")
    tokens = torch.tensor([[97, 99, *[0] * 75]])
    with torch.no_grad():
        assert_close(text.context_of(tower, tokens), reference(tokens).last_hidden_state)

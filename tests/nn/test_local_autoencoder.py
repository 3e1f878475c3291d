"""The autoencoder of plain convolutions: local, no grid of its own, and a configuration like any other."""

from __future__ import annotations

import dataclasses
import json

import pytest
import torch

from rdeic.config import MINI, MINI_NEXT, LocalAutoencoderConfig, ModelConfig, from_json, to_json
from rdeic.errors import ConfigError
from rdeic.model.model import Rdeic
from rdeic.nn.autoencoder import Autoencoder
from support.tiny import LOCAL, TINY


def disturbed(config: LocalAutoencoderConfig = LOCAL) -> Autoencoder:
    """With blocks that are no longer the identity."""
    torch.manual_seed(0)
    autoencoder = Autoencoder(config).requires_grad_(False)
    for parameter in autoencoder.parameters():
        parameter += 0.05 * torch.randn(parameter.shape)
    return autoencoder


def reach(autoencoder: Autoencoder) -> int:
    """Positions of the latent beyond which nothing matters for D's output in the middle of 32."""
    z = torch.zeros(1, 4, 32, 32, requires_grad=True)
    autoencoder.decode(z)[..., 128:130, 128:130].sum().backward()
    assert z.grad is not None
    rows = z.grad.abs().sum((0, 1, 3)).nonzero().flatten()
    return int(max(16 - rows.min(), rows.max() - 15))


def test_a_part_decoded_with_enough_around_it_is_cut_from_the_whole() -> None:
    autoencoder = disturbed()
    margin = reach(autoencoder)
    assert 4 < margin <= 12  # so much lies around the part below
    margin += margin % 2  # the trunk folds two positions into one
    z = torch.randn(1, 4, 48, 40)
    whole = autoencoder.decode(z)
    top, left, side = 14, 12, 8
    part = autoencoder.decode(
        z[..., top - margin : top + side + margin, left - margin : left + side + margin]
    )
    inner = part[..., 8 * margin : -8 * margin, 8 * margin : -8 * margin]
    wanted = whole[..., 8 * top : 8 * (top + side), 8 * left : 8 * (left + side)]
    torch.testing.assert_close(inner, wanted, rtol=1e-4, atol=1e-5)


def test_neighbouring_pixels_of_every_unfolded_block_see_each_other() -> None:
    autoencoder = disturbed()
    inner: list[torch.Tensor] = []
    autoencoder.decoder.refine.register_forward_pre_hook(lambda _, given: inner.append(given[0]))
    autoencoder.requires_grad_(True)
    out = autoencoder.decode(torch.randn(1, 4, 8, 8))
    seen = torch.autograd.grad(out[0, :, 31, 31].sum(), inner[0])[0][0].abs().sum(0)
    assert seen[30:33, 30:33].all()  # 32 begins another block of 2x2, of 4x4 and of 8x8


def test_blocks_begin_as_the_identity() -> None:
    torch.manual_seed(0)
    deep = Autoencoder(dataclasses.replace(LOCAL, decoder_blocks=(3, 3, 3, 3)))
    flat = Autoencoder(dataclasses.replace(LOCAL, decoder_blocks=(0, 0, 0, 0)))
    kept = {key: value for key, value in deep.state_dict().items() if key in flat.state_dict()}
    for suffix in ("weight", "bias"):
        for there, here in ((3, 0), (7, 1)):
            kept[f"decoder.layers.{here}.conv.{suffix}"] = deep.state_dict()[
                f"decoder.layers.{there}.conv.{suffix}"
            ]
    flat.load_state_dict(kept)
    z = torch.randn(1, 4, 8, 8)
    torch.testing.assert_close(deep.decode(z), flat.decode(z))


def test_configurations_of_both_kinds_are_read_back() -> None:
    for config in (MINI, MINI_NEXT, dataclasses.replace(TINY, autoencoder=LOCAL)):
        assert from_json(to_json(config)) == config


def test_a_missing_setting_of_either_kind_is_named() -> None:
    for config, name in ((MINI, "patch"), (MINI_NEXT, "refine_channels")):
        fields = json.loads(to_json(config))
        del fields["autoencoder"][name]
        with pytest.raises(ConfigError, match=rf"model\.autoencoder: .*missing settings \['{name}'\]"):
            from_json(json.dumps(fields))


def test_levels_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ConfigError, match="one level more than the encoder"):
        dataclasses.replace(LOCAL, decoder_widths=(8, 8, 16))


def test_a_whole_model_of_this_kind_compresses_and_restores() -> None:
    config: ModelConfig = dataclasses.replace(TINY, autoencoder=LOCAL)
    torch.manual_seed(0)
    model = Rdeic(config).prepare()
    y = model.analyse(torch.rand(1, 3, 64, 128) * 2 - 1)
    features = model.decode(model.encode(y, 128), 128)
    noises = iter([torch.randn(features.z_c.shape) for _ in range(2)])
    assert model.restore(features, noises, 1, 1.0).shape == (1, 3, 64, 128)


def test_the_next_mini_fits_in_60_megabytes_of_half_precision() -> None:
    with torch.device("meta"):
        model = Rdeic(MINI_NEXT)
    assert 2 * sum(parameter.numel() for parameter in model.parameters()) < 60e6

"""Bands, tiles and windows: how pictures are cut, the same bits, the same statistics."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from torch import Tensor

from rdeic.config import MINI, MINI_NEXT, ModelConfig
from rdeic.model import tiles
from rdeic.model.entropy_model import Pass
from rdeic.model.latent_codec import decode_y, encode_in_bands, encode_with_y_hat
from rdeic.model.tiles import Tiling, windows
from rdeic.nn import moments
from rdeic.nn.exact import exact_copy
from rdeic.nn.norm import GroupNorm
from rdeic.nn.reach import chain_reach, reach
from support.tiling import LOCAL_TINY, model_of
from support.tiny import TINY, likely_y, lively_entropy_model

# -- cuts


@pytest.mark.parametrize(
    ("length", "side", "halo"), [(64, 128, 64), (1000, 128, 64), (128, 128, 0), (129, 128, 64)]
)
def test_inner_parts_of_tiles_lie_side_by_side(length: int, side: int, halo: int) -> None:
    covered = [place for tile in tiles.tiles(length, side, halo) for place in range(length)[tile.inner]]
    assert covered == list(range(length))
    for tile in tiles.tiles(length, side, halo):
        assert range(length)[tile.outer][tile.within] == range(length)[tile.inner]
        assert tile.outer.start in (0, tile.inner.start - halo)
        assert tile.outer.stop in (length, tile.inner.stop + halo)


@pytest.mark.parametrize(
    ("length", "side", "overlap"), [(64, 256, 64), (320, 256, 64), (4096, 256, 64), (5000 * 64, 2048, 256)]
)
def test_windows_cover_everything_and_overlap(length: int, side: int, overlap: int) -> None:
    found = windows(length, side, overlap)
    assert found[0].start == 0
    assert found[-1].stop == length
    assert all(one.start % tiles.UNIT == 0 for one in found[:-1])
    assert len({one.stop - one.start for one in found}) == 1
    assert found[0].stop <= min(side, length)
    for one, other in itertools.pairwise(found):
        assert one.stop - other.start >= overlap


def test_smaller_tiles_are_still_tiles() -> None:
    smaller = Tiling().halved().halved()
    assert (smaller.side, smaller.window, smaller.overlap) == (256, 512, 128)
    assert smaller.sample.count == 1


# -- bits


@pytest.mark.parametrize("rows", [2, 4, 10, 36, 100])
def test_bands_make_and_read_the_same_bytes(rows: int) -> None:
    entropy = lively_entropy_model(0)
    exact = exact_copy(entropy)
    indices = torch.randint(0, 16, (1, 9, 5), generator=torch.Generator().manual_seed(0))
    hyper = exact.hyper(exact.codebook.lookup(indices), torch.tensor([0.6], dtype=torch.float64))
    y = likely_y(entropy, hyper.float(), 0)
    y[0, 5, 2, 2], y[0, 15, 35, 19] = -300.4, 7.0e4
    gain = torch.linspace(0.5, 2.0, 16)[:, None, None]
    whole = encode_with_y_hat(exact, (y * gain).double(), hyper)
    found = encode_in_bands(exact, y, gain[None], hyper.float(), rows)
    assert found.stream == whole.stream
    assert torch.equal(found.y_hat, whole.y_hat)
    assert torch.equal(decode_y(exact, whole.stream, hyper.float(), rows=rows), whole.y_hat)


def test_bands_keep_parameters_in_half_the_memory_and_lose_nothing() -> None:
    exact = exact_copy(lively_entropy_model(0))
    indices = torch.randint(0, 16, (1, 9, 5), generator=torch.Generator().manual_seed(0))
    hyper = exact.hyper(exact.codebook.lookup(indices), torch.tensor([0.6], dtype=torch.float64))

    def parameters(hyper: Tensor, rows: int | None) -> list[Tensor]:
        found: list[Tensor] = []

        def visit(step: Pass) -> Tensor:
            found.extend(step.params)
            return step.params.mu.double().round()

        exact.walk(hyper, visit, rows=rows)
        return found

    whole, banded = parameters(hyper, None), parameters(hyper.float(), 4)
    assert {one.dtype for one in banded} == {torch.float32}
    assert all(torch.equal(one, other.double()) for one, other in zip(whole, banded, strict=True))


@pytest.mark.parametrize("config", [TINY, LOCAL_TINY])
def test_a_model_in_bands_makes_and_reads_the_same_bytes(
    config: ModelConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = model_of(config)
    model.compression.entropy = lively_entropy_model(0)
    model.prepare()
    y = 3.0 * torch.randn(1, 16, 64, 20, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        whole = model.encode_with_y_hat(y, 128)
        monkeypatch.setattr(tiles, "BAND_POSITIONS", 20 * 12)
        assert tiles.band_rows(64, 20) == 12
        found = model.encode_with_y_hat(y, 128)
        assert np.array_equal(found.coded.hyper_indices, whole.coded.hyper_indices)
        assert found.coded.y_stream == whole.coded.y_stream
        assert torch.equal(model.decode_y_hat(found.coded, 128), whole.y_hat)


# -- norms


def test_a_sample_that_is_the_picture_gives_its_statistics() -> None:
    norm = GroupNorm(4, 8, silu=True).requires_grad_(False)
    x = torch.randn(1, 8, 6, 10) * 3 + 1
    wanted = norm(x)
    with moments.recorded(0.0) as found:
        assert torch.allclose(norm(x), wanted, atol=1e-5)
    with moments.given(found):
        assert torch.allclose(norm(x[:, :, :2, 3:]), wanted[:, :, :2, 3:], atol=1e-5)
    assert torch.equal(norm(x), wanted)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_a_tile_is_normalised_in_float32_and_rounded_once(dtype: torch.dtype) -> None:
    generator = torch.Generator().manual_seed(0)
    x = (3 * torch.randn(1, 32, 24, 20, generator=generator) + 1).to(dtype)
    x = x.contiguous(memory_format=torch.channels_last)
    norm = GroupNorm(4, 32).requires_grad_(False)
    norm.weight.copy_(torch.randn(32, generator=generator))
    norm.bias.copy_(torch.randn(32, generator=generator))
    known = moments.Moments(torch.tensor([0.5, 1.0, -0.7, 2.0]), torch.tensor([9.0, 8.0, 0.3, 10.0]))
    with moments.given([known]):
        found = norm.to(dtype)(x)
    mean, variance = (one.double().repeat_interleave(8)[:, None, None] for one in known)
    weight, bias = (one.double()[:, None, None] for one in (norm.weight, norm.bias))
    wanted = (x.double() - mean) / (variance + norm.eps).sqrt() * weight + bias
    assert (found.double() - wanted).abs().max() <= 0.51 * torch.finfo(dtype).eps * wanted.abs().max()
    assert found.is_contiguous(memory_format=torch.channels_last)


def test_a_sample_counts_over_the_batch_but_not_at_its_borders() -> None:
    norm = GroupNorm(2, 4).requires_grad_(False)
    x = torch.randn(3, 4, 8, 8)
    disturbed = x.clone()
    disturbed[:, :, [0, 1, 6, 7]] = 1e3
    disturbed[:, :, :, [0, 1, 6, 7]] = 1e3
    with moments.recorded(0.25) as found:
        norm(disturbed)
    inner = x[:, :, 2:6, 2:6].unflatten(1, (2, 2))
    assert torch.allclose(found[0].mean, inner.mean((0, 2, 3, 4)), atol=1e-5)
    assert torch.allclose(found[0].variance, inner.var((0, 2, 3, 4), correction=0), atol=1e-5)


# -- reach


def test_reach_is_not_less_than_what_matters() -> None:
    """By gradients; not more than a position above it where nothing lies side by side."""
    for config, least in ((MINI, 1), (MINI_NEXT, 1), (LOCAL_TINY, 0)):
        g_s = model_of(config).compression.g_s
        y = torch.zeros(1, config.compression.y_channels, 24, 24, requires_grad=True)
        g_s(y)[..., 24, 24].sum().backward()
        assert y.grad is not None
        rows = y.grad.abs().sum((0, 1, 3)).nonzero().flatten()
        seen = int(max(12 - rows.min(), rows.max() - 12))
        assert seen <= reach(g_s, y.detach()[:, :, :4, :4]) <= seen + least


def test_reach_of_exact_networks_is_that_of_what_they_copy() -> None:
    entropy = lively_entropy_model(0)
    for one, other in zip(entropy.context, exact_copy(entropy).context, strict=True):
        assert chain_reach(one.local) == chain_reach(other.local) == 2  # type: ignore[arg-type]
    channel = entropy.context[1].channel
    assert chain_reach(channel) == chain_reach(exact_copy(entropy).context[1].channel) == 6  # type: ignore[arg-type]

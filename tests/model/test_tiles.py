"""Large pictures in tiles, windows and bands: the same bits, nearly the same pictures, and no seams."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from rdeic.codec import codec as codecs
from rdeic.config import MINI, MINI_NEXT, ModelConfig
from rdeic.container.stored_size import Size
from rdeic.model import tiled, tiles
from rdeic.model.latent_codec import decode_y, encode_in_bands, encode_with_y_hat
from rdeic.model.model import Rdeic
from rdeic.model.tiles import Sample, Tiling, windows
from rdeic.nn import moments
from rdeic.nn.exact import exact_copy
from rdeic.nn.norm import GroupNorm
from rdeic.nn.reach import chain_reach, reach
from rdeic.pictures import images
from support.tiny import LOCAL, TINY, likely_y, lively_entropy_model

EVERYTHING = Sample(count=1, side=1024, halo=0)  # of a small picture: then statistics are not what differs
SMALL = Tiling(side=128, halo=64, window=384, overlap=256, sample=EVERYTHING, window_sample=EVERYTHING)
# Convolutions alone: nothing depends on statistics, and attention is far from the picture's end nowhere.
LOCAL_TINY = dataclasses.replace(TINY, autoencoder=LOCAL)
# sd21 in small: attention in E, D and the noise estimator, full resolution, norms everywhere.
ATTENTIVE = dataclasses.replace(
    TINY,
    name="attentive",
    autoencoder=dataclasses.replace(
        TINY.autoencoder,
        widths=(8, 16, 16, 16),
        patch=1,
        mid_attention=True,
        subpixel=False,
        latent_scale=0.2,
    ),
    unet=dataclasses.replace(TINY.unet, attention_levels=(0, 1), patch=1, context_channels=8),
)


def textured(height: int, width: int) -> images.Picture:
    """(height, width, 3): waves of changing length, an edge, and grain."""
    y, x = np.mgrid[:height, :width].astype(np.float64)
    waves = [np.sin(x / 9 + y / 17), np.cos(y / 7 - x / 31), np.sin(x * y / 9000)]
    edge = 60.0 * (x + 0.3 * y > 0.6 * width)
    noise = np.random.default_rng(0).normal(0, 6, (height, width, 3))
    return (np.stack(waves, -1) * 60 + 100 + edge[..., None] + noise).clip(0, 255).astype(np.uint8)


def model_of(config: ModelConfig, seed: int = 0) -> Rdeic:
    torch.manual_seed(seed)
    return Rdeic(config).prepare()


def noises(like: Tensor) -> Iterator[Tensor]:
    return codecs.noises(0, like)


def restored(model: Rdeic, picture: images.Picture, tiling: Tiling) -> tuple[images.Picture, images.Picture]:
    """By the whole, and in tiles."""
    size = Size(picture.shape[1], picture.shape[0])
    padded = torch.from_numpy(images.pad(picture, 64)).permute(2, 0, 1)[None] / 127.5 - 1
    with torch.inference_mode():
        coded = model.encode(model.analyse(padded), 128)
        features = model.decode(coded, 128)
        x = model.restore(features, noises(features.z_c), 2, 1.0)[0, :, : size.height, : size.width]
        how = tiled.Restoring(noises, 2, 1.0)
        return tiled.to_pixels(x), tiled.restore(model, coded, 128, size, how, tiling)


def psnr(found: images.Picture, wanted: images.Picture) -> float:
    error = np.square(found.astype(np.float64) - wanted).mean()
    return float(10 * np.log10(255**2 / max(error, 1e-10)))


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
    whole = encode_with_y_hat(exact, y.double(), hyper)
    found = encode_in_bands(exact, y, hyper.float(), rows)
    assert found.stream == whole.stream
    assert torch.equal(found.y_hat, whole.y_hat)
    assert torch.equal(decode_y(exact, whole.stream, hyper.float(), rows=rows), whole.y_hat)


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


# -- pictures


def test_without_norms_tiles_of_e_and_d_are_the_whole() -> None:
    model, picture = model_of(LOCAL_TINY), textured(300, 410)
    for layer in (*model.autoencoder.encoder.modules(), *model.autoencoder.decoder.modules()):
        if isinstance(layer, torch.nn.Conv2d):
            layer.weight.add_(0.02 * torch.randn(layer.weight.shape))
    wide = dataclasses.replace(SMALL, halo=192)  # more than they see
    size = Size(410, 300)
    with torch.inference_mode():
        padded = torch.from_numpy(images.pad(picture, 64)).permute(2, 0, 1)[None] / 127.5 - 1
        y = model.analyse(padded)
        assert torch.allclose(tiled.analyse(model, picture, wide), y, atol=1e-4)
        z0_hat = torch.randn(1, 4, 320 // 8, 448 // 8)
        whole = tiled.to_pixels(model.autoencoder.decode(z0_hat)[0, :, :300, :410])
        found = tiled.decode(model, z0_hat, size, wide)
    assert np.abs(found.astype(int) - whole).max() <= 1


def seams(found: images.Picture, whole: images.Picture, side: int, axis: int) -> tuple[float, float]:
    """The largest step, of a line's mean, that tiles added at their borders along an axis, and elsewhere; in levels."""
    added = np.diff(found.astype(np.float64) - whole, axis=axis)
    steps = np.abs(added.mean(axis=(1 - axis, 2)))
    borders = np.arange(side, found.shape[axis], side) - 1
    return float(steps[borders].max()), float(np.delete(steps, borders).max())


@pytest.mark.parametrize("config", [LOCAL_TINY, ATTENTIVE])
def test_a_picture_in_tiles_is_nearly_the_whole_and_has_no_seams(config: ModelConfig) -> None:
    whole, found = restored(model_of(config), textured(500, 620), SMALL)
    assert whole.std() > 5
    assert psnr(found, whole) > 45
    for axis in (0, 1):
        at_borders, elsewhere = seams(found, whole, SMALL.side, axis)
        assert at_borders <= elsewhere + 0.02


@pytest.mark.parametrize("config", [LOCAL_TINY, ATTENTIVE])
def test_tiles_in_half_precision_are_nearly_the_whole_in_it(config: ModelConfig) -> None:
    half = torch.bfloat16
    model, picture = model_of(config).set_precision(half, half).prepare(), textured(300, 410)
    whole, found = restored(model, picture, SMALL)
    assert psnr(found, whole) > 40
    with torch.inference_mode():
        padded = torch.from_numpy(images.pad(picture, 64)).permute(2, 0, 1)[None] / 127.5 - 1
        y, in_tiles = model.analyse(padded), tiled.analyse(model, picture, SMALL)
    assert in_tiles.dtype == y.dtype == torch.float32
    assert (in_tiles - y).square().mean() < 0.01 * y.square().mean()


def test_seams_are_seen() -> None:
    """Of tiles without a halo."""
    model = model_of(LOCAL_TINY)
    picture = textured(320, 448)
    whole, found = restored(model, picture, dataclasses.replace(SMALL, halo=0))
    assert max(seams(found, whole, 128, axis)[0] for axis in (0, 1)) > 0.1


def test_a_sample_resembles_the_picture() -> None:
    """Half of it dark, half of it bright, a little rough: the mean of few windows is nearly the whole's."""
    x = torch.zeros(1, 1, 320, 640)
    x[..., 320:] = 1.0
    x[..., 128:192, :64] = torch.randn(64, 64) * 3
    overview = tiled.Overview(x, 64)
    cuts = overview.choose(Sample(count=6, side=64, halo=16))
    assert all(rows.stop - rows.start == columns.stop - columns.start == 96 for rows, columns in cuts)
    inner = torch.cat([x[:, :, rows, columns][:, :, 16:-16, 16:-16] for rows, columns in cuts])
    assert abs(float(inner.mean() - x.mean())) < 0.15


def test_settings_reach_every_window() -> None:
    """Steps, detail and noise are those of the whole."""
    model = model_of(LOCAL_TINY)
    for layer in (*model.control.to_encoder, *model.control.to_decoder):  # which begin as zeros
        layer.weight.normal_(std=0.1)  # type: ignore[operator, union-attr]
    y_hat, level = torch.randn(1, 16, 24, 28), model.level(128)
    with torch.inference_mode():
        found = {
            (steps, detail, seed): tiled.denoise(
                model,
                y_hat,
                level,
                tiled.Restoring(lambda like, s=seed: codecs.noises(s, like), steps, detail),
                SMALL,
            )
            for steps, detail, seed in ((2, 1.0, 0), (2, 1.0, 1), (3, 1.0, 0), (2, 0.5, 0))
        }
    assert len({one.sum().item() for one in found.values()}) == 4


@pytest.mark.slow
def test_mini_at_3_megapixels_in_tiles_is_nearly_the_whole() -> None:
    """With the samples of a larger picture, but smaller tiles and windows, so that there are several."""
    from PIL import Image

    example = Image.open(Path(__file__).parents[2] / "examples" / "kodim23.png")
    picture = np.asarray(example.resize((2048, 1536), Image.Resampling.LANCZOS)).astype(np.float64)
    picture = (
        (picture + np.random.default_rng(0).normal(0, 2, picture.shape)).round().clip(0, 255).astype(np.uint8)
    )
    model = codecs.load("mini", "cpu")._weights.load().model
    tiling = dataclasses.replace(Tiling(), side=512, window=1024)
    whole, found = restored(model, picture, tiling)
    assert psnr(found, whole) > 45
    for axis in (0, 1):
        at_borders, elsewhere = seams(found, whole, 512, axis)
        assert at_borders <= elsewhere + 0.02

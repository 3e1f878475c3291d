"""Large pictures in tiles and windows: nearly the same pictures, and no seams."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch

from rdeic.codec import codec as codecs
from rdeic.codec import decoder
from rdeic.config import ModelConfig
from rdeic.container.stored_size import Size
from rdeic.model import tiled
from rdeic.model.tiles import Sample, Tiling
from rdeic.pictures import images
from support.tiling import LOCAL_TINY, model_of
from support.tiny import TINY
from tiled_error import psnr, restored, seams

EVERYTHING = Sample(count=1, side=1024, halo=0)  # of a small picture: then statistics are not what differs
SMALL = Tiling(side=128, halo=64, window=384, overlap=256, sample=EVERYTHING, window_sample=EVERYTHING)
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


@pytest.mark.parametrize("config", [LOCAL_TINY, ATTENTIVE])
def test_a_picture_in_tiles_is_nearly_the_whole_and_has_no_seams(config: ModelConfig) -> None:
    whole, found = restored(model_of(config), textured(500, 620), SMALL, 2)
    assert whole.std() > 5
    assert psnr(found, whole) > 45
    for axis in (0, 1):
        at_borders, elsewhere = seams(found, whole, SMALL.side, axis)
        assert at_borders <= elsewhere + 0.02


@pytest.mark.parametrize("config", [LOCAL_TINY, ATTENTIVE])
def test_tiles_in_half_precision_are_nearly_the_whole_in_it(config: ModelConfig) -> None:
    half = torch.bfloat16
    model, picture = model_of(config).set_precision(half, half).prepare(), textured(300, 410)
    whole, found = restored(model, picture, SMALL, 2)
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
    whole, found = restored(model, picture, dataclasses.replace(SMALL, halo=0), 2)
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
                tiled.Restoring(lambda like, s=seed: decoder.noises(s, like), steps, detail),
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
    whole, found = restored(model, picture, tiling, 2)
    assert psnr(found, whole) > 45
    for axis in (0, 1):
        at_borders, elsewhere = seams(found, whole, 512, axis)
        assert at_borders <= elsewhere + 0.02

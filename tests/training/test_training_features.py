"""Cached features of E: what E gives, in a file that is made once, cropped as a function of the step."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from rdeic.errors import ConfigError, TrainingError
from rdeic.training.data import Sampling
from rdeic.training.features import BINARY, INDEX, FeatureSet, pack, prepare, unpack
from rdeic.training.sources import find
from rdeic.training.stages import build_stage
from rdeic.training.trainer import Trainer
from support.stages import config, fresh, noise
from support.tiny import TINY

STRIDE = TINY.autoencoder.stride
SAMPLING = Sampling(batch=6, crop=64, seed=3)


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    folder, rng = tmp_path / "pictures", np.random.default_rng(0)
    folder.mkdir()
    for index, size in enumerate(((96, 80), (64, 64), (130, 70))):
        coarse = Image.fromarray(rng.integers(0, 256, (9, 9, 3), dtype=np.uint8))
        coarse.resize(size, Image.Resampling.BICUBIC).save(folder / f"{index}.png")
    Image.new("RGB", (40, 90)).save(folder / "small.png")  # gives no crop
    (folder / "damaged.png").write_bytes(b"damaged")
    return folder


def made(pictures: Path, folder: Path, share: range = range(6)) -> FeatureSet:
    prepare(folder, find([pictures]), fresh().autoencoder, SAMPLING.crop)
    return FeatureSet(folder, SAMPLING, share, STRIDE)


def test_crops_are_what_e_gives_of_the_picture_or_its_mirror_image(pictures: Path, tmp_path: Path) -> None:
    features = made(pictures, tmp_path / "features")
    assert len(features) == 3
    autoencoder, wholes = fresh().autoencoder, []
    for path in sorted(pictures.glob("[0-2].png")):
        pixels = np.asarray(Image.open(path).convert("RGB"))
        height, width = (side // 16 * 16 for side in pixels.shape[:2])
        top, left = (pixels.shape[0] - height) // 2, (pixels.shape[1] - width) // 2
        for view in (pixels[top : top + height, left : left + width],) * 2:
            view = view if len(wholes) % 2 == 0 else view[:, ::-1]
            x = torch.from_numpy(view.copy()).permute(2, 0, 1)[None].float() / 127.5 - 1
            with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
                wholes.append(pack(autoencoder.encode(x))[0].to(torch.bfloat16))
    side, found = SAMPLING.crop // STRIDE, set()
    for crop in (crop for step in range(8) for crop in features.batch(step)):
        places = [
            (index, i, j)
            for index, whole in enumerate(wholes)
            for i in range(whole.shape[1] - side + 1)
            for j in range(whole.shape[2] - side + 1)
            if torch.equal(whole[:, i : i + side, j : j + side], crop)
        ]
        assert len(places) == 1
        found.add(places[0][0])
    assert found == set(range(6))  # every picture both ways


def test_a_crop_depends_on_seed_step_and_position_alone(pictures: Path, tmp_path: Path) -> None:
    folder = tmp_path / "features"
    whole = made(pictures, folder)
    first, second = made(pictures, folder, range(3)), made(pictures, folder, range(3, 6))
    for step, batch in enumerate(whole.batches(0, 4)):
        assert batch.dtype == torch.bfloat16
        assert torch.equal(batch, torch.cat([first.batch(step), second.batch(step)]))
        assert torch.equal(batch, first.whole_batch(step))
    assert not torch.equal(whole.batch(0), whole.batch(1))


def test_the_file_is_made_once_and_again_for_another_e_or_other_pictures(
    pictures: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "features"
    made(pictures, folder)
    marker = (folder / BINARY).stat().st_mtime_ns
    made(pictures, folder)
    assert (folder / BINARY).stat().st_mtime_ns == marker
    other = fresh().autoencoder
    with torch.no_grad():
        other.quant_conv.weight += 0.5
    prepare(folder, find([pictures]), other, SAMPLING.crop)
    changed = (folder / BINARY).stat().st_mtime_ns
    assert changed != marker
    (pictures / "0.png").unlink()
    prepare(folder, find([pictures]), other, SAMPLING.crop)
    assert len(FeatureSet(folder, SAMPLING, range(6), STRIDE)) == 2


def test_what_was_begun_and_not_finished_is_made_anew(pictures: Path, tmp_path: Path) -> None:
    folder = tmp_path / "features"
    made(pictures, folder)
    size = (folder / BINARY).stat().st_size
    (folder / INDEX).write_text("{")
    (folder / BINARY).write_bytes(b"half")
    made(pictures, folder)
    assert (folder / BINARY).stat().st_size == size


def test_pictures_that_are_all_too_small_are_refused(pictures: Path, tmp_path: Path) -> None:
    for _ in range(2):  # the first must not leave a file that the second takes for finished
        with pytest.raises(TrainingError, match="features need pictures of at least 256 pixels a side"):
            prepare(tmp_path / "features", find([pictures]), fresh().autoencoder, 256)


def test_packing_is_undone_by_unpacking() -> None:
    encoded = fresh().autoencoder.encode(torch.zeros(1, 3, 64, 64))
    again = unpack(pack(encoded), TINY.autoencoder.latent_channels)
    assert all(torch.equal(a, b) for a, b in zip(encoded, again, strict=True))


@pytest.mark.parametrize("name", ["prior", "independent"])
def test_a_stage_learns_the_same_from_features_as_from_the_pictures(name: str) -> None:
    stage = build_stage(name, fresh(), config())
    x = torch.rand(2, 3, 64, 64) * 2 - 1
    packed = pack(stage.model.autoencoder.encode(x))
    of_pictures, of_features = (stage.loss(batch, noise(0)).total.detach() for batch in (x, packed))
    assert float(of_features) == pytest.approx(float(of_pictures), rel=1e-6)


def test_features_go_through_a_step(pictures: Path, tmp_path: Path) -> None:
    features = made(pictures, tmp_path / "features")
    stage = build_stage("independent", fresh(), config())
    trainer = Trainer(stage, config())
    before = [parameter.detach().clone() for parameter in trainer.parameters]
    trainer.advance(features.batch(0))
    moved = [not torch.equal(a, b) for a, b in zip(before, trainer.parameters, strict=True)]
    assert sum(moved) > len(moved) / 2


def test_stages_that_see_pixels_refuse_features() -> None:
    cached = dataclasses.replace(config(), features="somewhere")
    with pytest.raises(ConfigError, match='the fixed-step stage sees pixels; set features = ""'):
        build_stage("fixed-step", fresh(), cached)

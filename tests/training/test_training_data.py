"""Training pictures: batches and crops that depend on (seed, step) alone, however they are held and shared."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from rdeic.errors import ConfigError, TrainingError
from rdeic.training import crops
from rdeic.training.data import Holding, centre_crops, decode
from rdeic.training.flat import FlatPictures, OnDevice
from rdeic.training.processes import Processes
from rdeic.training.sources import find
from support.image_sets import NOTHING, ON_DEVICE, folder, greys, images, seen

__all__ = ["folder"]  # a fixture


# Batches


def test_a_batch_depends_on_seed_and_step_alone(folder: Path) -> None:
    one, two = images(find([folder])), images(find([folder]))
    for step in (5, 0, 17):
        two.batch(step)  # what was asked before leaves no trace
    batch = one.batch(4)
    assert (batch.shape, batch.dtype) == ((3, 3, 64, 64), torch.uint8)
    assert batch.is_contiguous(memory_format=torch.channels_last)
    assert torch.equal(batch, two.batch(4))
    assert not torch.equal(batch, one.batch(5))
    assert not torch.equal(batch, images(find([folder]), seed=2).batch(4))


def test_prefetched_batches_are_the_same_batches(folder: Path) -> None:
    pictures = images(find([folder]))
    ahead = list(pictures.batches(2, 9))
    assert len(ahead) == 7
    for step, batch in enumerate(ahead, start=2):
        assert torch.equal(batch, pictures.batch(step))


def test_pictures_beyond_the_memory_limit_give_the_same_batches(folder: Path) -> None:
    assert torch.equal(
        images(find([folder]), 5).batch(3), images(find([folder]), 5, holding=NOTHING).batch(3)
    )


def test_what_the_memory_limit_leaves_out_is_not_decoded_at_the_start(tmp_path: Path) -> None:
    sources = greys(tmp_path, 30)
    for source in sources[20:]:
        source.path.write_bytes(b"no picture")  # noticed as soon as it is decoded
    one = decode(sources[0])
    assert one is not None
    pictures = images(sources, 5, holding=Holding(3 * one.nbytes + 1, None))
    assert pictures.unreadable == set()


@pytest.mark.parametrize("processes", [2, 3, 6])
def test_processes_together_take_the_batch_of_one(folder: Path, processes: int) -> None:
    sources, each = find([folder]), 6 // processes
    shares = [range(rank * each, (rank + 1) * each) for rank in range(processes)]
    sets = [images(sources, 6, share) for share in shares]
    alone = images(sources, 6)
    for step in (0, 7):
        assert torch.equal(torch.cat([part.batch(step) for part in sets]), alone.batch(step))
        assert torch.equal(sets[0].whole_batch(step), alone.batch(step))


def test_a_process_reads_its_own_pictures_only(tmp_path: Path) -> None:
    """The pictures of the other process are not there at all; every batch of an epoch can do without."""
    sources = greys(tmp_path, 12)
    own = [index for index in range(12) if index % 4 in (2, 3)]
    for index in set(range(12)) - set(own):
        sources[index].path.unlink()
    pictures = images(sources, 4, range(2, 4))
    found = [grey for step in range(6) for grey in seen(pictures.batch(step))]
    assert sorted(found) == sorted(own * 2)
    assert pictures.unreadable == set()


def test_every_picture_comes_once_an_epoch(tmp_path: Path) -> None:
    pictures = images(greys(tmp_path, 8), 2)
    orders = [[grey for step in range(4) for grey in seen(pictures.batch(4 * e + step))] for e in range(3)]
    assert [sorted(order) for order in orders] == [list(range(8))] * 3
    assert len({tuple(order) for order in orders}) > 1


def test_where_pictures_do_not_fill_the_last_batch_others_come_again(tmp_path: Path) -> None:
    pictures = images(greys(tmp_path, 10), 4)  # an epoch has 3 batches, 12 places
    counts = np.zeros(10, dtype=int)
    for epoch in range(40):
        epoch_counts = np.bincount(
            [grey for step in range(3) for grey in seen(pictures.batch(3 * epoch + step))], minlength=10
        )
        assert epoch_counts.min() == 1 and epoch_counts.sum() == 12
        counts += epoch_counts
    assert counts.max() < 60  # the 80 extra places are shared out


def test_fewer_pictures_than_a_batch_are_repeated(tmp_path: Path) -> None:
    assert {grey for step in range(5) for grey in seen(images(greys(tmp_path, 2), 5).batch(step))} == {0, 1}


def test_a_batch_that_cannot_be_split_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"batch = 8 cannot be split over 3 processes.*multiple of 6"):
        Processes(0, 3, torch.device("cpu")).share(8, 2)
    assert [Processes(rank, 2, torch.device("cpu")).share(8, 2) for rank in (0, 1)] == [range(4), range(4, 8)]


# Crops


def test_crops_on_the_device_are_those_of_the_host(folder: Path) -> None:
    host, device = images(find([folder]), 6), images(find([folder]), 6, holding=ON_DEVICE)
    exact = resized = 0
    for step in range(8):
        one, other = host.batch(step).short(), device.batch(step).short()
        assert other.shape == one.shape
        for a, b in zip(one, other, strict=True):
            difference = (a - b).abs()
            exact, resized = exact + bool(difference.max() == 0), resized + bool(difference.max() > 0)
            assert difference.max() <= 2  # levels; two roundings of one resizer
            assert difference.float().mean() < 0.5
    assert exact > 20 and resized > 5  # both kinds were met


def test_the_device_may_hold_some_pictures_and_the_host_cut_the_others(folder: Path) -> None:
    sources = find([folder])
    half = sum(decode(source).nbytes for source in sources[:6])  # type: ignore[union-attr]
    host, mixed = images(sources, 6), images(sources, 6, holding=Holding(half, torch.device("cpu")))
    for step, ahead in enumerate(mixed.batches(0, 6)):
        assert torch.equal(ahead, mixed.batch(step))
        assert ahead.is_contiguous(memory_format=torch.channels_last)
        assert (ahead.short() - host.batch(step).short()).abs().max() <= 2
    assert torch.equal(next(mixed.batches(3, 4)), mixed.batch(3))


def test_batches_prepared_ahead_on_the_device_are_the_same_batches(folder: Path) -> None:
    pictures = images(find([folder]), 5, holding=ON_DEVICE)
    for step, batch in enumerate(pictures.batches(2, 9), start=2):
        assert torch.equal(batch, pictures.batch(step))


def test_a_crop_is_cut_where_it_says() -> None:
    picture = np.random.default_rng(0).integers(0, 256, (90, 100, 3), dtype=np.uint8)
    for flip in (False, True):
        crop = crops.Crop(top=7, left=21, side=64, size=64, flip=flip)
        wanted = picture[7:71, 21:85][:, :: -1 if flip else 1]
        assert np.array_equal(crops.cut(picture, crop).permute(1, 2, 0).numpy(), wanted)
        found = FlatPictures({5: picture}, torch.device("cpu")).cut([OnDevice(5, crop)])
        assert np.array_equal(found[0].permute(1, 2, 0).numpy(), wanted)


def test_random_crops_fit_and_use_the_whole_picture() -> None:
    rng = np.random.default_rng(0)
    drawn = [crops.random(90, 200, 64, rng) for _ in range(2000)]
    assert all(crop.top + crop.side <= 90 and crop.left + crop.side <= 200 for crop in drawn)
    assert {crop.flip for crop in drawn} == {False, True}
    assert min(crop.left for crop in drawn) == 0 and max(crop.left for crop in drawn) == 136
    sides = [crop.side for crop in drawn]
    assert min(sides) == 64 and max(sides) == 90
    assert (
        0.6 < sum(side == 64 for side in sides) / len(sides) < 0.8
    )  # the rest is taken from a shrunken picture
    assert {crops.random(30, 200, 64, rng).side for _ in range(50)} == {30}


def test_validation_crops_are_the_middle_of_the_first_readable_pictures(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    wide = rng.integers(0, 256, (80, 120, 3), dtype=np.uint8)
    (tmp_path / "a.png").write_bytes(b"no picture")
    Image.fromarray(wide).save(tmp_path / "b.png")
    Image.fromarray(wide[::-1]).save(tmp_path / "c.png")
    found = centre_crops(find([tmp_path]), 1, 64)
    assert np.array_equal(found[0].permute(1, 2, 0).numpy(), wide[8:72, 28:92])
    assert len(found) == 1 and len(centre_crops(find([tmp_path]), 5, 64)) == 2
    with pytest.raises(TrainingError, match="none of the 1 pictures held out"):
        centre_crops(find([tmp_path / "a.png"]), 1, 64)

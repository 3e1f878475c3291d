"""Training pictures: what is found where, crops that depend on (seed, step) alone, however they are held and shared."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from rdeic.errors import ConfigError, TrainingError
from rdeic.training import crops
from rdeic.training.data import Holding, ImageSet, Sampling, centre_crops, decode
from rdeic.training.flat import FlatPictures, OnDevice
from rdeic.training.processes import Processes
from rdeic.training.sources import Source, find, split

EVERYTHING, NOTHING = Holding(1 << 30, None), Holding(0, None)
ON_DEVICE = Holding(1 << 30, torch.device("cpu"))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twelve small pictures, one of them smaller than a crop, in two nested folders."""
    top = tmp_path_factory.mktemp("pictures")
    (top / "deep").mkdir()
    rng = np.random.default_rng(0)
    for index in range(12):
        size = (90 + index, 100) if index else (40, 50)
        coarse = Image.fromarray(rng.integers(0, 256, (9, 10, 3), dtype=np.uint8))
        name = f"{index}.png" if index % 2 else f"deep/{index}.webp"
        coarse.resize(size[::-1], Image.Resampling.BICUBIC).save(top / name, lossless=True)
    return top


def images(
    found: list[Source],
    batch: int = 3,
    share: range | None = None,
    holding: Holding = EVERYTHING,
    seed: int = 1,
) -> ImageSet:
    return ImageSet(found, Sampling(batch, 64, seed), share or range(batch), holding)


def greys(folder: Path, count: int) -> list[Source]:
    """Pictures of one grey each, 0, 10, 20, ..."""
    for grey in range(count):
        Image.new("RGB", (64, 64), (grey * 10,) * 3).save(folder / f"{grey:02}.png")
    return find([folder])


def seen(batch: Tensor) -> list[int]:
    return [int(grey) // 10 for grey in batch[:, 0, 0, 0]]


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


# Damage


@pytest.mark.parametrize(
    "holding", [EVERYTHING, NOTHING, ON_DEVICE], ids=["held", "read anew", "on the device"]
)
def test_corrupt_pictures_are_skipped_and_counted(folder: Path, tmp_path: Path, holding: Holding) -> None:
    whole = (folder / "3.png").read_bytes()
    (tmp_path / "a.png").write_bytes(whole)
    (tmp_path / "b.jpg").write_bytes(b"not a picture")
    (tmp_path / "c.png").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "d.webp").write_bytes(b"")
    (tmp_path / "notes.txt").write_text("no picture, and no suffix of one")
    pictures = images(find([tmp_path]), 4, holding=holding)
    assert pictures.batch(0).shape == (4, 3, 64, 64)
    assert pictures.unreadable == {1, 2, 3}


def test_a_corrupt_picture_changes_the_same_crops_however_pictures_are_held(tmp_path: Path) -> None:
    sources = greys(tmp_path, 12)
    sources[5].path.write_bytes(b"damaged")
    batches = [
        [seen(images(sources, 4, holding=holding).batch(step)) for step in range(3)]
        for holding in (EVERYTHING, NOTHING)
    ]
    assert batches[0] == batches[1]
    assert 5 not in batches[0][0] + batches[0][1] + batches[0][2]


@pytest.mark.parametrize("holding", [EVERYTHING, NOTHING], ids=["held", "read anew"])
def test_empty_sets_are_refused(tmp_path: Path, holding: Holding) -> None:
    with pytest.raises(TrainingError, match="no usable picture; point --data"):
        images(find([tmp_path]), holding=holding)
    (tmp_path / "b.jpg").write_bytes(b"not a picture")
    with pytest.raises(TrainingError, match=r"no usable picture \(1 unreadable\)"):
        images(find([tmp_path]), holding=holding)
    with pytest.raises(TrainingError, match="missing"):
        find([tmp_path / "missing"])


def test_a_disk_that_goes_away_is_named(tmp_path: Path) -> None:
    sources = greys(tmp_path, 3)
    pictures = images(sources, holding=NOTHING)
    for source in sources:
        source.path.unlink()
    with pytest.raises(TrainingError, match="check that the disk is still there"):
        pictures.batch(0)


# Places


def test_a_tar_file_gives_the_pictures_of_its_folder(folder: Path, tmp_path: Path) -> None:
    archive = tmp_path / "shard.tar"
    with tarfile.open(archive, "w") as tar:
        tar.add(folder, arcname=".")
    packed = {Path(source.name).name: source.read() for source in find([archive])}
    assert packed == {source.name: source.read() for source in find([folder])}
    (tmp_path / "bad.tar").write_bytes(b"no archive")
    with pytest.raises(TrainingError, match=r"bad\.tar"):
        find([tmp_path / "bad.tar"])


def test_shards_as_webdataset_lays_them_out(tmp_path: Path) -> None:
    """Several members per key, of which the pictures count; shards lie in folders; format as its writer makes it."""
    members = {
        "0/a.jpg": b"jpg a", "0/a.json": b"{}", "0/a.cls": b"3", "0/b.png": b"png b", "0/b.txt": b"b",
        "0/c.seg.WEBP": b"webp c", "0/c.cls": b"1", "__key__": b"x",
    }  # fmt: skip
    (tmp_path / "shards").mkdir()
    for number, form in enumerate((tarfile.USTAR_FORMAT, tarfile.PAX_FORMAT, tarfile.GNU_FORMAT)):
        with tarfile.open(tmp_path / "shards" / f"{number:06}.tar", "w", format=form) as tar:
            for name, content in members.items():
                info = tarfile.TarInfo(f"{number}/{'long/' * 30}{name}")
                info.size = len(content)
                tar.addfile(info, io.BytesIO(content))
    found = find([tmp_path])
    assert [source.read() for source in found] == [b"jpg a", b"png b", b"webp c"] * 3
    assert [source.path.name for source in found[::3]] == ["000000.tar", "000001.tar", "000002.tar"]


@pytest.mark.parametrize("name", ["x.tar.gz", "x.tgz"])
def test_a_compressed_shard_is_refused(tmp_path: Path, name: str) -> None:
    with tarfile.open(tmp_path / name, "w:gz"):
        pass
    with pytest.raises(TrainingError, match=rf"{name} is compressed; unpack it"):
        find([tmp_path / name])
    with pytest.raises(TrainingError, match=rf"{name} is compressed; unpack it"):
        find([tmp_path])  # never passed over in silence


def test_the_split_is_stable_and_depends_on_names_alone() -> None:
    sources = [Source(f"{index}.jpg", Path("a") / f"{index}.jpg", 0, 1) for index in range(4000)]
    training, held_out = split(sources)
    assert 40 <= len(held_out) <= 85
    assert sorted(training + held_out) == sorted(sources)
    moved = [source._replace(path=Path("b") / source.name) for source in reversed(sources[:2000])]
    names = {source.name for source in held_out}
    assert {source.name for source in split(moved)[1]} == names & {source.name for source in moved}
    assert split(sources[:1]) == (sources[:1], sources[:1])
    assert [len(part) for part in split(sources[:3])] == [2, 1]

"""Where training pictures are found, and damaged ones that are passed over."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path

import pytest

from rdeic.errors import TrainingError
from rdeic.training.data import Holding
from rdeic.training.sources import Source, find, split
from support.image_sets import EVERYTHING, NOTHING, ON_DEVICE, folder, greys, images, seen

__all__ = ["folder"]  # a fixture


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

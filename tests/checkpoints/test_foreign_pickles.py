"""Checkpoints as pickles: the weights are read, nothing else in them matters or is run."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import pytest
import torch

from rdeic.checkpoints.checkpoints import shapes_of
from rdeic.checkpoints.foreign.sources import open_weights
from rdeic.errors import CheckpointError
from support.foreign_sources import Sources, own, sources, stable_diffusion

__all__ = ["own", "sources", "stable_diffusion"]  # fixtures


class Callback:
    """Like those that training frameworks leave in their checkpoints."""

    def __init__(self) -> None:
        self.best = {"loss": 1.0}


class Payload:
    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return (exec, ("open('run-by-pickle', 'w').close()",))


class TestPickles:
    def test_objects_beside_the_weights_do_not_matter(self, sources: Sources) -> None:
        path = sources.pickled("lightning.ckpt", sources.own, callbacks={Callback: Callback()}, epoch=3)
        with open_weights(path) as weights:
            assert weights.shapes == shapes_of(sources.own)
            assert torch.equal(
                weights.fetch("preprocess_model.out.bias"), sources.own["preprocess_model.out.bias"]
            )

    def test_no_code_is_run(self, sources: Sources, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.chdir(sources.folder)
        Path("plain.ckpt").write_bytes(pickle.dumps({"state_dict": Payload()}, protocol=2))
        evil = sources.pickled("evil.ckpt", {"x": torch.zeros(1)}, hook=Payload())
        with open_weights(evil) as weights:  # the hook becomes an object that does nothing
            assert weights.shapes == {"x": (1,)}
        with pytest.raises(CheckpointError, match=r"plain\.ckpt"), open_weights(Path("plain.ckpt")):
            pass
        assert not Path("run-by-pickle").exists()

    @pytest.mark.parametrize("content", [b"", b"PK\x03\x04 no archive", b"weights"])
    @pytest.mark.parametrize("suffix", [".ckpt", ".safetensors"])
    def test_files_that_are_no_weights(self, tmp_path: Path, content: bytes, suffix: str) -> None:
        path = tmp_path / f"broken{suffix}"
        path.write_bytes(content)
        with pytest.raises(CheckpointError, match=path.name), open_weights(path):
            pass

    @pytest.mark.parametrize("content", [{"state_dict": {"x": 3}}, {"state_dict": {}}, [1, 2]])
    def test_pickles_without_tensors(self, tmp_path: Path, content: object) -> None:
        torch.save(content, tmp_path / "other.ckpt")
        with pytest.raises(CheckpointError, match=r"other\.ckpt"), open_weights(tmp_path / "other.ckpt"):
            pass

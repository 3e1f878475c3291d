"""Codecs that are pickled or copied."""

from __future__ import annotations

import copy
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch

import rdeic
from rdeic.checkpoints import registry
from rdeic.codec.codec import Codec

ONE = np.full((1, 1, 3), 200, np.uint8)


def test_a_pickled_codec_loads_its_model_again(
    tiny: Codec, tiny_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tiny.compress(ONE)
    monkeypatch.chdir(tiny_folder.parent)
    for codec in (tiny, rdeic.load("tiny", torch.device("cpu"))):
        pickled = pickle.dumps(codec)
        assert len(pickled) < 1000  # without the weights
        with monkeypatch.context() as elsewhere:
            elsewhere.chdir("/")
            again = pickle.loads(pickled)
        assert again is not codec
        assert again.config == tiny.config
        assert again.compress(ONE) == tiny.compress(ONE)


def test_a_pickled_codec_of_the_packages_own_model_finds_it_by_name_wherever_that_is() -> None:
    pickled = pickle.dumps(rdeic.load("mini"))
    assert str(registry.find("mini")).encode() not in pickled
    assert pickle.loads(pickled).config == rdeic.load("mini").config


def test_a_pickled_codec_whose_model_is_gone_says_so(
    tiny: Codec, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    moved = tmp_path / "moved"
    moved.mkdir()
    for name in (registry.CONFIG_FILE, registry.WEIGHTS_FILE):
        (moved / name).write_bytes((tiny._weights.folder / name).read_bytes())
    pickled = pickle.dumps(rdeic.load(moved))
    (moved / registry.CONFIG_FILE).unlink()
    with pytest.raises(rdeic.ConfigError, match=r"no model '.*moved'"):
        pickle.loads(pickled)


def test_copies_share_what_was_loaded(tiny: Codec) -> None:
    assert copy.copy(tiny) is tiny
    assert copy.deepcopy({"codec": tiny})["codec"] is tiny

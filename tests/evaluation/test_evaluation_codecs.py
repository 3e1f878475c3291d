"""Codecs behind one interface: each file alone restores its picture, and what is missing is said with a remedy."""

from __future__ import annotations

import dataclasses
import io
import itertools
import pickle
import shutil
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from rdeic.errors import ConfigError, ImageError
from rdeic.evaluation.codecs import catalogue, own
from rdeic.evaluation.codecs.catalogue import Options
from rdeic.evaluation.codecs.own import OwnCodec
from rdeic.evaluation.codecs.pillow import FORMATS
from rdeic.evaluation.types import UnavailableCodec
from rdeic.pictures import images
from support.named_codecs import made, options

__all__ = ["options"]  # a fixture

MAGIC = {  # where and how a file of each format begins, as its standard says
    "jpeg": (0, b"\xff\xd8\xff"),
    "webp": (8, b"WEBP"),
    "avif": (4, b"ftypavif"),
    "jxl": (0, b"\xff\x0a"),
    "heic": (4, b"ftyphei"),
}


@pytest.mark.parametrize("name", FORMATS)
def test_every_format_there_and_back(name: str, photo: images.Picture, options: Options) -> None:
    if FORMATS[name].module:
        pytest.importorskip(FORMATS[name].module)
    codec = pickle.loads(pickle.dumps(made(name, options)))  # as it comes to another process
    files = [codec.encode(photo, setting) for setting in codec.settings]
    place, magic = MAGIC[name]
    assert all(data[place:].startswith(magic) for data in files)
    assert all(len(small) < len(large) for small, large in itertools.pairwise(files))
    errors = [np.mean((codec.decode(data).astype(float) - photo) ** 2) for data in files]
    assert all(error > 0 for error in errors) and errors[-1] < errors[0] < 3000
    assert any(char.isdigit() for char in codec.version)


def test_the_encoders_run_at_the_settings_of_published_baselines(
    photo: images.Picture, options: Options
) -> None:
    wanted: dict[str, dict[str, Any]] = {
        "jpeg": {"quality": 5, "optimize": True},
        "webp": {"quality": 5, "method": 6},
        "avif": {"quality": 5, "speed": 4},
    }
    for name, arguments in wanted.items():
        buffer = io.BytesIO()
        Image.fromarray(photo).save(buffer, name.upper(), **arguments)
        assert made(f"{name}:q5", options).encode(photo, "q5") == buffer.getvalue()


def test_quality_zero_of_jpeg_is_its_lowest(photo: images.Picture, options: Options) -> None:
    codec = made("jpeg", options)
    assert codec.encode(photo, "q0") == codec.encode(photo, "q1") != codec.encode(photo, "q2")


def test_a_missing_plugin_is_named_with_the_remedy(monkeypatch: pytest.MonkeyPatch, options: Options) -> None:
    monkeypatch.setitem(sys.modules, "pillow_heif", None)  # what makes Python's import fail
    (missing,) = catalogue.create("heic/2", options)
    assert isinstance(missing, UnavailableCodec)
    assert missing.codec == "heic/2" and missing.reason.endswith("; pip install pillow-heif")


@pytest.mark.parametrize("shape", [(97, 131, 3), (1, 1, 3), (2, 300, 3)])
@pytest.mark.parametrize("factor", [2, 3])
def test_a_downscaled_file_restores_the_size_on_its_own(
    shape: tuple[int, int, int], factor: int, options: Options
) -> None:
    picture = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
    codec = made(f"webp/{factor}:q50", options)
    assert codec.name == f"webp/{factor}"
    assert codec.decode(codec.encode(picture, "q50")).shape == shape


def test_a_downscaled_picture_goes_through_lanczos_both_ways(photo: images.Picture, options: Options) -> None:
    full, half = made("jpeg", options), made("jpeg/2", options)
    small = Image.fromarray(photo).resize((65, 48), Image.Resampling.LANCZOS)
    data = half.encode(photo, "q20")
    assert data[4:] == full.encode(np.array(small), "q20")
    again = Image.fromarray(full.decode(data[4:])).resize((130, 96), Image.Resampling.LANCZOS)
    assert np.array_equal(half.decode(data), np.array(again))
    with pytest.raises(ImageError, match="too few"):
        half.decode(b"abc")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("gif", "no codec 'gif': choose from rdeic, jpeg"),
        ("avif/1x", "no codec"),
        ("avif/9", "scale down by 2 to 8"),
        ("avif:q101", "avif knows no setting 'q101'"),
        ("avif:5", "write q0 to q100"),
        ("rdeic:5", "rdeic-tiny has no setting '5': choose from q0 to q100 for a quality, or a rate such as"),
        ("rdeic:q50,q150", "rdeic-tiny has no setting 'q150'"),
        ("rdeic:0bpp", "rdeic-tiny has no setting '0bpp'"),
        ("rdeic:fixed", "rdeic-tiny has no setting 'fixed'"),  # would be measured at the default quality
        ("vvc:abc", "vvc has no setting 'abc': choose from q0 to q63"),
        ("bpg:q52", "bpg has no setting 'q52': choose from q0 to q51"),
        ("vvc/2:q50,q64", "vvc has no setting 'q64'"),
        ("mbt2018:q9", "write q1 to q8"),
        ("nowhere.toml", "nowhere.toml: cannot be read"),
    ],
)
def test_what_there_is_not_is_refused(name: str, message: str, options: Options) -> None:
    with pytest.raises(ConfigError, match=message):
        catalogue.create(name, options)


def test_settings_of_ones_own(options: Options) -> None:
    assert made("webp/2:q7,q9", options).settings == ("q7", "q9")
    assert made("rdeic:q0,0.5bpp", options).settings == ("q0", "0.5bpp")
    assert made("rdeic", options._replace(own_settings=("q33",))).settings == ("q33",)


def test_our_models_are_codecs(photo: images.Picture, tiny_folder: Path, options: Options) -> None:
    codec = made("rdeic", options)
    assert isinstance(codec, OwnCodec) and codec.settings == own.CONTINUOUS
    assert codec.name == "rdeic-tiny"  # only the model that comes with the package is plain rdeic
    codec.prepare()
    again = pickle.loads(pickle.dumps(own.create(str(tiny_folder), ("q50",), "cpu", 60)))
    data = codec.encode(photo, "q50")
    assert data == again.encode(photo, "q50")
    assert codec.decode(data).shape == photo.shape
    wanted = 8 * len(data) / (130 * 96)
    assert len(codec.encode(photo, f"{wanted:.5f}bpp")) == pytest.approx(len(data), rel=0.05)


def test_other_weights_are_another_version(tmp_path: Path, tiny_folder: Path, options: Options) -> None:
    from support.tiny import TINY, save_random_model

    other = save_random_model(TINY, tmp_path / "tiny", seed=1)
    versions = {
        made("rdeic", options._replace(models=(str(folder),))).version for folder in (tiny_folder, other)
    }
    assert len(versions) == 2


def test_a_model_of_one_rate_has_no_qualities(tmp_path: Path, options: Options) -> None:
    from support.tiny import TINY, save_random_model

    one_rate = dataclasses.replace(TINY, compression=dataclasses.replace(TINY.compression, quality_levels=0))
    folder = save_random_model(one_rate, tmp_path / "mine", seed=0)
    options = options._replace(models=(str(folder),))
    assert made("rdeic", options).settings == made("rdeic:fixed", options).settings == own.FIXED
    for wanted in (options._replace(own_settings=("q0",)), options._replace(own_settings=("0.05bpp",))):
        with pytest.raises(ConfigError, match=r"rdeic-mine has no setting '.*': choose from fixed"):
            catalogue.create("rdeic", wanted)


def test_what_training_wrote_is_called_by_the_folder_above(
    tmp_path: Path, tiny_folder: Path, options: Options
) -> None:
    for stage in ("prior", "independent"):
        shutil.copytree(tiny_folder, tmp_path / stage / "model")
    models = tuple(str(tmp_path / stage / "model") for stage in ("prior", "independent"))
    found = catalogue.create("rdeic", options._replace(models=models))
    assert [one.name for one in found if isinstance(one, OwnCodec)] == ["rdeic-prior", "rdeic-independent"]

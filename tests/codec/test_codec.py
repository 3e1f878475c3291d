"""Picture => bytes => picture through the public names, with a tiny random model."""

from __future__ import annotations

import dataclasses
import math
import re
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

import rdeic
from rdeic.checkpoints import registry
from rdeic.codec.codec import Codec
from rdeic.container import container
from rdeic.pictures import images
from support.tiny import TINY, save_random_model


def test_public_names_are_the_promised_ones() -> None:
    promised = (
        "CheckpointError Codec ConfigError FileFormatError ImageError Info Metadata ModelMismatchError RateError "
        "RdeicError TooLargeError TrainingError TransparencyError VerifyError __version__ inspect load"
    )
    assert sorted(rdeic.__all__) == sorted(promised.split())
    assert all(getattr(rdeic, name) is not None for name in rdeic.__all__)
    assert dir(rdeic) == sorted(rdeic.__all__)
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        rdeic.nothing  # noqa: B018


def test_every_exception_is_below_the_root() -> None:
    errors = [getattr(rdeic, name) for name in rdeic.__all__ if name.endswith("Error")]
    assert len(errors) == 11
    assert all(issubclass(error, rdeic.RdeicError) for error in errors)


@pytest.mark.parametrize("size", [(1, 1), (1, 70), (64, 64), (65, 63), (130, 96)])
def test_any_size_comes_back(tiny: Codec, photo: images.Picture, size: tuple[int, int]) -> None:
    width, height = size
    blob = tiny.compress(photo[:height, :width])
    restored = tiny.decompress(blob)
    assert (restored.mode, restored.size) == ("RGB", size)
    assert rdeic.inspect(blob)[:2] == size


def test_all_kinds_of_sources_give_the_same_file(tiny: Codec, photo: images.Picture, tmp_path: Path) -> None:
    path = tmp_path / "photo.png"
    images.write(photo, path, "png")
    blob = tiny.compress(photo)
    for source in (path, str(path), path.read_bytes(), Image.fromarray(photo)):
        assert tiny.compress(source) == blob
    (tmp_path / "photo.rdeic").write_bytes(blob)
    assert rdeic.inspect(tmp_path / "photo.rdeic") == rdeic.inspect(blob)
    assert tiny.decompress(str(tmp_path / "photo.rdeic")) == tiny.decompress(blob)


def test_header_says_what_was_asked(tiny: Codec, tiny_folder: Path, photo: images.Picture) -> None:
    blob = tiny.compress(photo, quality=20, seed=77)
    info = rdeic.inspect(blob)
    assert info == (130, 96, 20.0, 2, 77, registry.fingerprint(tiny_folder).hex(), len(blob), None, 130, 96)
    assert info.bpp == pytest.approx(len(blob) * 8 / (130 * 96))
    assert [container.unpack(tiny.compress(photo, quality=q)).header.quality for q in (0, 0.1, 100)] == [
        0,
        0,
        255,
    ]
    assert rdeic.inspect(tiny.compress(photo)).quality == pytest.approx(50, abs=0.3)


def test_bpp_is_met_as_closely_as_the_qualities_allow(tiny: Codec, photo: images.Picture) -> None:
    sizes = [len(tiny.compress(photo, quality=byte / 2.55)) for byte in range(0, 256, 5)]
    wanted = math.sqrt(sizes[0] * sizes[-1])
    found = len(tiny.compress(photo, bpp=wanted * 8 / (130 * 96)))
    assert abs(found - wanted) <= min(abs(size - wanted) for size in sizes)
    with pytest.raises(rdeic.RateError, match="choose from"):
        tiny.compress(photo, bpp=0.001)


def test_max_bytes_is_never_exceeded_and_its_error_names_a_size_that_works(
    tiny: Codec, photo: images.Picture
) -> None:
    for limit in (200, 400, 10**9):
        assert len(tiny.compress(photo, max_bytes=limit)) <= limit
    assert tiny.compress(photo, max_bytes=10**9) == tiny.compress(photo, quality=100)
    with pytest.raises(rdeic.RateError, match="smallest possible is") as caught:
        tiny.compress(photo, max_bytes=20)
    smallest = int(re.findall(r"(\d+) bytes", str(caught.value))[-1])
    assert len(tiny.compress(photo, max_bytes=smallest)) == smallest


def test_decoding_repeats_exactly_and_depends_on_the_seed(tiny: Codec, photo: images.Picture) -> None:
    blob, other = tiny.compress(photo), tiny.compress(photo, seed=1)
    assert len(other) == len(blob) + 4
    assert tiny.decompress(blob) == tiny.decompress(blob)
    assert tiny.decompress(blob) != tiny.decompress(other)


def test_steps_and_detail_change_the_picture(tiny: Codec, photo: images.Picture) -> None:
    blob = tiny.compress(photo)
    default = tiny.decompress(blob)
    assert tiny.decompress(blob, steps=2) == default
    assert tiny.decompress(blob, steps=3) != default
    assert tiny.decompress(blob, detail=0.0).size == default.size


def test_threads_share_a_codec_that_has_not_loaded_yet(
    tiny_folder: Path, tiny: Codec, photo: images.Picture
) -> None:
    blob = tiny.compress(photo)
    fresh = rdeic.load(tiny_folder, "cpu")
    # As many as here: in half precision sums depend on it.
    same = {"initializer": torch.set_num_threads, "initargs": (torch.get_num_threads(),)}
    with ThreadPoolExecutor(4, **same) as pool:
        pictures = list(pool.map(fresh.decompress, [blob] * 4))
    assert all(picture == tiny.decompress(blob) for picture in pictures)


@pytest.mark.parametrize(
    "settings",
    [
        {"quality": 50, "bpp": 0.1},
        {"bpp": 0.1, "max_bytes": 100},
        {"quality": -1},
        {"quality": 100.5},
        {"quality": math.nan},
        {"bpp": 0.0},
        {"bpp": math.inf},
        {"seed": -1},
        {"seed": 2**32},
    ],
)
def test_compress_settings_that_make_no_sense(
    tiny: Codec, photo: images.Picture, settings: dict[str, float]
) -> None:
    with pytest.raises(rdeic.ConfigError):
        tiny.compress(photo, **settings)


@pytest.mark.parametrize(
    "settings", [{"detail": -0.1}, {"detail": 11}, {"detail": math.nan}, {"steps": 0}, {"steps": 301}]
)
def test_decompress_settings_out_of_range(
    tiny: Codec, photo: images.Picture, settings: dict[str, float]
) -> None:
    with pytest.raises(rdeic.ConfigError):
        tiny.decompress(tiny.compress(photo), **settings)


def test_a_file_of_another_model_names_the_model_it_needs(
    tiny: Codec, photo: images.Picture, tmp_path: Path
) -> None:
    other = rdeic.load(save_random_model(TINY, tmp_path / "other", seed=1), "cpu")
    blob = other.compress(photo)
    with pytest.raises(rdeic.ModelMismatchError, match=f"model {rdeic.inspect(blob).fingerprint}.*--model"):
        tiny.decompress(blob)


def test_a_fixed_rate_model_refuses_a_quality(photo: images.Picture, tmp_path: Path) -> None:
    fixed = dataclasses.replace(TINY, compression=dataclasses.replace(TINY.compression, quality_levels=0))
    codec = rdeic.load(save_random_model(fixed, tmp_path / "fixed", seed=0), "cpu")
    blob = codec.compress(photo)
    assert codec.decompress(blob).size == (130, 96)
    assert codec.compress(photo, max_bytes=len(blob)) == blob
    with pytest.raises(rdeic.ConfigError, match="one fixed rate"):
        codec.compress(photo, quality=50)


def test_missing_models_and_devices_are_named(tiny_folder: Path, photo: images.Picture) -> None:
    with pytest.raises(rdeic.ConfigError, match="no model 'nonesuch'"):
        rdeic.load("nonesuch")
    for device in ("toaster", "cuda:99"):
        with pytest.raises(rdeic.ConfigError, match=f"'{device}' cannot be used"):
            rdeic.load(tiny_folder, device).compress(photo)


def test_broken_weights_are_a_checkpoint_error(
    tiny_folder: Path, photo: images.Picture, tmp_path: Path
) -> None:
    weights = (tiny_folder / registry.WEIGHTS_FILE).read_bytes()
    (tmp_path / registry.CONFIG_FILE).write_bytes((tiny_folder / registry.CONFIG_FILE).read_bytes())
    for content in (b"", weights[:-1], b"no weights at all"):
        (tmp_path / registry.WEIGHTS_FILE).write_bytes(content)
        with pytest.raises(rdeic.CheckpointError, match=re.escape(str(tmp_path))):
            rdeic.load(tmp_path, "cpu").compress(photo)
    (tmp_path / registry.CONFIG_FILE).write_text("{}")
    with pytest.raises(rdeic.ConfigError, match=r"config\.json: .*missing settings"):
        rdeic.load(tmp_path)


def test_overflow_is_an_error_and_no_black_picture(photo: images.Picture, tmp_path: Path) -> None:
    folder = save_random_model(TINY, tmp_path / "tiny", seed=0)
    weights = load_file(folder / registry.WEIGHTS_FILE)
    weights["unet.conv_out.bias"].fill_(math.inf)
    save_file(weights, folder / registry.WEIGHTS_FILE)
    codec = rdeic.load(folder, "cpu")
    with pytest.raises(rdeic.ImageError, match=r"tiny overflows in (bfloat16|float32); "):
        codec.decompress(codec.compress(photo))


def test_every_truncation_and_resealed_damage_is_a_format_error(tiny: Codec, photo: images.Picture) -> None:
    blob = tiny.compress(photo, quality=0)
    for length in range(0, len(blob), 7):
        with pytest.raises(rdeic.FileFormatError):
            tiny.decompress(blob[:length])
    file = container.unpack(blob)
    for payload in (b"", file.payload[:1], file.payload + b"\1\2\3\4"):
        with pytest.raises(rdeic.FileFormatError):
            tiny.decompress(container.pack(container.RdeicFile(file.header, payload)))


def test_a_huge_announced_size_fails_before_any_work(tiny: Codec, photo: images.Picture) -> None:
    header, payload, _ = container.unpack(tiny.compress(photo))
    for side in (14_000, 65_535):
        huge = container.pack(container.RdeicFile(header._replace(width=side, height=side), payload))
        with pytest.raises(rdeic.FileFormatError):
            tiny.decompress(huge)

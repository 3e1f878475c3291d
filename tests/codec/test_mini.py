"""The embedded model on the bundled photograph, as a user meets it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import rdeic
from rdeic.checkpoints import registry
from rdeic.container.container import OVERHEAD, unpack
from rdeic.entropy.indices import packed_size
from rdeic.pictures import images

PHOTO = Path(__file__).parents[2] / "examples" / "kodim23.png"
PIXELS = 768 * 512


@pytest.fixture(scope="module")
def codec() -> rdeic.Codec:
    return rdeic.load("mini", "cpu")


@pytest.fixture(scope="module")
def blob(codec: rdeic.Codec) -> bytes:
    return codec.compress(PHOTO, quality=50)


def _psnr(a: np.ndarray, b: np.ndarray) -> float:
    return 10 * np.log10(255**2 / np.mean((a.astype(float) - b.astype(float)) ** 2))


def test_the_photograph_comes_back(codec: rdeic.Codec, blob: bytes) -> None:
    restored = codec.decompress(blob)
    original = images.read(PHOTO)
    assert restored.size == (768, 512)
    assert len(blob) * 8 / PIXELS < 0.1
    # A picture of its mean colour reaches 14 dB here.
    assert _psnr(np.asarray(restored), original) > 23


def test_size_grows_with_quality(codec: rdeic.Codec) -> None:
    sizes = [len(codec.compress(PHOTO, quality=q)) for q in (0, 25, 50, 75, 100)]
    assert sizes == sorted(sizes)
    assert sizes[-1] > 3 * sizes[0]


def test_bpp_is_met_within_three_percent(codec: rdeic.Codec) -> None:
    bpp = len(codec.compress(PHOTO, bpp=0.05)) * 8 / PIXELS
    assert bpp == pytest.approx(0.05, rel=0.03)


@pytest.mark.parametrize("limit", [1500, 3333])
def test_max_bytes_is_a_promise(codec: rdeic.Codec, limit: int) -> None:
    assert 0.95 * limit < len(codec.compress(PHOTO, max_bytes=limit)) <= limit


def test_an_unreachable_size_names_the_smallest(codec: rdeic.Codec) -> None:
    with pytest.raises(rdeic.RateError, match="smallest possible is") as error:
        codec.compress(PHOTO, max_bytes=100, scale=False)
    smallest = int(str(error.value).split("smallest possible is ")[1].split()[0])
    assert len(codec.compress(PHOTO, max_bytes=smallest, scale=False)) == smallest


def test_what_the_full_size_cannot_have_is_stored_smaller(codec: rdeic.Codec) -> None:
    stored = []
    for limit in (2000, 600, 100):
        blob = codec.compress(PHOTO, max_bytes=limit)
        info = rdeic.inspect(blob)
        assert 0.8 * limit < len(blob) <= limit
        assert (info.width, info.height) == (768, 512)
        assert codec.decompress(blob).size == (768, 512)
        stored.append(info.stored_width)
    assert 768 == stored[0] > stored[1] > stored[2]


@pytest.mark.parametrize("quality", [0, 128, 255])
def test_file_size_agrees_with_the_estimated_likelihoods(codec: rdeic.Codec, quality: int) -> None:
    """The float networks' estimate against the bytes of the exact ones: 1.5% and 24 bytes."""
    model = codec._weights.load().model
    pixels = torch.from_numpy(images.pad(images.read(PHOTO), 64)).permute(2, 0, 1)[None] / 127.5 - 1
    with torch.inference_mode():
        feature = model.autoencoder.feature(pixels)
        estimate = float(model.compression(feature, torch.tensor([quality / 255]), None).bits) / 8
    data = codec.compress(PHOTO, quality=quality * 100 / 255)
    fixed = packed_size(8 * 12, codec.config.compression.codebook_size) + OVERHEAD
    assert unpack(data).header.quality == quality
    assert abs(len(data) - fixed - estimate) <= 0.015 * len(data) + 24


def test_a_fresh_process_restores_the_same_pixels(codec: rdeic.Codec, blob: bytes, tmp_path: Path) -> None:
    (tmp_path / "a.rdeic").write_bytes(blob)
    (tmp_path / "b.rdeic").write_bytes(codec.compress(PHOTO, quality=10))
    program = (
        f"import torch; torch.set_num_threads({torch.get_num_threads()}); import rdeic.cli; rdeic.cli.main()"
    )
    command = [sys.executable, "-c", program, "decompress", "--device", "cpu"]
    subprocess.run([*command, str(tmp_path / "a.rdeic"), "-o", str(tmp_path / "alone.png")], check=True)
    # In as many threads as alone: where bfloat16 is multiplied, pixels depend on their number.
    subprocess.run([*command, str(tmp_path), "-o", str(tmp_path / "batch"), "--jobs", "1"], check=True)
    assert np.array_equal(np.asarray(Image.open(tmp_path / "alone.png")), np.asarray(codec.decompress(blob)))
    assert (tmp_path / "alone.png").read_bytes() == (tmp_path / "batch" / "a.png").read_bytes()


def test_detail_and_steps_change_the_picture_only(codec: rdeic.Codec, blob: bytes) -> None:
    plain = np.asarray(codec.decompress(blob))
    for options in ({"detail": 0.5}, {"steps": 2}, {"steps": 5}):
        other = np.asarray(codec.decompress(blob, **options))
        assert other.shape == plain.shape
        assert not np.array_equal(other, plain)
        assert _psnr(other, plain) > 18


def test_the_embedded_weights_are_small() -> None:
    mini = next(model for model in registry.installed() if model.name == "mini")
    assert mini.weight_bytes <= 40_000_000


@pytest.mark.parametrize("size", [(1, 1), (1, 300), (65, 63)])
def test_odd_sizes_survive(codec: rdeic.Codec, size: tuple[int, int]) -> None:
    width, height = size
    picture = images.read(PHOTO)[:height, :width]
    restored = codec.decompress(codec.compress(picture))
    assert restored.size == size

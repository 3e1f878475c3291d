"""What networks compute in where nobody says: bfloat16 if the processor multiplies it, and bits are the same."""

from __future__ import annotations

import dataclasses
import pickle
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image

import rdeic
from rdeic.codec.codec import Codec
from rdeic.config import LocalAutoencoderConfig
from rdeic.container import container, payload
from rdeic.model.precision import asked, automatic, capabilities
from rdeic.pictures import images
from support.program_runs import Program, model, program
from support.tiny import TINY, save_random_model

__all__ = ["model", "program"]  # fixtures
PHOTO = images.read(Path(__file__).parents[2] / "examples" / "kodim23.png")[100:228, 200:392]
CPU = torch.device("cpu")


def codec_in(precision: str, folder: Path | str = "mini") -> Codec:
    return rdeic.load(folder, "cpu", encoder_precision=precision, precision=precision)


@pytest.fixture(scope="module")
def codecs() -> dict[str, Codec]:
    return {precision: codec_in(precision) for precision in ("fp32", "bf16")}


def psnr(a: Image.Image, b: Image.Image) -> float:
    difference: NDArray[np.float64] = np.asarray(a, np.float64) - np.asarray(b, np.float64)
    return float(10 * np.log10(255**2 / np.mean(difference**2)))


@pytest.mark.parametrize(
    ("processor", "device", "expected"),
    [
        ({"avx2": True, "avx512_f": True, "avx512_bf16": True}, "cpu", torch.bfloat16),
        ({"avx512_bf16": False, "amx_bf16": True}, "cpu", torch.bfloat16),
        ({"neon": True, "bf16": True, "sve_bf16": True}, "cpu", torch.bfloat16),
        ({"avx2": True, "avx512_f": True, "avx512_bf16": False}, "cpu", None),
        ({"neon": True, "bf16": True}, "cpu", None),
        ({}, "cpu", None),
        ({"avx512_bf16": True}, "cuda", None),
    ],
)
def test_bfloat16_is_for_processors_that_multiply_it(
    processor: Mapping[str, object], device: str, expected: torch.dtype | None
) -> None:
    assert automatic(torch.device(device), processor) == expected


def test_a_codec_asks_this_processor(tiny_folder: Path) -> None:
    expected = automatic(CPU, capabilities()) or torch.float32
    for codec in (rdeic.load(tiny_folder, "cpu"), codec_in("auto", tiny_folder)):
        model = codec._weights.load().model
        assert model.precision == model.analysis_precision == expected
    chosen = rdeic.load(tiny_folder, "cpu", precision="fp32")._weights.load().model
    assert (chosen.precision, chosen.analysis_precision) == (torch.float32, expected)


def test_what_makes_and_reads_bits_keeps_its_precision(codecs: dict[str, Codec]) -> None:
    compression = codecs["bf16"]._weights.load().model.compression
    for part in (compression.h_a, compression.entropy, compression.log_gain, compression.guide_quality):
        assert part is not None
        assert {value.dtype for value in part.parameters()} == {torch.float32}
    for part in (compression.g_a, compression.g_s):
        assert {value.dtype for value in part.parameters()} == {torch.bfloat16}


@pytest.mark.parametrize("made_in", ["fp32", "bf16"])
@pytest.mark.parametrize("quality", [0, 50, 100])
def test_the_same_bits_and_nearly_the_same_picture(
    codecs: dict[str, Codec], made_in: str, quality: int
) -> None:
    blob = codecs[made_in].compress(PHOTO, quality, verify=True)
    file = container.unpack(blob)
    latents = []
    for codec in codecs.values():
        coded = payload.split(file.header, file.payload, codec.config)
        with torch.inference_mode():
            latents.append(codec._weights.load().model.decode_y_hat(coded, file.header.quality))
    assert torch.equal(*latents)
    plain, fast = (codec.decompress(blob) for codec in codecs.values())
    assert 50 < psnr(plain, fast) < 80  # not the same: it was computed otherwise


def test_files_of_both_are_as_good(codecs: dict[str, Codec]) -> None:
    sizes, distances = [], []
    for codec in codecs.values():
        blob = codec.compress(PHOTO, 50)
        sizes.append(len(blob))
        distances.append(psnr(codecs["fp32"].decompress(blob), Image.fromarray(PHOTO)))
    assert sizes[1] == pytest.approx(sizes[0], rel=0.03)
    assert distances[1] == pytest.approx(distances[0], abs=0.2)


def test_networks_without_group_norms_can_too(tmp_path: Path, photo: images.Picture) -> None:
    local = LocalAutoencoderConfig(
        encoder_widths=(8, 12, 16),
        encoder_blocks=(1, 1, 1),
        decoder_widths=(8, 12, 16, 24),
        decoder_blocks=(1, 1, 1, 1),
        refine_channels=4,
        latent_channels=TINY.autoencoder.latent_channels,
        latent_scale=1.0,
    )
    config = dataclasses.replace(TINY, autoencoder=local)
    folder = save_random_model(config, tmp_path / "local", seed=0)
    plain, fast = codec_in("fp32", folder), codec_in("bf16", folder)
    blob = fast.compress(photo, verify=True)
    assert psnr(plain.decompress(blob), fast.decompress(blob)) > 45


def test_a_pickled_codec_keeps_its_choice(tiny_folder: Path) -> None:
    for precision in ("fp32", "bf16"):
        arrived = pickle.loads(pickle.dumps(rdeic.load(tiny_folder, "cpu", precision=precision)))
        assert arrived._weights.load().model.precision == asked(precision)


def test_the_program_restores_as_it_is_told(
    program: Program, model: tuple[str, ...], tiny_folder: Path, photo: images.Picture, tmp_path: Path
) -> None:
    blob = rdeic.load(tiny_folder, "cpu").compress(photo)
    Path("a.rdeic").write_bytes(blob)
    for precision in ("fp32", "bf16"):
        options = ("--precision", precision, "-o", f"{precision}.png")
        assert program("decompress", "a.rdeic", *model, *options).code == 0
        with Image.open(f"{precision}.png") as image:
            expected = np.asarray(codec_in(precision, tiny_folder).decompress(blob))
            assert np.array_equal(np.asarray(image), expected)

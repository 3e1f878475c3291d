"""E in half precision: other files, as exact as any."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

import rdeic
from rdeic.checkpoints import registry
from rdeic.codec.codec import Codec
from rdeic.pictures import images
from support.program_runs import Program, model, picture, program
from support.tiny import TINY, save_random_model

__all__ = ["model", "picture", "program"]  # fixtures
HALVES = {"bf16": torch.bfloat16, "fp16": torch.float16}


@pytest.fixture(scope="module")
def plain_codec(tiny_folder: Path) -> Codec:
    """All of it in float32."""
    return rdeic.load(tiny_folder, "cpu", encoder_precision="fp32", precision="fp32")


def analysed(codec: Codec, photo: images.Picture) -> tuple[Tensor, list[torch.dtype]]:
    """y of the photograph's first 64x64 pixels, and the precisions that convolutions of E computed it in."""
    model, seen = codec._weights.load().model, []

    def look(_: nn.Module, arguments: tuple[Tensor, ...], result: Tensor) -> None:
        seen.append(result.dtype)

    convolutions = [layer for layer in model.autoencoder.encoder.modules() if isinstance(layer, nn.Conv2d)]
    handles = [layer.register_forward_hook(look) for layer in convolutions]
    x = torch.from_numpy(photo[:64, :64]).permute(2, 0, 1)[None] / 127.5 - 1
    with torch.inference_mode():
        y = model.analyse(x)
    for handle in handles:
        handle.remove()
    return y, seen


@pytest.mark.parametrize("precision", HALVES)
def test_it_is_e_that_computes_in_half_precision_and_nothing_after_it(
    plain_codec: Codec, tiny_folder: Path, photo: images.Picture, precision: str
) -> None:
    codec = rdeic.load(tiny_folder, "cpu", encoder_precision=precision, precision="fp32")
    y, seen = analysed(codec, photo)
    plain, seen_plainly = analysed(plain_codec, photo)
    assert set(seen) == {HALVES[precision]}
    assert set(seen_plainly) == {torch.float32}
    assert y.dtype == torch.float32
    assert 0 < float((y - plain).norm() / plain.norm()) < 0.05
    loaded = codec._weights.load().model
    halves = [name for name, value in loaded.named_parameters() if value.dtype != torch.float32]
    analysis = (
        ("autoencoder.encoder.", "compression.g_a.") if precision == "bf16" else ("autoencoder.encoder.",)
    )
    assert all(name.startswith(analysis) for name in halves)
    assert not any(".conv_out." in name for name in halves)  # for z0, which training needs


@pytest.mark.parametrize("precision", HALVES)
def test_whatever_y_it_chooses_comes_back_exactly(
    plain_codec: Codec, tiny_folder: Path, photo: images.Picture, precision: str
) -> None:
    """On both sides, also where the decoder knows nothing of it."""
    model, plain = (
        rdeic.load(tiny_folder, "cpu", encoder_precision=precision)._weights.load().model,
        plain_codec._weights.load().model,
    )
    x = torch.from_numpy(photo[:64, :128]).permute(2, 0, 1)[None] / 127.5 - 1
    for quality in (0, 128, 255):
        with torch.inference_mode():
            coded, y_hat = model.encode_with_y_hat(model.analyse(x), quality)
            assert torch.equal(plain.decode_y_hat(coded, quality), y_hat)
            assert torch.equal(model.decode_y_hat(coded, quality), y_hat)


def test_files_of_it_decode_to_the_same_picture_everywhere(
    plain_codec: Codec, tiny_folder: Path, photo: images.Picture
) -> None:
    codec = rdeic.load(tiny_folder, "cpu", encoder_precision="bf16", precision="fp32")
    blob = codec.compress(photo, quality=70, verify=True)
    assert codec.decompress(blob) == plain_codec.decompress(blob)
    assert rdeic.inspect(blob)[:5] == rdeic.inspect(plain_codec.compress(photo, quality=70))[:5]


def test_an_overflow_is_an_error_and_no_file(photo: images.Picture, tmp_path: Path) -> None:
    folder = save_random_model(TINY, tmp_path / "tiny", seed=0)
    weights = load_file(folder / registry.WEIGHTS_FILE)
    weights["autoencoder.encoder.conv_in.bias"].fill_(60_000.0)
    weights["autoencoder.encoder.conv_in.weight"].fill_(60_000.0)
    save_file(weights, folder / registry.WEIGHTS_FILE)
    white = np.full((64, 64, 3), 255, np.uint8)
    with pytest.raises(
        rdeic.ImageError, match="E of model tiny overflows in float16; take another precision"
    ):
        rdeic.load(folder, "cpu", encoder_precision="fp16").compress(white)
    assert rdeic.load(folder, "cpu", encoder_precision="bf16").compress(white)


def test_unknown_precisions_are_named(tiny_folder: Path) -> None:
    with pytest.raises(rdeic.ConfigError, match="'int8' is none of auto, fp32, bf16, fp16"):
        rdeic.load(tiny_folder, encoder_precision="int8")


def test_the_program_knows_the_option(
    program: Program, picture: Path, model: tuple[str, ...], tiny_folder: Path, photo: images.Picture
) -> None:
    done = program("compress", picture, *model, "--encoder-precision", "bf16", "--compile", "--verify")
    assert done.code == 0
    codec = rdeic.load(tiny_folder, "cpu", encoder_precision="bf16")
    assert picture.with_suffix(".rdeic").read_bytes() == codec.compress(photo)
    assert program("decompress", "photo.rdeic", *model, "--no-compile", "-o", "restored.png").code == 0

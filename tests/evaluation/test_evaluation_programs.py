"""Codecs that are programs or networks of others: Y4M, VVC, BPG, and what is missing."""

from __future__ import annotations

import sys
import types
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from rdeic.errors import ImageError
from rdeic.evaluation.codecs import catalogue, learned, pillow, vvc
from rdeic.evaluation.codecs.catalogue import Options
from rdeic.evaluation.codecs.downscaled import Downscaled
from rdeic.evaluation.codecs.pillow import PillowCodec
from rdeic.evaluation.types import UnavailableCodec
from rdeic.pictures import images
from support.named_codecs import made, options

__all__ = ["options"]  # a fixture


# BT.709 with 10 bits of limited range: black is 64, white 940, neutral chroma 512, its extremes 64 and 960.
@pytest.mark.parametrize(
    ("colour", "samples"),
    [
        ((0, 0, 0), (64, 512, 512)),
        ((255, 255, 255), (940, 512, 512)),
        ((255, 0, 0), (64 + round(876 * 0.2126), 409, 960)),
        ((0, 0, 255), (64 + round(876 * 0.0722), 960, 471)),
    ],
)
def test_colours_become_those_of_the_standard(colour: tuple[int, ...], samples: tuple[int, ...]) -> None:
    frame = vvc.to_y4m(np.full((2, 4, 3), colour, np.uint8))
    head, _, rest = frame.partition(b"\n")
    assert head == b"YUV4MPEG2 W4 H2 F1:1 Ip A1:1 C420p10" and rest.startswith(b"FRAME\n")
    values = np.frombuffer(rest[6:], "<u2")
    assert values.tolist() == [samples[0]] * 8 + [samples[1]] * 2 + [samples[2]] * 2


def test_pictures_survive_y4m(photo: images.Picture) -> None:
    grey = np.repeat(photo[:, :, :1], 3, axis=2)
    assert np.abs(vvc.from_y4m(vvc.to_y4m(grey)).astype(int) - grey).max() <= 1
    smooth = np.array(Image.fromarray(photo).resize((13, 10)).resize((130, 96), Image.Resampling.BICUBIC))
    assert np.abs(vvc.from_y4m(vvc.to_y4m(smooth)).astype(int) - smooth).mean() < 2


@pytest.mark.parametrize(
    "data",
    [b"", b"YUV4MPEG2 W4 H2 C420\nFRAME\n" + bytes(12), vvc.to_y4m(np.zeros((4, 4, 3), np.uint8))[:-1]],
)
def test_another_y4m_is_refused(data: bytes) -> None:
    with pytest.raises(ImageError):
        vvc.from_y4m(data)


@pytest.fixture
def programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Stand-ins that copy, and note how they were called: the codecs' own work is what is tested."""
    folder = tmp_path / "bin"
    folder.mkdir()
    # vvencapp -i IN -o OUT, vvdecapp -b IN -o OUT, bpgenc -m 9 -q QP -o OUT IN, bpgdec -o OUT IN
    copies = {"vvencapp": "$2 $4", "vvdecapp": "$2 $4", "bpgenc": "$7 $6", "bpgdec": "$3 $2"}
    for name, places in copies.items():
        (folder / name).write_text(f'#!/bin/sh\necho {name} "$@" >> {tmp_path}/calls\ncp {places}\n')
        (folder / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:/usr/bin:/bin")
    return tmp_path / "calls"


@pytest.mark.parametrize("shape", [(96, 130), (95, 129), (95, 130)])
def test_vvc_of_odd_sides(
    shape: tuple[int, int], photo: images.Picture, programs: Path, options: Options
) -> None:
    picture = photo[: shape[0], : shape[1]]
    codec = made("vvc:q52", options)
    data = codec.encode(picture, "q52")
    assert codec.decode(data).shape == picture.shape
    assert len(data) == 1 + len(vvc.to_y4m(images.pad(picture, 2)))
    assert "--preset slower --qp 52 --qpa 0" in programs.read_text()


def test_bpg_is_called_as_its_authors_say(photo: images.Picture, programs: Path, options: Options) -> None:
    codec = made("bpg:q51", options)
    assert np.array_equal(codec.decode(codec.encode(photo, "q51")), photo)  # the stand-in loses nothing
    encode, decode = programs.read_text().splitlines()
    assert encode.startswith("bpgenc -m 9 -q 51 -o ") and decode.startswith("bpgdec -o ")


def test_programs_that_are_not_there_are_named(monkeypatch: pytest.MonkeyPatch, options: Options) -> None:
    monkeypatch.setenv("PATH", "")
    for name, program in (("bpg", "bpgenc"), ("vvc", "vvencapp"), ("vvc/2", "vvencapp")):
        (missing,) = catalogue.create(name, options)
        assert isinstance(missing, UnavailableCodec)
        assert missing.codec == name and f"no program {program} on the PATH" in missing.reason


class _Network(torch.nn.Module):
    """Answers as CompressAI's models do; its latent is the pixels themselves."""

    def compress(self, x: torch.Tensor) -> dict[str, Any]:
        assert x.shape[2] % 64 == x.shape[3] % 64 == 0 and x.min() >= 0 and x.max() <= 1
        y = (x * 255).round().to(torch.uint8).numpy().tobytes()
        return {"strings": [[y], [b"hyper"]], "shape": (x.shape[2] // 64, x.shape[3] // 64)}

    def decompress(self, strings: list[list[bytes]], shape: tuple[int, int]) -> dict[str, torch.Tensor]:
        (y,), (z,) = strings
        assert z == b"hyper"
        values = torch.frombuffer(bytearray(y), dtype=torch.uint8).float() / 255
        return {"x_hat": values.view(1, 3, 64 * shape[0], 64 * shape[1]) * 1.01}  # beyond 1: to be clamped


def test_learned_codecs_keep_everything_in_the_file(
    monkeypatch: pytest.MonkeyPatch, photo: images.Picture, options: Options
) -> None:
    wanted = []

    def model(quality: int, metric: str, pretrained: bool) -> _Network:
        wanted.append((quality, metric, pretrained))
        return _Network()

    zoo = types.ModuleType("compressai.zoo")
    zoo.image_models = {"mbt2018": model}  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "compressai", types.ModuleType("compressai"))
    monkeypatch.setitem(sys.modules, "compressai.zoo", zoo)
    encoder = made("mbt2018:q2,q5", options)
    data = encoder.encode(photo, "q5")
    decoder = made("mbt2018:q1", options)  # knows nothing of the encoder
    assert np.abs(decoder.decode(data).astype(int) - photo).max() <= 3
    assert wanted[-1] == (5, "mse", True)
    assert len(data) == 9 + 128 * 192 * 3 + 5
    with pytest.raises(ImageError, match="too few"):
        decoder.decode(data[:9])


def test_missing_packages_and_weights_are_named(monkeypatch: pytest.MonkeyPatch, options: Options) -> None:
    for package in ("compressai", "neuralcompression"):
        monkeypatch.setitem(sys.modules, package, None)
    for name in learned.NAMES:
        (missing,) = catalogue.create(name, options)
        assert isinstance(missing, UnavailableCodec) and missing.codec == name
        assert "pip install" in missing.reason or "examples/codecs" in missing.reason


def test_a_codec_that_pillow_cannot_make_says_so(photo: images.Picture) -> None:
    codec = pillow.create("jpeg", (), 60)
    assert isinstance(codec, PillowCodec)
    with pytest.raises(OSError, match="identify"):
        codec.decode(b"not a picture")
    assert Downscaled(codec, 2).timeout == 60

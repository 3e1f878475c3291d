"""What programs hand to the public functions: all that makes sense works, all else is an RdeicError with a remedy."""

from __future__ import annotations

import array
import decimal
import fractions
import io
import math
import mmap
import os
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import rdeic
from rdeic.codec.codec import Codec
from rdeic.pictures import images

ONE = np.full((1, 1, 3), 200, np.uint8)


class Named:
    """Has a path, and is none."""

    def __init__(self, path: Path | bytes | str) -> None:
        self.path = path

    def __fspath__(self) -> Any:
        return os.fspath(self.path)


class Foreign:
    """Another library's array."""

    def __init__(self, pixels: images.Picture) -> None:
        self.kept = pixels
        self.__array_interface__ = pixels.__array_interface__


class Reads:
    """Reads like a file, and is none."""

    def __init__(self, result: Any) -> None:
        self.result = result

    def read(self) -> Any:
        if isinstance(self.result, Exception):
            raise self.result
        return self.result


@pytest.fixture(scope="module")
def blob(tiny: Codec, photo: images.Picture) -> bytes:
    return tiny.compress(photo)


@pytest.fixture(scope="module")
def png(photo: images.Picture, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("pictures") / "photo.png"
    images.write(photo, path, "png")
    return path


def test_every_way_to_hand_over_a_picture_gives_the_same_file(
    tiny: Codec, blob: bytes, photo: images.Picture, png: Path
) -> None:
    data = png.read_bytes()
    with (
        png.open("rb") as opened,
        png.open("rb") as unbuffered,
        mmap.mmap(unbuffered.fileno(), 0, prot=mmap.PROT_READ) as mapped,
    ):
        sources = [
            *(data, bytearray(data), memoryview(data), array.array("B", data), mapped),
            *(png, str(png), Named(png), Named(os.fsencode(png))),
            *(opened, io.BytesIO(data), Reads(data), Reads(bytearray(data))),
            *(photo, photo[::-1][::-1], Foreign(photo), torch.from_numpy(photo.copy())),
            Image.fromarray(photo),
        ]
        assert {tiny.compress(source) for source in sources} == {blob}


def test_every_way_to_hand_over_a_file_gives_the_same_header_and_picture(
    tiny: Codec, blob: bytes, tmp_path: Path
) -> None:
    path = tmp_path / "photo.rdeic"
    path.write_bytes(blob)
    expected, picture = rdeic.inspect(blob), tiny.decompress(blob)

    def ways() -> list[Any]:
        return [
            *(bytearray(blob), memoryview(blob), array.array("B", blob), np.frombuffer(blob, np.uint8)),
            *(path, str(path), Named(path), Named(os.fsencode(path)), io.BytesIO(blob), Reads(blob)),
        ]

    assert all(rdeic.inspect(one) == expected for one in ways())
    assert all(tiny.decompress(one) == picture for one in ways()[::3])
    with path.open("rb") as opened:
        assert tiny.decompress(opened) == picture


NO_PICTURES = [
    (None, "expected a picture, as bytes, a path or an open file, not None"),
    (3, "not int 3"),
    (3.5, "not float 3.5"),
    (object(), "not object"),
    ([[[1, 2, 3]]], "not list"),
    (Path, "not type"),
    (Reads("text"), 'reading the open file gives str .*mode "rb"'),
    (Reads(None), "reading the open file gives None"),
    (Reads(OSError("gone")), "the open file cannot be read: gone"),
    (Reads(TypeError("odd")), "the open file cannot be read: odd"),
    (io.StringIO("text"), 'mode "rb"'),
    ("a\0b.png", "zero character"),
    ("\ud800.png", "is no path"),
    (Named(3), "is no path"),  # type: ignore[arg-type]
    ("x" * 5000, "cannot be read"),
    ("nowhere/none.png", "cannot be read"),
    (b"", "the file is empty"),
    (bytearray(b"no picture"), "not a picture"),
    (
        np.zeros((4, 4), np.uint8),
        r"expected an \(H, W, 3\) uint8 array, got uint8 of shape \(4, 4\); if it is grey",
    ),
    (np.zeros((4, 4, 1), np.uint8), "if it is grey"),
    (np.zeros((4, 4, 4), np.uint8), r"array\[\.\.\., :3\]"),
    (np.zeros((3, 5, 6), np.uint8), r"array\.transpose\(1, 2, 0\)"),
    (np.zeros((1, 4, 4, 3), np.uint8), r"array\[0\]"),
    (np.zeros(40, np.uint8), r"array\.tobytes\(\)"),
    (np.zeros((4, 4, 2), np.uint8), "expected an"),
    (np.zeros((4, 4, 3), bool), r"255 \* array"),
    (np.zeros((4, 4, 3)), r"\(255 \* array\)\.round\(\)"),
    (np.zeros((4, 4, 3), np.uint16), "scale its values"),
    (np.zeros((4, 4, 3), np.int64), r"array\.astype\(numpy\.uint8\)"),
    (np.zeros((4, 4, 3), complex), "got complex128"),
    (np.array([[["a"] * 3]]), "got <U1"),
    (np.array([[[None] * 3]]), "got object"),
    (np.zeros((0, 4, 3), np.uint8), "sides must be 1 to 65535"),
    (np.float32(3), r"of shape \(\)"),
    (torch.zeros(4, 4, 3, requires_grad=True), "does not convert"),
]


@pytest.mark.parametrize(("source", "message"), NO_PICTURES)
def test_what_is_no_picture_is_an_image_error(tiny: Codec, source: Any, message: str) -> None:
    with pytest.raises(rdeic.ImageError, match=message):
        tiny.compress(source)


def test_a_closed_file_or_picture_is_an_image_error(tiny: Codec, png: Path) -> None:
    with png.open("rb") as opened:
        pass
    picture = Image.open(png)
    picture.close()
    for source in (opened, picture):
        with pytest.raises(rdeic.ImageError, match=r"closed|cannot be read|damaged"):
            tiny.compress(source)


@pytest.mark.parametrize(
    ("blob", "message"),
    [
        (None, "expected an .rdeic file, as bytes, a path or an open file, not None"),
        (3, "not int 3"),
        ({}, "not dict"),
        (Image.new("RGB", (4, 4)), "not Image"),
        (io.StringIO("RDE"), 'mode "rb"'),
        ("a\0b", "zero character"),
        (Reads(ValueError("closed")), "cannot be read: closed"),
        (np.zeros((4, 4)), "not an .rdeic file"),
        (np.zeros(3, object), "an .rdeic file"),
        (np.zeros(3, "datetime64[s]"), "an .rdeic file"),
        (bytearray(), "empty"),
        ("nowhere.rdeic", r"nowhere\.rdeic: cannot be read"),
    ],
)
def test_what_is_no_file_is_a_format_error(tiny: Codec, blob: Any, message: str) -> None:
    for read in (rdeic.inspect, tiny.decompress):
        with pytest.raises(rdeic.FileFormatError, match=message):
            read(blob)


NUMBERS = [np.float32(30), np.float64(30), np.int8(30), np.uint16(30), np.array(30.0), 30, 30.0]
NUMBERS += [fractions.Fraction(30), decimal.Decimal(30), torch.tensor(30)]


@pytest.mark.parametrize("number", NUMBERS, ids=lambda number: type(number).__name__)
def test_numbers_of_any_kind_are_taken(tiny: Codec, blob: bytes, number: Any) -> None:
    assert tiny.compress(ONE, quality=number) == tiny.compress(ONE, quality=30)
    assert tiny.compress(ONE, max_bytes=number + 70) == tiny.compress(ONE, max_bytes=100)
    assert tiny.compress(ONE, seed=number) == tiny.compress(ONE, seed=30)
    assert tiny.compress(ONE, max_pixels=number, verify=np.True_) == tiny.compress(ONE)
    assert tiny.decompress(blob, detail=number / 30, steps=number / 15) == tiny.decompress(blob)


NONSENSE = [
    True,
    np.bool_(True),
    "30",
    b"30",
    1j,
    [30],
    np.array([30.0]),
    np.array([1, 2]),
    math.nan,
    object(),
    {},
]
OUT_OF_RANGE = [-1, math.inf, -math.inf, 10**400, -(10**5000), np.float32("nan"), decimal.Decimal("NaN")]


@pytest.mark.parametrize("value", [*NONSENSE, *OUT_OF_RANGE], ids=lambda value: type(value).__name__)
@pytest.mark.parametrize("name", ["quality", "max_bytes", "seed", "bpp"])
def test_settings_that_are_no_such_number(tiny: Codec, name: str, value: Any) -> None:
    if name == "max_bytes" and type(value) is int and value > 0:  # room enough
        assert tiny.compress(ONE, max_bytes=value) == tiny.compress(ONE, quality=100)
        return
    with pytest.raises(rdeic.ConfigError, match=name):
        tiny.compress(ONE, **{name: value})


@pytest.mark.parametrize("value", [*NONSENSE, *OUT_OF_RANGE], ids=lambda value: type(value).__name__)
@pytest.mark.parametrize("name", ["detail", "steps"])
def test_decoder_settings_that_are_no_such_number(tiny: Codec, blob: bytes, name: str, value: Any) -> None:
    with pytest.raises(rdeic.ConfigError, match=name):
        tiny.decompress(blob, **{name: value})


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"max_bytes": 0}, "max_bytes 0 is not 1 or more"),
        ({"max_bytes": 20.5}, "max_bytes 20.5 is not a whole number"),
        ({"seed": 1.5}, "seed 1.5 is not a whole number"),
        ({"quality": "best"}, "quality must be a number, not str 'best'"),
        ({"quality": True}, "quality must be a number, not bool True"),
        ({"quality": 101}, "quality 101 is not within 0..100"),
        ({"bpp": -0.1}, "bpp -0.1 is not a positive number"),
        ({"max_pixels": 0}, "max_pixels 0 is not 1 or more"),
        ({"max_pixels": None}, "max_pixels must be a number, not None"),
        ({"verify": 1}, "verify must be True or False, not int 1"),
        ({"verify": "yes"}, "verify must be True or False, not str 'yes'"),
        ({"scale": None}, "scale must be True or False, not None"),
        ({"metadata": {"make": "Maker"}}, "metadata must be a rdeic.Metadata, not dict"),
        ({"metadata": rdeic.Metadata(taken="2020-01-01")}, "metadata: a field"),
        ({"metadata": rdeic.Metadata(make=3)}, "metadata: a field"),
        ({"metadata": rdeic.Metadata(location=("north", "east"))}, "metadata: a field"),
        ({"metadata": rdeic.Metadata(location=(math.nan, 0))}, "location nan"),
    ],
)
def test_the_remedy_is_in_the_message(tiny: Codec, settings: dict[str, Any], message: str) -> None:
    with pytest.raises(rdeic.ConfigError, match=re.escape(message)):
        tiny.compress(ONE, **settings)


@pytest.mark.parametrize("model", [None, 3, b"\0", "mini\0", ["mini"], object(), "\ud800", Named(3)])  # type: ignore[arg-type]
def test_what_names_no_model(model: Any) -> None:
    with pytest.raises(rdeic.ConfigError, match=r"is no path|no model"):
        rdeic.load(model)


@pytest.mark.parametrize("device", [0, b"cpu", True, object(), ["cpu"]])
def test_what_names_no_device(tiny_folder: Path, device: Any) -> None:
    with pytest.raises(rdeic.ConfigError, match='device must be a name such as "cpu" or "cuda:1", not'):
        rdeic.load(tiny_folder, device)


def test_models_and_devices_in_other_words(tiny_folder: Path, tiny: Codec) -> None:
    for model in (str(tiny_folder), Named(tiny_folder)):
        assert rdeic.load(model, torch.device("cpu")).compress(ONE) == tiny.compress(ONE)
    with pytest.raises(rdeic.ConfigError, match="'meta' cannot be used"):
        rdeic.load(tiny_folder, "meta").compress(ONE)

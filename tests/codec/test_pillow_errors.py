"""What is wrong with an .rdeic file, as users of Pillow hear of it."""

from __future__ import annotations

import contextlib
import dataclasses
import io
import warnings
from collections.abc import Iterator
from pathlib import Path
from random import Random

import pytest
from PIL import Image, ImageFile, UnidentifiedImageError

import rdeic
import rdeic.pillow
from fuzz import engine, fuzz_decoder
from fuzz.mutations import mutated
from rdeic.container import container
from support.pillow_files import blob, installed, opened
from support.tiny import TINY, save_random_model

__all__ = ["blob", "installed"]  # fixtures


@pytest.mark.parametrize("garbage", [b"", b"R", b"RDE", b"RDEIC is a codec", b"\x89PNG\r\n\x1a\n", bytes(99)])
def test_garbage_is_not_identified(garbage: bytes) -> None:
    with pytest.raises(UnidentifiedImageError, match="cannot identify image file"):
        opened(garbage)
    with pytest.raises(SyntaxError, match=r"not an \.rdeic file"):
        rdeic.pillow.RdeicImageFile(io.BytesIO(garbage))


def test_a_newer_version_is_told() -> None:
    with (
        pytest.warns(UserWarning, match="version 2 is newer than this program"),
        pytest.raises(UnidentifiedImageError),
    ):
        opened(b"RDE\2" + bytes(40))


@pytest.mark.parametrize("lenient", [False, True])
def test_a_broken_file_says_what_is_wrong(
    blob: bytes, tmp_path: Path, lenient: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ImageFile, "LOAD_TRUNCATED_IMAGES", lenient)
    path = tmp_path / "cut.rdeic"
    for broken, said in ((blob[:-1], "checksum mismatch"), (blob[:10], "truncated")):
        path.write_bytes(broken)
        with pytest.raises(UnidentifiedImageError, match=said) as raised:
            Image.open(path)
        assert isinstance(raised.value.__cause__, rdeic.FileFormatError)


def test_bits_that_do_not_decode_are_an_oserror(blob: bytes) -> None:
    parsed = container.unpack(blob)
    broken = container.pack(parsed._replace(payload=parsed.payload + b"\xff" * 9))
    image = opened(broken)
    image.verify()  # cannot tell: that takes the model
    with pytest.raises(OSError, match=r"invalid|damaged"):
        opened(broken).load()


def test_a_model_that_is_not_installed_is_named(blob: bytes) -> None:
    parsed = container.unpack(blob)
    other = container.pack(parsed._replace(header=parsed.header._replace(fingerprint=b"\xde\xad\xbe\xef")))
    with opened(other) as image:
        assert image.size == (130, 96)
        with pytest.raises(OSError, match=r"made with model deadbeef.*RDEIC_MODELS") as raised:
            image.load()
    assert isinstance(raised.value.__cause__, rdeic.ModelMismatchError)


@contextlib.contextmanager
def documented() -> Iterator[None]:
    """Whatever the bytes, nothing but what Pillow documents."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with contextlib.suppress(OSError, Image.DecompressionBombError):
            yield


def test_hostile_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save_random_model(
        dataclasses.replace(TINY, compression=dataclasses.replace(TINY.compression, codebook_size=13)),
        tmp_path / "odd",
        seed=0,
    )
    monkeypatch.setenv("RDEIC_MODELS", str(tmp_path))
    rdeic.pillow.register("cpu")
    codec = rdeic.load(tmp_path / "odd", "cpu")
    corpus = [*fuzz_decoder.fresh(codec), *fuzz_decoder.stored_smaller(codec), *engine.stored("container")]
    random, restored = Random(1), 0
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", fuzz_decoder.MAX_PIXELS // 2)
    for _ in range(300):
        with documented(), opened(mutated(corpus, random)) as image:
            size = image.size
            image.thumbnail((20, 20))
            image.load()
            assert size[0] * size[1] <= fuzz_decoder.MAX_PIXELS
            restored += 1
    assert restored

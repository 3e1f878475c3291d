"""Pillow with `rdeic.pillow`: registering, opening, reduced sizes."""

from __future__ import annotations

import copy
import io
import pickle
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageFile

import rdeic
import rdeic.pillow
from rdeic.codec.codec import Codec
from rdeic.container import container
from rdeic.pictures import images
from support.pillow_files import blob, file, installed, opened, same

__all__ = ["blob", "file", "installed"]  # fixtures


# Registering


def test_the_import_registers_and_opening_takes_no_torch(file: Path) -> None:
    program = f"""
import sys
from PIL import Image, UnidentifiedImageError
try:
    Image.open({str(file)!r})
except UnidentifiedImageError:
    import rdeic.pillow
with Image.open({str(file)!r}) as image:
    print(image.format, image.mode, *image.size, image.get_format_mimetype(), len(image.getexif()))
    image.draft(None, (10, 10))
    image.verify()
print("torch" in sys.modules)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["RDEIC", "RGB", "130", "96", "image/x-rdeic", "1", "False"]


def test_registering_twice_does_no_harm(file: Path) -> None:
    before = Image.OPEN["RDEIC"]
    rdeic.pillow.register()
    assert Image.OPEN["RDEIC"] is before  # and with it the models that are loaded
    rdeic.pillow.register("cpu")
    rdeic.pillow.register("cpu")
    assert Image.ID.count("RDEIC") == 1
    assert Image.registered_extensions()[".rdeic"] == "RDEIC"
    with Image.open(file) as image:
        assert image.getpixel((0, 0))


def test_a_device_can_be_registered(blob: bytes, tmp_path: Path, photo: images.Picture) -> None:
    earlier = opened(blob)
    rdeic.pillow.register("cuda:99")
    with pytest.raises(OSError, match="device 'cuda:99' cannot be used here"):
        opened(blob).load()
    with pytest.raises(ValueError, match="device 'cuda:99' cannot be used here"):
        Image.fromarray(photo).save(tmp_path / "a.rdeic")
    earlier.load()


# Opening


def test_the_picture_is_the_codecs(blob: bytes, file: Path, tiny: Codec) -> None:
    restored = tiny.decompress(blob)
    with Image.open(file) as image:
        assert (image.format, image.mode, image.size, image.filename) == (
            "RDEIC",
            "RGB",
            (130, 96),
            str(file),
        )
        assert image.info["exif"] == restored.info["exif"]
        assert same(image, restored)
        assert image.fp is None  # closed, as it is not needed any more
    assert same(image, restored)


def test_detail_steps_and_codec_can_be_told(blob: bytes, tiny: Codec) -> None:
    image = opened(blob)
    assert isinstance(image, rdeic.pillow.RdeicImageFile)
    image.load(tiny, detail=0.5, steps=5)
    assert same(image, tiny.decompress(blob, detail=0.5, steps=5))
    assert not same(image, tiny.decompress(blob))
    image.load(detail=2)  # too late
    assert same(image, tiny.decompress(blob, detail=0.5, steps=5))
    wrong = opened(blob)
    assert isinstance(wrong, rdeic.pillow.RdeicImageFile)
    with pytest.raises(OSError, match=r"detail 11 is not within 0\.\.10"):
        wrong.load(detail=11)
    wrong.load()


class _Stream(io.RawIOBase):
    """Cannot go back."""

    def __init__(self, data: bytes) -> None:
        self._left = io.BytesIO(data)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        return self._left.readinto(buffer)


def test_open_files_of_all_kinds(blob: bytes, file: Path, tiny: Codec) -> None:
    restored = tiny.decompress(blob)
    with file.open("rb", buffering=0) as stream:
        image = Image.open(stream)
        assert not stream.closed
    assert same(image, restored)  # although its file is closed
    assert same(Image.open(_Stream(blob)), restored)
    behind = io.BytesIO(b"something else" + blob)
    behind.seek(14)
    assert same(rdeic.pillow.RdeicImageFile(behind), restored)
    parser = ImageFile.Parser()
    for byte in blob:
        parser.feed(bytes([byte]))
    assert same(parser.close(), restored)


def test_images_are_like_others_of_pillows(blob: bytes, file: Path, tiny: Codec) -> None:
    restored = tiny.decompress(blob)
    image = opened(blob)
    assert image.tell() == 0
    image.seek(0)
    with pytest.raises(EOFError):
        image.seek(1)
    for twin in (opened(blob).copy(), copy.copy(opened(blob)), copy.deepcopy(opened(blob))):
        assert same(twin, restored)
    sent = pickle.loads(pickle.dumps(opened(blob)))
    assert same(sent, restored)
    assert (sent.format, sent.info) == ("RDEIC", restored.info)
    assert opened(blob)._repr_png_()
    image.putpixel((0, 0), (1, 2, 3))
    assert image.getpixel((0, 0)) == (1, 2, 3)
    closed = Image.open(file)
    closed.close()
    with pytest.raises(ValueError, match="closed"):
        closed.load()
    assert tiny.compress(opened(blob)) == tiny.compress(restored)


def test_verify(blob: bytes, file: Path) -> None:
    image = Image.open(file)
    image.verify()
    assert image.fp is None
    assert same(opened(blob), Image.open(file))


def test_threads_share_a_model(blob: bytes, tiny: Codec) -> None:
    rdeic.pillow.register("cpu")
    with ThreadPoolExecutor(4) as pool:
        pixels = list(pool.map(lambda _: np.asarray(opened(blob)), range(8)))
    restored = np.asarray(tiny.decompress(blob))
    assert all(np.array_equal(one, restored) for one in pixels)


def test_numbers_of_pixels_have_pillows_limit(blob: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 130 * 96 // 2 - 1)
    with pytest.raises(Image.DecompressionBombError):
        opened(blob)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 130 * 96 - 1)
    with pytest.warns(Image.DecompressionBombWarning):
        opened(blob).load()
    header = container.unpack(blob).header._replace(width=60_000, height=60_000)
    large = container.pack(container.unpack(blob)._replace(header=header))
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", None)
    with pytest.raises(OSError, match="60000x60000"):
        opened(large).load()


# Reduced sizes


@pytest.fixture
def smaller(tiny: Codec, blob: bytes) -> bytes:
    """A file of 130x96 pixels that stands for 390x288."""
    parsed = container.unpack(blob)
    header = parsed.header._replace(width=390, height=288, stored=parsed.header.coded)
    return container.pack(parsed._replace(header=header))


def test_a_picture_stored_smaller_is_not_enlarged_for_a_thumbnail(
    smaller: bytes, blob: bytes, tiny: Codec
) -> None:
    image = opened(smaller)
    assert image.size == (390, 288)
    assert image.draft("L", (100, 97)) is None
    assert image.size == (390, 288)
    assert image.draft("L", (100, 96)) == ("RGB", (0, 0, 130, 96))
    assert (image.size, image.mode) == ((130, 96), "RGB")
    assert same(image, tiny.decompress(blob))
    assert image.draft(None, (10, 10)) is None  # too late

    image = opened(smaller)
    image.thumbnail((65, 65))
    assert image.size == (65, 48)
    whole = tiny.decompress(smaller)
    whole.thumbnail((65, 65))
    assert np.abs(np.asarray(image).astype(int) - np.asarray(whole)).mean() < 2


def test_any_other_picture_is_restored_at_its_own_size(blob: bytes, tiny: Codec) -> None:
    image = opened(blob)
    assert image.draft(None, (10, 10)) is None
    image.thumbnail((65, 65))
    whole = tiny.decompress(blob)
    whole.thumbnail((65, 65))
    assert same(image, whole)

"""Pillow with `rdeic.pillow`: whatever its users do with an image, done with .rdeic files."""

from __future__ import annotations

import contextlib
import copy
import dataclasses
import io
import pickle
import subprocess
import sys
import warnings
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageCms, ImageFile, UnidentifiedImageError
from PIL.ExifTags import GPS, IFD, Base

import rdeic
import rdeic.pillow
from fuzz import engine, fuzz_decoder
from fuzz.mutations import mutated
from rdeic.codec.codec import Codec
from rdeic.container import container
from rdeic.container.metadata import Location, Metadata
from rdeic.pictures import exif, images
from support.tiny import TINY, save_random_model

KODIM23 = Path(__file__).resolve().parents[2] / "examples" / "kodim23.png"


@pytest.fixture(autouse=True)
def installed(tiny_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The tiny model is among the installed ones, and what a test registers ends with it."""
    monkeypatch.setenv("RDEIC_MODELS", str(tiny_folder.parent))
    for registered in (Image.OPEN, Image.SAVE, Image.SAVE_ALL):
        monkeypatch.setitem(registered, "RDEIC", registered["RDEIC"])


@pytest.fixture
def blob(tiny: Codec, photo: images.Picture) -> bytes:
    return tiny.compress(photo, quality=40)


@pytest.fixture
def file(blob: bytes, tmp_path: Path) -> Path:
    path = tmp_path / "photo.rdeic"
    path.write_bytes(blob)
    return path


def opened(blob: bytes) -> ImageFile.ImageFile:
    return Image.open(io.BytesIO(blob))


def same(image: Image.Image, other: Image.Image) -> bool:
    return np.array_equal(np.asarray(image), np.asarray(other))


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


# What is wrong with a file


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


# Saving


def test_the_repositorys_photograph_there_and_back(tmp_path: Path) -> None:
    codec = rdeic.load()
    with Image.open(KODIM23) as photograph:
        part = photograph.crop((200, 100, 456, 292))
    part.save(tmp_path / "a.rdeic", quality=40)
    blob = (tmp_path / "a.rdeic").read_bytes()
    assert blob == codec.compress(part, quality=40)
    with Image.open(tmp_path / "a.rdeic") as image:
        assert same(image, codec.decompress(blob))
    part.save(tmp_path / "b.rdeic", max_bytes=700)
    assert 400 < (tmp_path / "b.rdeic").stat().st_size <= 700


def saved(image: Image.Image, tiny: Codec, **options: Any) -> bytes:
    stream = io.BytesIO()
    image.save(stream, "RDEIC", codec=tiny, **options)
    return stream.getvalue()


def test_options_are_the_codecs(tiny: Codec, photo: images.Picture) -> None:
    image = Image.fromarray(photo)
    assert saved(image, tiny) == tiny.compress(photo)
    for options in (
        {"quality": 80},
        {"bpp": 0.5, "scale": False},
        {"max_bytes": 700, "seed": 7},
        {"quality": 0, "verify": True},
    ):
        assert saved(image, tiny, **options) == tiny.compress(photo, **options)  # type: ignore[arg-type]
    assert saved(image, tiny, optimize=True) == tiny.compress(photo)  # of other formats: without effect


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"quality": 101}, r"quality 101 is not within 0\.\.100"),
        ({"quality": 50, "bpp": 0.1}, "choose one of quality, bpp and max_bytes"),
        ({"quality": "high"}, "quality must be a number"),
        ({"seed": -1}, "seed -1"),
        ({"exif": "text"}, "exif must be bytes"),
        ({"background": "nocolour"}, "is not a colour"),
        ({"save_all": True, "append_images": [Image.new("RGB", (1, 1))]}, "holds one picture, not 2"),
        ({"append_images": [Image.new("RGB", (1, 1))]}, "holds one picture, not 2"),
    ],
)
def test_senseless_options_leave_nothing_behind(
    options: dict[str, Any], said: str, tiny: Codec, photo: images.Picture, tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match=said):
        Image.fromarray(photo).save(tmp_path / "a.rdeic", codec=tiny, **options)
    stream = io.BytesIO(b"before")
    with pytest.raises(ValueError, match=said):
        Image.fromarray(photo).save(stream, "RDEIC", codec=tiny, **options)
    assert list(tmp_path.iterdir()) == []
    assert stream.getvalue() == b"before"


def test_what_cannot_be_saved_leaves_nothing_behind(
    tiny: Codec, photo: images.Picture, tmp_path: Path
) -> None:
    for image, options in (
        (Image.fromarray(photo), {"max_bytes": 30}),
        (Image.new("F", (9, 9)), {}),
        (Image.new("RGB", (70_000, 1)), {}),
    ):
        with pytest.raises(OSError, match=r"30 bytes|floating-point|70000x1"):
            image.save(tmp_path / "a.rdeic", codec=tiny, **options)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("mode", ["1", "L", "P", "I;16", "CMYK", "YCbCr", "HSV", "LAB", "RGBX", "LA", "RGBA"])
def test_modes_are_converted_as_in_files(mode: str, tiny: Codec, photo: images.Picture) -> None:
    image = Image.fromarray(photo)
    if mode == "LAB":
        to_lab = ImageCms.buildTransform(
            ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB"), "RGB", "LAB"
        )
        changed = ImageCms.applyTransform(image, to_lab)
        assert changed is not None
    elif mode == "I;16":
        changed = Image.fromarray(np.asarray(image.convert("L")).astype(np.uint16) * 257)
    else:
        changed = image.convert(mode)
    assert changed.mode == mode
    assert saved(changed, tiny) == tiny.compress(images.read(changed))


def test_transparency_takes_a_background(tiny: Codec, photo: images.Picture) -> None:
    glass = Image.fromarray(photo)
    glass.putalpha(100)
    with pytest.raises(OSError, match="background="):
        saved(glass, tiny)
    assert saved(glass, tiny, background="red") == tiny.compress(images.read(glass, background="red"))


def test_a_picture_can_replace_the_file_it_comes_from(file: Path, blob: bytes, tiny: Codec) -> None:
    with Image.open(file) as image:
        image.save(file, quality=0, codec=tiny)
    assert file.read_bytes() == tiny.compress(tiny.decompress(blob), quality=0)


# Metadata

TAKEN = Metadata(datetime(2024, 5, 6, 7, 8, 9), "Maker", "M\u00f6del", "", "a comment")


def exif_of(described: Metadata, orientation: int = 1) -> Image.Exif:
    made = exif.parse(exif.to_bytes(described))
    if orientation != 1:
        made[Base.Orientation] = orientation
    return made


def test_exif_goes_in_where_it_is_given_and_comes_out(tiny: Codec, photo: images.Picture) -> None:
    image, place = Image.fromarray(photo), Location(51.5, -0.125)
    data = exif.to_bytes(TAKEN._replace(location=place))
    given = exif.parse(data)
    assert rdeic.inspect(saved(image, tiny)).metadata is None
    assert rdeic.inspect(saved(image, tiny, exif=b"Exif\0\0broken")).metadata is None
    assert rdeic.inspect(saved(image, tiny, exif=given)).metadata == TAKEN
    blob = saved(image, tiny, exif=data, location=True)
    assert rdeic.inspect(blob).metadata == TAKEN._replace(location=place)

    found = opened(blob).getexif()
    assert (found[Base.Make], found[Base.ImageDescription]) == ("Maker", "a comment")
    assert found.get_ifd(IFD.Exif)[Base.DateTimeOriginal] == "2024:05:06 07:08:09"
    assert found.get_ifd(IFD.GPSInfo)[GPS.GPSLatitudeRef] == "N"
    assert found[Base.Software].startswith("rdeic: restored from a file with checksum")
    assert rdeic.inspect(saved(opened(blob), tiny, exif=found)).metadata == TAKEN


def test_pictures_are_stored_upright(tiny: Codec, photo: images.Picture) -> None:
    lying = Image.fromarray(photo)
    upright = tiny.compress(np.rot90(photo, -1))
    assert rdeic.inspect(upright)[:2] == (96, 130)
    assert saved(lying, tiny, exif=exif_of(Metadata(), orientation=6)) == upright
    stream = io.BytesIO()
    lying.save(stream, "PNG", exif=exif_of(Metadata(), orientation=6))
    told = Image.open(stream)
    assert saved(told, tiny) == upright
    assert saved(told, tiny, exif=told.getexif()) == upright
    as_it_is = tiny.compress(photo, metadata=TAKEN)
    assert saved(told, tiny, exif=exif_of(TAKEN)) == as_it_is


def test_a_profile_can_be_given(tiny: Codec, photo: images.Picture) -> None:
    # Red and blue change places.
    swapped = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    swapped = _exchanged(swapped, b"rXYZ", b"bXYZ")
    image = Image.fromarray(photo)
    plain = tiny.compress(photo)
    assert saved(image, tiny, icc_profile=swapped) != plain
    image.info["icc_profile"] = swapped
    assert saved(image, tiny) == saved(Image.fromarray(photo), tiny, icc_profile=swapped)
    assert saved(image, tiny, icc_profile=None) == plain


def _exchanged(data: bytes, one: bytes, other: bytes) -> bytes:
    return data.replace(one, b"????", 1).replace(other, one, 1).replace(b"????", other, 1)

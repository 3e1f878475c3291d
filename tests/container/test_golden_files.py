"""Files that were made once must decode for ever, and files from the future must be refused with the right words."""

from __future__ import annotations

import functools
import hashlib
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import rdeic
from rdeic import errors
from rdeic.checkpoints import registry
from rdeic.container import container, payload
from support import golden_files_set as golden_set
from support import integer_decoder
from support.golden_files_set import Golden, Refused

MANIFEST = golden_set.read()
GOLDEN = pytest.mark.parametrize("golden", MANIFEST.golden, ids=lambda golden: golden.name)
PREFIX = "compression.entropy."


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    place = tmp_path_factory.mktemp("golden")
    return {name: golden_set.make_model(name, place) for name in golden_set.MODELS}


@pytest.fixture(scope="module")
def codecs(folders: dict[str, Path]) -> dict[str, rdeic.Codec]:
    return {
        name: rdeic.load(folder, "cpu", encoder_precision="fp32", precision="fp32")
        for name, folder in folders.items()
    }


def blob_of(entry: Golden | Refused) -> bytes:
    blob = (golden_set.FOLDER / entry.name).read_bytes()
    assert hashlib.sha256(blob).hexdigest() == entry.sha256, f"{entry.name} was changed; restore it"
    return blob


def test_nothing_was_taken_away() -> None:
    listed = {entry.name for entry in (*MANIFEST.golden, *MANIFEST.refused)}
    assert listed == {path.name for path in golden_set.FOLDER.glob("*.rdeic")}
    assert len(MANIFEST.golden) >= 10
    assert len(MANIFEST.refused) >= 7


def test_the_models_are_the_ones_that_made_the_files(folders: dict[str, Path]) -> None:
    for name, folder in folders.items():
        assert registry.fingerprint(folder).hex() == MANIFEST.fingerprints[name]


@GOLDEN
def test_every_bit_still_says_the_same(golden: Golden, codecs: dict[str, rdeic.Codec]) -> None:
    codec = codecs[golden.model]
    file = container.unpack(blob_of(golden))
    coded = payload.split(file.header, file.payload, codec.config)
    with torch.inference_mode():
        y_hat = codec._weights.load().model.decode_y_hat(coded, file.header.quality)
    assert payload.digest(coded.hyper_indices, y_hat.numpy()).hex() == golden.latent


@GOLDEN
def test_a_decoder_written_from_the_format_text_reads_the_same(
    golden: Golden, folders: dict[str, Path]
) -> None:
    folder = folders[golden.model]
    config = registry.describe(folder).config
    file = container.unpack(blob_of(golden))
    coded = payload.split(file.header, file.payload, config)
    weights = golden_set.stored_weights(folder, PREFIX)
    slices, quality = config.compression.slices, file.header.quality
    y_hat = integer_decoder.decode(weights, slices, quality, coded.hyper_indices, coded.y_stream)
    found = hashlib.sha256(coded.hyper_indices.astype("<i4").tobytes())
    found.update(np.rint(y_hat * 1024).astype("<i8").tobytes())
    assert found.hexdigest() == golden.latent


@GOLDEN
def test_the_picture_is_the_same_up_to_float_rounding(golden: Golden, codecs: dict[str, rdeic.Codec]) -> None:
    restored = codecs[golden.model].decompress(blob_of(golden))
    if golden.picture is None:
        return
    with Image.open(golden_set.FOLDER / golden.picture) as image:
        expected = np.asarray(image.convert("RGB")).astype(float)
    found = np.asarray(restored).astype(float)
    assert found.shape == expected.shape
    assert np.abs(found - expected).mean() <= golden.mean_tolerance
    assert np.abs(found - expected).max() <= golden.max_tolerance


def test_the_pictures_would_show_a_mistake() -> None:
    """Another seed is another picture, by far more than the tolerance."""
    entries = {golden.name: golden for golden in MANIFEST.golden}
    plain, seeded = (entries[name] for name in ("plain.rdeic", "seed.rdeic"))

    @functools.cache
    def pixels(entry: Golden) -> np.ndarray:
        with Image.open(golden_set.FOLDER / str(entry.picture)) as image:
            return np.asarray(image.convert("RGB")).astype(float)

    assert np.abs(pixels(plain) - pixels(seeded)).mean() > 4 * plain.mean_tolerance
    assert pixels(plain).std() > 10 * plain.mean_tolerance


def test_the_metadata_are_still_read() -> None:
    for name in ("metadata.rdeic", "unknown-optional.rdeic"):
        found = rdeic.inspect(golden_set.FOLDER / name).metadata
        assert found is not None
        assert found.as_dict() == {
            "taken": "2026-11-21 10:30:00",
            "make": "Maker",
            "model": "Model 1",
            "profile": "Display P3",
            "comment": "Straße, 写真",
            "location": "48.858370, 2.294481",
        }


@pytest.mark.parametrize("refused", MANIFEST.refused, ids=lambda refused: refused.name)
def test_what_must_be_refused_is(refused: Refused, codecs: dict[str, rdeic.Codec]) -> None:
    with pytest.raises(getattr(errors, refused.error)) as caught:
        codecs[refused.model].decompress(blob_of(refused))
    assert refused.message in str(caught.value)

"""What a codec guards: limits, what it wrote, metadata, and what an import costs."""

from __future__ import annotations

import subprocess
import sys
from datetime import datetime
from pathlib import Path

import numpy as np
import pytest
import torch

import rdeic
from rdeic.codec.codec import Codec
from rdeic.container import container, metadata
from rdeic.container.metadata import Location, Metadata
from rdeic.pictures import exif, images

# Limits


def test_pixel_limits_hold_in_both_directions(tiny: Codec, photo: images.Picture) -> None:
    blob = tiny.compress(photo, max_pixels=130 * 96)
    assert tiny.decompress(blob, max_pixels=130 * 96).size == (130, 96)
    with pytest.raises(rdeic.ImageError, match=r"130x96: the limit is .* --max-pixels"):
        tiny.compress(photo, max_pixels=130 * 96 - 1)
    with pytest.raises(rdeic.FileFormatError, match="130x96: over the limit of 12479 pixels"):
        tiny.decompress(blob, max_pixels=130 * 96 - 1)


def test_a_file_cannot_ask_for_hours_of_denoising(tiny: Codec, photo: images.Picture) -> None:
    file = container.unpack(tiny.compress(photo[:64, :64]))
    greedy = container.pack(file._replace(header=file.header._replace(steps=255)))
    with pytest.raises(
        rdeic.FileFormatError, match=r"255 denoising steps, at most 50 are plausible.*--steps"
    ):
        tiny.decompress(greedy)
    assert tiny.decompress(greedy, steps=2).size == (64, 64)


def test_a_picture_that_memory_cannot_hold_is_refused_before_it_is_tried(
    tiny: Codec, tiny_folder: Path, photo: images.Picture
) -> None:
    blob = tiny.compress(photo)
    small = rdeic.load(tiny_folder, "cpu", max_memory=200_000)
    said = r"130x96 takes at least 0\.\d\d GB of memory more, and there are 0\.00 GB"
    with pytest.raises(rdeic.ImageError, match=said):
        small.decompress(blob)
    with pytest.raises(rdeic.ImageError, match=said):
        small.compress(photo)
    assert rdeic.load(tiny_folder, "cpu", max_memory="16 GB").decompress(blob).size == (130, 96)


# Verification


class Unreliable:
    """A processor that never computes the same twice: with every call one of a slice's means grows by one unit."""

    def __init__(self, layer: torch.nn.Module) -> None:
        self.calls = 0
        layer.register_forward_hook(self.disturb)

    def disturb(self, _: object, __: object, result: torch.Tensor) -> torch.Tensor:
        self.calls += 1
        result = result.clone()
        result[:, -1, 0, 1] += self.calls * 2.0**-10  # the last channel's mu, at an anchor
        return result


@pytest.fixture
def unreliable(tiny_folder: Path) -> Codec:
    codec = rdeic.load(tiny_folder, "cpu")
    Unreliable(codec._weights.load().model.exact.context[-1].anchor_params)  # type: ignore[arg-type]
    return codec


def test_verification_passes_and_changes_nothing(tiny: Codec, photo: images.Picture) -> None:
    for settings in ({"quality": 30.0}, {"bpp": 0.3}, {"max_bytes": 400}):
        blobs = {tiny.compress(photo, **settings, verify=verify) for verify in (None, True, False)}  # type: ignore[arg-type]
        assert len(blobs) == 1


def test_one_unit_in_the_last_place_of_one_mean_is_noticed(unreliable: Codec, photo: images.Picture) -> None:
    with pytest.raises(rdeic.VerifyError, match=r"no file was made.*--device cpu.*report"):
        unreliable.compress(photo, quality=50, verify=True)
    assert unreliable.compress(photo, quality=50, verify=False)


def test_searches_are_verified_unless_told_otherwise(unreliable: Codec, photo: images.Picture) -> None:
    for settings in ({"bpp": 0.3}, {"max_bytes": 400}):
        with pytest.raises(rdeic.VerifyError):
            unreliable.compress(photo, **settings)  # type: ignore[arg-type]
        assert unreliable.compress(photo, **settings, verify=False)  # type: ignore[arg-type]
    assert unreliable.compress(photo, quality=50)  # costs more than a tenth there


# Metadata


FULL = Metadata(datetime(2020, 1, 2, 3, 4, 5), "Maker", "One", "P3", "a comment", Location(1.5, -2.25))


def test_metadata_travel_with_the_file_and_take_only_their_own_bytes(
    tiny: Codec, photo: images.Picture
) -> None:
    plain, described = tiny.compress(photo), tiny.compress(photo, metadata=FULL)
    assert len(described) == len(plain) + 3 + len(metadata.pack(FULL))
    assert container.unpack(described).payload == container.unpack(plain).payload
    assert rdeic.inspect(described).metadata == FULL
    assert rdeic.inspect(plain).metadata is None
    restored = tiny.decompress(described)
    assert np.array_equal(np.asarray(restored), np.asarray(tiny.decompress(plain)))
    assert exif.read(restored, location=True) == FULL._replace(profile="")
    assert tiny.compress(photo, metadata=Metadata()) == plain


def test_metadata_count_among_the_promised_bytes(tiny: Codec, photo: images.Picture) -> None:
    assert len(tiny.compress(photo, max_bytes=400, metadata=FULL)) <= 400
    with pytest.raises(rdeic.RateError, match="smallest possible is"):
        tiny.compress(photo, max_bytes=len(metadata.pack(FULL)), metadata=FULL)


def test_malformed_metadata_make_an_invalid_file(tiny: Codec, photo: images.Picture, tmp_path: Path) -> None:
    file = container.unpack(tiny.compress(photo))
    bad = container.pack(file._replace(sections=(container.Section(metadata.KIND, b"\1"),)))
    (tmp_path / "bad.rdeic").write_bytes(bad)
    for read in (rdeic.inspect, tiny.decompress):
        with pytest.raises(rdeic.FileFormatError, match=r"bad\.rdeic: invalid \.rdeic file: its metadata"):
            read(tmp_path / "bad.rdeic")


def test_unknown_optional_sections_change_nothing(tiny: Codec, photo: images.Picture) -> None:
    blob = tiny.compress(photo)
    more = container.pack(
        container.unpack(blob)._replace(sections=(container.Section(90, b"of the future"),))
    )
    assert np.array_equal(tiny.decompress(more), tiny.decompress(blob))
    assert rdeic.inspect(more)[:6] == rdeic.inspect(blob)[:6]


def test_importing_and_inspecting_need_neither_torch_nor_pillow(tiny: Codec, photo: images.Picture) -> None:
    program = """
import sys, rdeic
assert not {"torch", "numpy", "PIL"} & sys.modules.keys()
rdeic.inspect(sys.stdin.buffer.read())
rdeic.FileFormatError
assert not {"torch", "numpy", "PIL"} & sys.modules.keys()
"""
    done = subprocess.run(
        [sys.executable, "-c", program], input=tiny.compress(photo), capture_output=True, check=False
    )
    assert done.returncode == 0, done.stderr.decode()


def test_pixels_are_rounded_not_truncated(tiny: Codec, photo: images.Picture) -> None:
    import torch

    blob = tiny.compress(photo)
    header, payload, _ = container.unpack(blob)
    # The same decoder, followed by hand to the float picture.
    from rdeic.codec import decoder
    from rdeic.container import payload as payloads

    model = tiny._weights.load().model
    with torch.inference_mode():
        features = model.decode(payloads.split(header, payload, tiny.config), header.quality)
        x = model.restore(features, decoder.noises(0, features.z_c), 2, 1.0)
    expected = np.rint(((x[0].double().numpy() + 1) * 127.5).clip(0, 255)).transpose(1, 2, 0)[:96, :130]
    assert np.abs(np.asarray(tiny.decompress(blob)) - expected).mean() < 0.01

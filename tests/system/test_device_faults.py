"""Devices that are not there, that lack something, or whose memory is full: one line with the remedy, never a crash."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

import rdeic
from rdeic.pictures import images
from rdeic.system import devices
from support.program_runs import Program, program
from support.second_device import BACKEND, CPU, DEVICE, held, second_device

__all__ = ["program"]  # fixture

KILOBYTE = 1 << 10
ENOUGH = 1 << 20  # bytes of the largest tensor: for the tiny model and small pictures, not for large ones
ALONE = ("--device", str(DEVICE), "--jobs", "1")  # other threads do not know the device
OTHERWISE = "use --device cpu, or end other programs that use the device"


@pytest.fixture
def album(tmp_path: Path) -> Path:
    """Pictures a, b and c; b is too large for a device of ENOUGH memory."""
    folder = tmp_path / "album"
    folder.mkdir()
    for name, side in (("a", 64), ("b", 512), ("c", 64)):
        pixels = np.random.default_rng(side).integers(0, 256, (side, side, 3), np.uint8)
        images.write(pixels, folder / f"{name}.png", "png")
    return folder


# Names


@pytest.mark.parametrize("name", ["cuda:99", "foo", "meta", "hpu", "cuda:-1"])
def test_a_device_that_is_not_there_ends_the_run_with_what_is_there(
    program: Program, album: Path, tiny_folder: Path, name: str
) -> None:
    blob = album / "a.rdeic"
    blob.write_bytes(rdeic.load(tiny_folder, "cpu").compress(album / "a.png"))
    options = ("--model", tiny_folder, "--device", name)
    for command in (
        ("compress", album, "-o", "out", *options),
        ("decompress", album, "-o", "out", *options),
        ("bench", album / "a.png", *options),
        ("evaluate", album, "-o", "out", "--codec", "jpeg", "--device", name),
    ):
        failed = program(*command)
        said = rf"rdeic: device '{name}' cannot be used here \([^;]+\); there is cpu(, \w+:\d+)*\n"
        assert failed.code == 1 and re.fullmatch(said, failed.err), failed.err
        assert not list(Path().glob("out/*"))


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_gpu_that_torch_was_not_built_for_is_said_to_be_so() -> None:
    with pytest.raises(
        rdeic.ConfigError, match=r"'cuda' cannot be used here \(Torch not compiled with CUDA enabled\)"
    ):
        devices.choose("cuda")


def test_a_device_that_is_there_is_named_among_them() -> None:
    assert devices.choose("cpu") == CPU
    with second_device():
        assert devices.choose(str(DEVICE)) == DEVICE
        with pytest.raises(rdeic.ConfigError, match=r"'cuda:99' .*; there is cpu, .*:0"):
            devices.choose("cuda:99")


# Double precision


def test_exact_arithmetic_goes_where_there_is_float64() -> None:
    assert devices.exact_home(CPU) == CPU
    with second_device():
        assert (devices.exact_home(DEVICE), devices.remark(DEVICE)) == (DEVICE, "")
    with second_device(float64=False):
        assert devices.exact_home(DEVICE) == CPU
    with second_device(largest=4), pytest.raises(torch.OutOfMemoryError):  # which says nothing about float64
        devices.exact_home(DEVICE)


def test_a_run_says_once_that_the_device_has_no_float64(
    program: Program, album: Path, tiny_folder: Path
) -> None:
    line = f"rdeic: device {DEVICE} has no float64: what makes and reads bits runs on the cpu, in double precision\n"
    (album / "b.png").unlink()
    with second_device(float64=False):
        for arguments in (("compress", "album", "-o", "files"), ("decompress", "files", "-o", "restored")):
            command = (*arguments, "--model", str(tiny_folder), *ALONE)
            done = program(*command)
            assert done.code == 0 and done.err == f"{line}2 done, 0 finished before, 0 failed\n"
            assert program(*command).err == "0 done, 2 finished before, 0 failed\n"


# Memory


def test_a_picture_too_large_for_the_device_fails_alone(
    program: Program, album: Path, tiny_folder: Path
) -> None:
    options = ("--model", str(tiny_folder), *ALONE)
    said = f"not enough memory on {DEVICE} for a picture of 512x512; scale it down or cut it up, {OTHERWISE}"
    summary = "2 done, 0 finished before, 1 failed: "
    with second_device(largest=ENOUGH):
        failed = program("compress", "album", "-o", "files", *options)
    assert (failed.code, failed.err) == (1, f"rdeic: album/b.png: {said}\n{summary}album/b.png\n")
    assert [path.name for path in sorted(Path("files").glob("[!.]*"))] == ["a.rdeic", "c.rdeic"]
    assert program("compress", "album", "-o", "files", *options[:2], "--device", "cpu").code == 0
    with second_device(largest=ENOUGH):
        failed = program("decompress", "files", "-o", "restored", *options)
    assert (failed.code, failed.err) == (1, f"rdeic: files/b.rdeic: {said}\n{summary}files/b.rdeic\n")
    assert [path.name for path in sorted(Path("restored").glob("[!.]*"))] == ["a.png", "c.png"]


def test_what_a_picture_took_is_given_back_before_the_next(tiny_folder: Path, album: Path) -> None:
    blob = rdeic.load(tiny_folder, "cpu").compress(album / "b.png")
    with second_device(largest=ENOUGH):
        codec = rdeic.load(tiny_folder, str(DEVICE))
        codec.compress(album / "a.png")
        weights = held()
        tries: tuple[Callable[[], object], ...] = (
            lambda: codec.compress(album / "b.png"),
            lambda: codec.decompress(blob),
        )
        for attempt in tries:
            BACKEND.held_when_emptied.clear()
            with pytest.raises(rdeic.ImageError, match=r"for a picture of 512x512"):
                attempt()
            assert BACKEND.held_when_emptied == [weights]


def test_weights_too_large_for_the_device_end_the_run(
    program: Program, album: Path, tiny_folder: Path
) -> None:
    command = ("compress", "album", "-o", "files", "--model", str(tiny_folder), *ALONE)
    with second_device(largest=KILOBYTE):
        failed = program(*command)
    said = f"not enough memory on {DEVICE} for the weights of model tiny; choose a smaller model, {OTHERWISE}"
    assert (failed.code, failed.err) == (1, f"rdeic: {said}\n")
    with second_device(largest=0):
        failed = program(*command)
    assert (failed.code, failed.err) == (1, f"rdeic: device '{DEVICE}' has no memory left; {OTHERWISE}\n")


def greedy(*_: object) -> None:
    torch.empty(1 << 60, dtype=torch.uint8)


def broken(*_: object) -> None:
    raise RuntimeError("CUDA error: an illegal memory access was encountered")


@pytest.mark.parametrize("device", ["cpu", str(DEVICE)])
def test_memory_of_the_host_is_not_taken_for_that_of_the_device(
    tiny_folder: Path, album: Path, device: str
) -> None:
    with second_device():
        codec = rdeic.load(tiny_folder, device)
        blob = codec.compress(album / "a.png")
        decoder = codec._weights.load().model.autoencoder.decoder
        hook = decoder.register_forward_pre_hook(greedy)
        with pytest.raises(rdeic.ImageError) as raised:
            codec.decompress(blob)
        assert str(raised.value) == "not enough memory for a picture of 64x64; scale it down or cut it up"
        hook.remove()
        decoder.register_forward_pre_hook(broken)
        with pytest.raises(
            RuntimeError, match="illegal memory access"
        ):  # no lack of memory: a fault to report
            codec.decompress(blob)

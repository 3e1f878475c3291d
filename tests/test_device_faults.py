"""Devices that are not there, that lack something, or whose memory is full: one line with the remedy, never a crash."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
import torch
from program_runs import Program, program
from second_device import CPU, DEVICE, second_device

import rdeic
from rdeic import devices, images

__all__ = ["program"]  # fixture


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


def test_a_run_says_once_that_the_device_has_no_float64(
    program: Program, album: Path, tiny_folder: Path
) -> None:
    line = f"rdeic: device {DEVICE} has no float64: what makes and reads bits runs on the cpu, in double precision\n"
    (album / "b.png").unlink()
    with second_device(float64=False):
        for arguments in (("compress", "album", "-o", "files"), ("decompress", "files", "-o", "restored")):
            command = (*arguments, "--model", str(tiny_folder), "--device", str(DEVICE))
            done = program(*command)
            assert done.code == 0 and done.err == f"{line}2 done, 0 finished before, 0 failed\n"
            assert program(*command).err == "0 done, 2 finished before, 0 failed\n"

"""A set of pictures, odd codecs, and plans for both."""

from __future__ import annotations

import os
import signal
import tempfile
import threading
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from rdeic.errors import RateError
from rdeic.evaluation import runner
from rdeic.evaluation.runner import Plan
from rdeic.evaluation.types import Codec, UnavailableCodec
from rdeic.pictures import images
from rdeic.pictures.images import Picture

PATIENCE = 600.0  # seconds; far more than anything here takes


@dataclass(frozen=True)
class Odd:
    """A lossless codec that notes its work, and misbehaves as its settings say."""

    folder: Path  # for notes
    settings: tuple[str, ...]
    timeout: float = PATIENCE
    name: str = "odd"
    version: str = "1"

    def prepare(self) -> None:
        pass

    def encode(self, picture: Picture, setting: str) -> bytes:
        with (self.folder / "calls").open("a") as notes:
            notes.write(f"{setting}\n")
        if setting == "raises":
            raise RateError("out of\nreach")
        if setting == "litters":
            (self.folder / "litter").write_text(tempfile.mkdtemp())
            os.kill(os.getpid(), signal.SIGKILL)
        if setting == "crashes":
            os.kill(os.getpid(), signal.SIGSEGV)
        if setting == "hangs":
            threading.Event().wait()
        if setting == "kills" and not (self.folder / "killed").exists():
            (self.folder / "killed").touch()
            os.kill(os.getppid(), signal.SIGKILL)  # the run itself
            threading.Event().wait(1)
        return setting.encode() + b"\n" + images.encode(picture, "png")

    def decode(self, data: bytes) -> Picture:
        setting, _, file = data.partition(b"\n")
        picture = images.read(file)
        return picture[:-1] if setting == b"cuts" else picture

    def calls(self) -> list[str]:
        return (self.folder / "calls").read_text().split()


@pytest.fixture
def dataset(tmp_path: Path) -> Path:
    folder = tmp_path / "pictures"
    folder.mkdir()
    for name, width in (("a.png", 60), ("b.png", 50)):
        y, x = np.mgrid[:40, :width]
        images.write(np.stack([4 * x, 6 * y, x + y], -1).astype(np.uint8), folder / name, "png")
    return folder


def plan(dataset: Path, *codecs: Codec, jobs: int = 1, show: int = 0) -> Plan:
    missing = (UnavailableCodec("bpg", "no program bpgenc"),)
    return Plan(
        dataset,
        "as-is",
        codecs,
        missing,
        ("psnr", "ssim", "niqe"),
        None,
        "cpu",
        jobs,
        show,
        "rdeic evaluate x",
    )


def codec(folder: Path) -> Odd:
    return Odd(folder, ("first", "second", "kills"))


def evaluate(dataset: str, folder: str) -> None:
    runner.run(plan(Path(dataset), codec(Path(folder))), Path(folder) / "report", lambda: None)

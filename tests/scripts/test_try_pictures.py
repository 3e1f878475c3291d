"""scripts/try_pictures.py: a folder of pictures against a second reader."""

from __future__ import annotations

import struct
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from support.picture_files import chunk, png, tiff

SCRIPT = Path(__file__).parents[2] / "scripts" / "try_pictures.py"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pictures")
    (folder / "deeper").mkdir()
    random = np.random.default_rng(0)
    picture = Image.fromarray(random.integers(0, 256, (32, 48, 3), np.uint8))
    for name in ("a.jpg", "b.png", "c.webp", "d.bmp", "e.avif", "deeper/f.tif"):
        picture.save(folder / name)
    pq = chunk(b"cICP", bytes([9, 16, 0, 1]))
    key = chunk(b"tRNS", struct.pack(">H", 3))
    (folder / "g.png").write_bytes(png(random.integers(0, 65_536, (5, 7, 3)), 16, 2, pq))
    (folder / "h.png").write_bytes(png(random.integers(0, 16, (5, 7, 1)), 4, 0, key))
    (folder / "i.tif").write_bytes(tiff(random.integers(0, 4096, (5, 7, 1)), 12, 1))
    (folder / "j.tif").write_bytes(tiff(random.integers(0, 65_536, (5, 7, 3)), 16, 2, planar=True))
    (folder / "text.txt").write_text("no picture")
    return folder


def tried(folder: Path, *options: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, str(SCRIPT), str(folder), *options], capture_output=True, text=True, check=False
    )


def test_a_second_reader_agrees(folder: Path) -> None:
    done = tried(folder)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == "10 pictures by rdeic and libvips or imagecodecs: 10 agree\n"


def test_what_differs_is_listed_and_refusals_are_too(folder: Path) -> None:
    (folder / "damaged.png").write_bytes((folder / "b.png").read_bytes()[:300])
    done = tried(folder, "--levels", "-1")
    (folder / "damaged.png").unlink()
    assert done.returncode == 1
    lines = done.stdout.splitlines()
    assert "b.png: disagree: with libvips by up to 0 levels, in 1536 of 1536 places" in lines
    assert "damaged.png: refused: damaged or truncated picture (image file is truncated)" in lines
    assert lines[-1] == "11 pictures by rdeic and libvips or imagecodecs: 10 disagree, 1 refused"

"""The README's blocks of commands and Python, and the quick start's other commands, run as they stand."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import rdeic
from rdeic.pictures import images
from support.program_runs import Program, picture, program

__all__ = ["picture", "program"]  # fixtures

ROOT = Path(__file__).resolve().parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
QUICK_START = (ROOT / "docs" / "quick_start.md").read_text(encoding="utf-8")


def block(page: str, heading: str) -> str:
    """The first fenced block below a heading, without its fences."""
    return page.split(f"{heading}\n")[1].split("```")[1].partition("\n")[2].strip()


BLOCK = block(README, "## Command line")
OTHERS = block(QUICK_START, "### Other commands")
LINES = [line.partition("#")[0].split() for line in BLOCK.splitlines()]
_ENDLESS = "serve"  # has tests of its own


def generated(width: int, height: int) -> Image.Image:
    """Something like a photograph: smooth parts, edges, noise."""
    y, x = np.mgrid[:height, :width].astype(np.float32) * (4000 / width)
    waves = [
        np.sin(x / 190 + y / 310) + 0.3 * np.sin(x * y / 400_000),
        np.cos(y / 150 - x / 620) + (x + y > 4000),
        np.sin((x - 2000) ** 2 / 9e5 + (y - 1500) ** 2 / 5e5),
    ]
    noise = np.random.default_rng(0).normal(0, 6, (height, width, 3))
    return Image.fromarray((np.stack(waves, -1) * 60 + 128 + noise).clip(0, 255).astype(np.uint8))


def lay_out(folder: Path, width: int, height: int) -> None:
    """What the block speaks of: photo.png, and a picture of that size in each of its folders."""
    (folder / "photo.png").write_bytes((ROOT / "examples" / "kodim23.png").read_bytes())
    for name in ("holiday", "photos"):
        (folder / name).mkdir()
        generated(width, height).save(folder / name / "IMG_0001.jpg", quality=92)


def check(folder: Path, width: int, height: int) -> None:
    """What must be there in the end."""
    assert rdeic.inspect(folder / "photo.rdeic").quality == pytest.approx(50, abs=0.3)
    assert rdeic.inspect(folder / "small.rdeic").bpp == pytest.approx(0.05, rel=0.03)
    stored = rdeic.inspect(folder / "small" / "IMG_0001.rdeic")
    assert (stored.width, stored.height) == (width, height)
    assert stored.file_bytes <= 2000
    assert images.read(folder / "restored.png").shape == (512, 768, 3)


def test_the_block_has_the_lines_that_are_checked() -> None:
    assert [line[:2] for line in LINES] == [["rdeic", "compress"]] * 3 + [["rdeic", "decompress"]]
    assert [line.split()[:2] for line in OTHERS.splitlines()] == [
        ["rdeic", name] for name in ("evaluate", "serve", "bench")
    ]


def test_the_readme_fits_a_screen() -> None:
    assert len(README.splitlines()) <= 65


def test_files_that_the_readme_links_to_exist() -> None:
    links = re.findall(r"\]\(([^)]+)\)", README)
    assert len(links) > 20
    assert [link for link in links if not (ROOT / link).is_file()] == []


def test_the_python_block_works(
    tmp_path: Path, photo: images.Picture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    images.write(photo, tmp_path / "photo.png", "png")
    names: dict[str, object] = {}
    exec(compile(block(README, "## Python"), "README.md", "exec"), names)
    assert images.read(tmp_path / "restored.png").shape == photo.shape


def test_the_block_works_on_small_pictures(program: Program, tmp_path: Path) -> None:
    lay_out(tmp_path, 400, 300)
    for line in LINES:
        done = program(*line[1:])
        assert (done.code, done.failures) == (0, [])
    check(tmp_path, 400, 300)


@pytest.mark.slow
def test_the_blocks_work_on_12_megapixels_as_they_are_pasted(tmp_path: Path) -> None:
    """In a shell that stops at the first failure."""
    pytest.importorskip("bjontegaard")  # of rdeic[eval]
    lay_out(tmp_path, 4000, 3000)
    programs = tmp_path / "bin"
    programs.mkdir()
    (programs / "rdeic").write_text(f'#!/bin/sh\nexec "{sys.executable}" -m rdeic "$@"\n')
    (programs / "rdeic").chmod(0o755)
    lines = f"{BLOCK}\n{OTHERS}".splitlines()
    pasted = "\n".join(line for line in lines if not line.startswith(f"rdeic {_ENDLESS} "))
    environment = os.environ | {"PATH": f"{programs}{os.pathsep}{os.environ['PATH']}"}
    done = subprocess.run(
        ["sh", "-e", "-c", pasted], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
    )
    said = [
        line for line in done.stderr.splitlines() if " is not available: " not in line
    ]  # of optional metrics
    assert (done.returncode, said) == (0, ["1 done, 0 finished before, 0 failed"])
    check(tmp_path, 4000, 3000)
    assert "IMG_0001.jpg" in (tmp_path / "report" / "index.html").read_text(encoding="utf-8")

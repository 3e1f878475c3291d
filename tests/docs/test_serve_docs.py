"""The commands of docs/serve.md, as they stand, against a server that runs."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

pytest.importorskip("fastapi")  # of rdeic[serve]

from PIL import Image

import rdeic
from rdeic.pictures import images
from rdeic.serve.settings import DEFAULT_PORT
from support import serving

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "serve.md").read_text(encoding="utf-8")
BLOCK = next(block for block in re.findall(r"```\n(.*?)```", PAGE, re.DOTALL) if block.startswith("curl"))


@pytest.mark.skipif(shutil.which("curl") is None, reason="there is no curl")
def test_the_commands_do_what_they_say(tiny_folder: Path, photo: images.Picture, tmp_path: Path) -> None:
    images.write(photo, tmp_path / "photo.png", "png")
    with serving.program("--model", str(tiny_folder), "--device", "cpu") as (_, port):
        script = BLOCK.replace(f":{DEFAULT_PORT}/", f":{port}/")
        assert script.count(f":{port}/") == len(script.splitlines()) == 3
        done = subprocess.run(
            ["sh", "-e", "-c", script], cwd=tmp_path, capture_output=True, text=True, check=True
        )
    info = rdeic.inspect(tmp_path / "photo.rdeic")
    assert info.file_bytes <= 2000
    assert f'"fingerprint":"{info.fingerprint}"' in done.stdout
    with Image.open(tmp_path / "photo.webp") as restored:
        assert (restored.format, restored.size) == ("WEBP", (130, 96))

"""The code blocks of docs/integrations.md, run from the first to the last in one folder."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "integrations.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```python\n(.*?)^```$", PAGE, re.DOTALL | re.MULTILINE)
PROMISED = [line for block in BLOCKS for line in re.findall(r"print\(.*\)  # (.*)", block)]


def test_the_blocks_do_what_the_page_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for library, extra in (("matplotlib", "eval"), ("imageio", "dev")):
        pytest.importorskip(library, reason=f"of rdeic[{extra}]")
    monkeypatch.setenv("MPLBACKEND", "agg")
    monkeypatch.chdir(tmp_path)
    with Image.open(ROOT / "examples" / "kodim23.png") as photograph:
        photograph.crop((0, 0, 192, 128)).save("photo.png")
    names: dict[str, Any] = {}
    for block in BLOCKS:
        exec(block, names)
    assert len(PROMISED) == 4
    assert capsys.readouterr().out.splitlines() == PROMISED
    assert Path("photo.rdeic").stat().st_size <= 500
    with Image.open("compare.png") as compared, Image.open("restored.png") as restored:
        assert compared.size == restored.size == (192, 128)
    assert names["shown"].startswith(b"\x89PNG")

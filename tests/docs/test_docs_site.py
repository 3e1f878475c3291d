"""The documentation site builds without a complaint, and asks no other host for anything."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("site")
    built = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--quiet", "--site-dir", place],
        cwd=ROOT,
        env=os.environ | {"NO_MKDOCS_2_WARNING": "1"},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert built.returncode == 0, built.stderr
    assert "WARNING" not in built.stderr, built.stderr
    return place


def test_every_page_is_there(site: Path) -> None:
    pages = {path.stem for path in (ROOT / "docs").glob("*.md")}
    assert {path.stem for path in site.glob("*.html")} - {"404"} == pages


def test_nothing_is_fetched_from_other_hosts(site: Path) -> None:
    loading = re.compile(
        r"<(?:script|img|iframe|source)[^>]*\ssrc=\"?(https?:[^\s\">]+)|<link[^>]*rel=\"?stylesheet[^>]*href=\"?(https?:[^\s\">]+)"
    )
    for page in site.rglob("*.html"):
        assert not loading.findall(page.read_text(encoding="utf-8")), page.name


def test_formulas_are_mathml_and_dollars_in_code_are_left_alone(site: Path) -> None:
    concepts = (site / "concepts.html").read_text(encoding="utf-8")
    assert concepts.count('display="block"') >= 8
    assert "\\bar" not in concepts
    inline = re.findall(r"(<span>)?<math[^>]*display=\"inline\"", concepts)
    assert len(inline) > 20 and all(inline)
    assert not re.search(r"</p>\s*(<span>)?<math[^>]*display=\"inline\"", concepts)  # out of its paragraph
    assert "$" not in re.sub(r"<(code|script|pre)\b.*?</\1>", "", concepts, flags=re.DOTALL)


def test_equations_stand_beside_the_functions_that_are_them(site: Path) -> None:
    concepts = (site / "concepts.html").read_text(encoding="utf-8")
    for name in ("diffuse", "eta", "relay_noise", "predict_z0", "sample", "guide_detail"):
        assert f'id="rdeic.diffusion.{"sampler" if name == "sample" else "relay"}.{name}"' in concepts

"""A release says one version everywhere, holds what it should, and is tried on each Python that is there."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest
import yaml

import rdeic
import release

ROOT = Path(__file__).resolve().parents[2]
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))


def test_one_version_in_package_changelog_and_citation() -> None:
    changelog = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    headings = re.findall(r"^## \[(.+)\](?: - (\S+))?$", changelog, re.MULTILINE)
    version, date = next(one for one in headings if one[0] != "Unreleased")
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert version == citation["version"] == rdeic.__version__
    assert str(citation.get("date-released", "Unreleased")) == date
    assert citation["license"] == PYPROJECT["project"]["license"]


def test_the_citation_names_the_paper_and_its_authors() -> None:
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    (paper,) = citation["references"]
    assert paper["title"].startswith("RDEIC: ")
    assert [one["family-names"] for one in paper["authors"]] == ["Li", "Zhou", "Wei", "Ge", "Mian"]


def test_licences_of_program_and_weights_are_apart() -> None:
    files = {path for pattern in PYPROJECT["project"]["license-files"] for path in ROOT.glob(pattern)}
    weights = set((ROOT / "src" / "rdeic" / "weights").glob("*/LICENSE"))
    assert files == {ROOT / "LICENSE"} | weights
    assert len(weights) == len(list((ROOT / "src" / "rdeic" / "weights").glob("*/config.json")))


def test_a_wheel_with_pictures_or_tests_in_it_is_refused() -> None:
    good = [
        "rdeic/__init__.py",
        "rdeic/weights/mini/model.safetensors",
        "rdeic/weights/mini/LICENSE",
        "rdeic-0.1.0.dist-info/METADATA",
        "rdeic-0.1.0.data/data/share/man/man1/rdeic.1",
    ]
    release.check_wheel([*good, "rdeic/serve/assets/example.jpg"])
    for stray in ("tests/test_x.py", "rdeic/pictures/photo.png", "docs/index.md"):
        with pytest.raises(release.FailedError, match=stray):
            release.check_wheel([*good, stray])
    with pytest.raises(release.FailedError, match=r"lacks \['rdeic/weights/mini/LICENSE'\]"):
        release.check_wheel([name for name in good if "LICENSE" not in name])
    with pytest.raises(release.FailedError, match="the sdist lacks CHANGELOG"):
        release.check_sdist(["src", "tests"])


def test_pythons_are_found_with_pyenv_and_uv_and_only_if_they_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stand_in(place: Path, version: str, says: str) -> Path:
        place.mkdir(parents=True, exist_ok=True)
        python = place / f"python{version}"
        python.write_text(f"#!/bin/sh\n{says}\n")
        python.chmod(0o755)
        return python

    monkeypatch.setenv("PATH", f"{tmp_path / 'shims'}:/usr/bin:/bin")
    monkeypatch.setenv("PYENV_ROOT", str(tmp_path / "pyenv"))
    monkeypatch.setenv("UV_PYTHON_INSTALL_DIR", str(tmp_path / "uv"))
    stand_in(tmp_path / "shims", "3.88", "exit 127")  # as pyenv's, where that version is not chosen
    real = stand_in(tmp_path / "pyenv" / "versions" / "3.88.1" / "bin", "3.88", "echo 3.88.1")
    other = stand_in(tmp_path / "uv" / "cpython-3.89.0-linux" / "bin", "3.89", "echo 3.89.0")
    stand_in(tmp_path / "shims", "3.90", "echo 3.8.0")
    assert [release.find_python(version) for version in ("3.88", "3.89", "3.90")] == [real, other, None]


def test_a_python_that_is_missing_is_named(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    assert release._outcome("3.91", Path("x.whl"), release.Torch(None, False)) == "not tried"
    assert capsys.readouterr().out == "Python 3.91: not tried: no python3.91 on the PATH, of pyenv or of uv\n"

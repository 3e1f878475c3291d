"""The documentation names places in the code, which must be there, and the code has names that it must explain."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

from rdeic.cli import completing
from rdeic.errors import ConfigError
from rdeic.evaluation import metrics
from rdeic.evaluation.codecs import catalogue
from rdeic.model.model import Rdeic
from rdeic.training import config as settings
from rdeic.training.stages import build_stage
from support.tiny import TINY

ROOT = Path(__file__).resolve().parents[2]
ARCHITECTURE, EVALUATION, FORMAT, CONTRIBUTING = (
    (ROOT / name).read_text(encoding="utf-8")
    for name in ("docs/architecture.md", "docs/evaluation.md", "docs/format.md", "CONTRIBUTING.md")
)
PLACES = re.findall(r"`([\w/]+\.py)(?::([\w.]+))?`", ARCHITECTURE + CONTRIBUTING)


def defined(path: Path) -> set[str]:
    """Names of the functions and classes of a module, methods as Class.method."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    nodes = [node for node in tree.body if isinstance(node, ast.FunctionDef | ast.ClassDef)]
    methods = [
        f"{node.name}.{method.name}"
        for node in nodes
        if isinstance(node, ast.ClassDef)
        for method in node.body
        if isinstance(method, ast.FunctionDef)
    ]
    return {node.name for node in nodes} | set(methods)


@pytest.mark.parametrize(("file", "name"), sorted(set(PLACES)))
def test_every_place_that_a_page_names_exists(file: str, name: str) -> None:
    path = ROOT / file if (ROOT / file).exists() else ROOT / "src" / "rdeic" / file
    assert path.is_file()
    assert not name or name in defined(path)


@pytest.mark.parametrize("name", [*catalogue.NAMES, *metrics.NAMES])
def test_every_codec_and_metric_has_a_row(name: str) -> None:
    assert re.search(rf"^\| (`[\w-]+` )*`{name}`", EVALUATION, re.MULTILINE)


def test_every_training_stage_is_completed_and_explained() -> None:
    config = settings.read(ROOT / "configs" / "mini" / "prior.toml")
    with pytest.raises(ConfigError) as refused:
        build_stage("another", Rdeic(TINY), config)
    names = str(refused.value).partition("choose from ")[2].split(", ")
    assert completing.stages("") == names
    assert [name for name in names if f"| `{name}` |" not in ARCHITECTURE] == []


def test_every_section_has_a_row_in_the_format() -> None:
    modules = (ROOT / "src" / "rdeic" / "container").glob("*.py")
    kinds = [re.findall(r"^KIND = (\d+)", path.read_text(encoding="utf-8"), re.MULTILINE) for path in modules]
    found = sorted(int(kind) for group in kinds for kind in group)
    assert len(found) > 1
    assert [kind for kind in found if not re.search(rf"^\| {kind} \|", FORMAT, re.MULTILINE)] == []


def test_every_folder_of_tests_is_explained() -> None:
    folders = {path.parent.name for path in (ROOT / "tests").glob("*/*.py")}
    assert folders == set(re.findall(r"^\| `tests/(\w+)` \|", CONTRIBUTING, re.MULTILINE))

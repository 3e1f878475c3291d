"""The documentation names places in the code; they must be there."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PLACES = re.findall(
    r"`([\w/]+\.py)(?::([\w.]+))?`", (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
)


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
def test_every_place_that_the_architecture_page_names_exists(file: str, name: str) -> None:
    path = ROOT / file if (ROOT / file).exists() else ROOT / "src" / "rdeic" / file
    assert path.is_file()
    assert not name or name in defined(path)

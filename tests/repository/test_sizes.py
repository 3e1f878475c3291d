"""Code that is read in one go: no file is long, and no function; of the package, the programs and the tests."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FOLDERS = ("src", "benchmarks", "scripts", "tests", "examples")
FILES = sorted(path for folder in FOLDERS for path in (ROOT / folder).rglob("*.py"))
FILE_LINES = 300  # at most
FUNCTION_LINES = 59  # at most, docstring and signature included


def functions(source: str) -> list[tuple[str, int]]:
    """Name and lines of every function in `source`, methods and inner ones included."""
    return [
        (node.name, (node.end_lineno or node.lineno) - node.lineno + 1)
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    ]


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_files_and_functions_are_short(path: Path) -> None:
    source = path.read_text(encoding="utf-8")
    assert len(source.splitlines()) <= FILE_LINES, "split it along the concepts in it"
    long = {name: lines for name, lines in functions(source) if lines > FUNCTION_LINES}
    assert not long, "lines of each; take it apart"


def test_a_function_is_as_long_as_it_looks() -> None:
    source = "class A:\n    def f(self):\n        async def g():\n            pass\n\n        return g\n"
    assert functions(source) == [("f", 5), ("g", 2)]

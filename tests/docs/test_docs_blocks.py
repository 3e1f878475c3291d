"""What the pages tell readers to type: code blocks are run, and every command's options are looked up."""

from __future__ import annotations

import ast
import json
import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
import typer
from PIL import Image

from rdeic.cli.app import app
from rdeic.pictures import images
from support.program_runs import Program, program

__all__ = ["program"]  # a fixture

ROOT = Path(__file__).resolve().parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
_FENCE = re.compile(r"^```(\w*)\n(.*?)^```", re.MULTILINE | re.DOTALL)
_INLINE = re.compile(r"(?<!`)`([^`]+)`(?!`)")
_COMMAND = re.compile(r"(?:\.venv/bin/)?(rdeic \w|python (?:scripts|benchmarks|examples)/)")
_OPTION = re.compile(r"--?[a-z][\w-]*")
_ELSEWHERE = ("evaluate", "serve", "bench")  # tests/test_readme.py runs the first and the last


class Block(NamedTuple):
    language: str
    text: str


def blocks(page: Path) -> list[Block]:
    return [Block(*found) for found in _FENCE.findall(page.read_text(encoding="utf-8"))]


def commands(page: Path) -> Iterator[list[str]]:
    """Words of each command of this project on a page, in blocks and in the text."""
    text = page.read_text(encoding="utf-8")
    lines = [line for block in blocks(page) for line in block.text.replace("\\\n", " ").splitlines()]
    for line in [*lines, *(found.replace("\n", " ") for found in _INLINE.findall(_FENCE.sub("", text)))]:
        if _COMMAND.match(line.strip()):
            yield shlex.split(line, comments=True)


COMMANDS = [(page.name, words) for page in PAGES for words in commands(page)]


def options_of_program(words: list[str]) -> set[str]:
    """Of the command that `rdeic` runs for these words."""
    command = typer.main.get_command(app)
    for word in words:
        if not hasattr(command, "commands") or word.startswith("-"):
            break
        assert word in command.commands, f"no command {word}"
        command = command.commands[word]
    names = {name for one in command.params for name in (*one.opts, *one.secondary_opts)}
    return names | {"--help", "--version"}


def options_of_script(path: Path) -> set[str]:
    """Those that the text of a script, or of those beside it, names."""
    texts = [file.read_text(encoding="utf-8") for file in path.parent.glob("*.py")]
    return {found for text in texts for found in re.findall(r"\"(--?[a-z][\w-]*)\"", text)}


@pytest.mark.parametrize(("page", "words"), COMMANDS, ids=[f"{p}-{' '.join(w[:3])}" for p, w in COMMANDS])
def test_every_command_has_the_options_that_a_page_gives_it(page: str, words: list[str]) -> None:
    script = ROOT / words[1]
    known = options_of_script(script) if words[0] == "python" else options_of_program(words[1:])
    assert words[0] != "python" or script.is_file()
    used = {word.partition("=")[0] for word in words[2:] if _OPTION.fullmatch(word.partition("=")[0])}
    assert used - known == set()


def test_the_pages_have_commands() -> None:
    assert len(COMMANDS) > 40


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_blocks_of_python_parse(page: Path) -> None:
    for block in blocks(page):
        if block.language == "python":
            ast.parse(block.text)


def test_the_quick_start_does_what_it_says(program: Program, tmp_path: Path, photo: images.Picture) -> None:
    (tmp_path / "holiday").mkdir()
    images.write(photo, tmp_path / "photo.png", "png")
    images.write(photo[:64], tmp_path / "holiday" / "a.png", "png")
    names: dict[str, object] = {}
    for block in blocks(ROOT / "docs" / "quick_start.md"):
        if block.language == "python":
            exec(compile(block.text, "quick_start.md", "exec"), names)
            continue
        for line in block.text.splitlines():
            words = shlex.split(line, comments=True)
            if words[:1] == ["rdeic"] and words[1] not in _ELSEWHERE:
                assert program(*words[1:]).code == 0, line
    assert (tmp_path / "small.rdeic").stat().st_size <= 2000
    for name in ("restored.png", "smooth.png", "slow.png"):
        assert images.read(tmp_path / name).shape == photo.shape
    assert (tmp_path / "restored" / "a.png").exists()


def test_the_notebook_runs(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """With its photograph at half the size."""
    monkeypatch.chdir(tmp_path)
    Image.open(ROOT / "examples" / "kodim23.png").reduce(2).save("kodim23.png")
    notebook = json.loads((ROOT / "examples" / "first_steps.ipynb").read_text(encoding="utf-8"))
    cells = ["".join(cell["source"]) for cell in notebook["cells"] if cell["cell_type"] == "code"]
    names: dict[str, object] = {}
    for cell in cells:
        *statements, last = ast.parse(cell).body
        exec(compile(ast.Module(statements, []), "first_steps.ipynb", "exec"), names)
        shown = (
            eval(compile(ast.Expression(last.value), "first_steps.ipynb", "eval"), names)
            if isinstance(last, ast.Expr)
            else None
        )
        assert not isinstance(shown, Image.Image) or shown.getextrema() != ((0, 0),) * 3
    assert sum(cell.startswith("beside") or "beside(" in cell for cell in cells) >= 4

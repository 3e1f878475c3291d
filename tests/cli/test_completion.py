"""What shells complete, asked as their scripts ask."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from support.program_runs import Program, program

__all__ = ["program"]  # a fixture

Ask = Callable[[str], list[str]]


@pytest.fixture
def ask(program: Program, monkeypatch: pytest.MonkeyPatch) -> Ask:
    """The words that bash is offered for the last of those that were typed."""

    def asked(typed: str) -> list[str]:
        words = typed.split(" ")
        monkeypatch.setenv("_RDEIC_COMPLETE", "complete_bash")
        monkeypatch.setenv("COMP_WORDS", typed)
        monkeypatch.setenv("COMP_CWORD", str(len(words) - 1))
        done = program()
        assert (done.code, done.err) == (0, "")
        return done.out.decode().split()

    return asked


@pytest.fixture
def files(tmp_path: Path) -> Path:
    for name in ("a.rdeic", "b.RDEIC", "c.png", "d.txt", "many/e.rdeic", "many/f.jpg", "many/.g.rdeic"):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.touch()
    return tmp_path


def test_commands_options_and_their_values(ask: Ask) -> None:
    assert ask("rdeic d") == ["decompress", "doctor"]
    assert ask("rdeic compress --by") == ["--bytes"]
    assert ask("rdeic compress --encoder-precision f") == ["fp32", "fp16"]
    assert ask("rdeic train in") == ["independent"]


def test_models(ask: Ask, tiny_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RDEIC_MODELS", str(tiny_folder.parent))
    for command in ("compress", "decompress", "evaluate", "bench"):
        assert ask(f"rdeic {command} --model ") == ["mini", "tiny"]
    assert ask("rdeic compress --model t") == ["tiny"]
    assert ask("rdeic compress --model /etc") == []  # a folder: the shell's own business


def test_files_of_the_kind_that_is_wanted(ask: Ask, files: Path) -> None:
    assert ask("rdeic info ") == ["a.rdeic", "b.RDEIC", "many/"]
    assert ask("rdeic decompress a.rdeic b") == ["b.RDEIC"]
    assert ask("rdeic compress ") == ["c.png", "many/"]
    assert ask(f"rdeic bench {files}/c") == [f"{files}/c.png"]
    assert ask("rdeic decompress m") == ["many/e.rdeic"]  # not many/ and a space behind it
    assert ask("rdeic decompress many/.") == ["many/.g.rdeic"]
    assert ask("rdeic decompress nowhere/") == []
    (files / "with space.rdeic").touch()
    assert ask("rdeic info ") == []  # bash then completes files by itself, and quotes


def test_other_shells(program: Program, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("_TYPER_COMPLETE_ARGS", "rdeic doc")
    for shell, said in (
        ("zsh", '"doctor":"Check this installation'),
        ("fish", "doctor\tCheck this installation"),
    ):
        monkeypatch.setenv("_RDEIC_COMPLETE", f"complete_{shell}")
        monkeypatch.setenv("_TYPER_COMPLETE_FISH_ACTION", "get-args")
        assert said in program().out.decode()


def test_bash_itself(files: Path, program: Program, monkeypatch: pytest.MonkeyPatch) -> None:
    if shutil.which("bash") is None:
        pytest.skip("no bash here")
    monkeypatch.setenv("_TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION", "1")
    (files / "rdeic").write_text(f'#!/bin/sh\nexec "{sys.executable}" -m rdeic "$@"\n')
    (files / "rdeic").chmod(0o755)
    done = subprocess.run(
        [str(files / "rdeic"), "--show-completion", "bash"],
        capture_output=True,
        text=True,
        check=True,
        cwd=files,
    )
    typing = f"""
{done.stdout}
complete -p rdeic >&2
COMP_WORDS=({files}/rdeic decompress b) COMP_CWORD=2
_rdeic_completion {files}/rdeic
printf '%s\\n' "${{COMPREPLY[@]}}"
"""
    bash = subprocess.run(["bash", "-c", typing], capture_output=True, text=True, check=True, cwd=files)
    assert bash.stdout.split() == ["b.RDEIC"]
    assert "-F _rdeic_completion rdeic" in bash.stderr


def test_it_can_be_installed(tmp_path: Path) -> None:
    environment = {"HOME": str(tmp_path), "_TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION": "1"}
    command = [sys.executable, "-m", "rdeic", "--install-completion"]
    done = subprocess.run(
        [*command, "bash"], capture_output=True, text=True, check=True, env=os.environ | environment
    )
    assert "bash completion installed in" in done.stdout
    script = tmp_path / ".bash_completions" / "rdeic.sh"
    assert "_RDEIC_COMPLETE=complete_bash" in script.read_text()
    assert str(script) in (tmp_path / ".bashrc").read_text()

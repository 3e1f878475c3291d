"""Runs of `rdeic ARGUMENTS` in this process."""

from __future__ import annotations

import io
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest

from rdeic import cli, images


class Outcome(NamedTuple):
    code: int
    out: bytes
    err: str

    @property
    def failures(self) -> list[str]:
        return [line for line in self.err.splitlines() if line.startswith("rdeic: ")]


Program = Callable[..., Outcome]


@pytest.fixture
def program(
    monkeypatch: pytest.MonkeyPatch, capsysbinary: pytest.CaptureFixture[bytes], tmp_path: Path
) -> Program:
    """Runs `rdeic ARGUMENTS` in this process, in `tmp_path`."""
    monkeypatch.chdir(tmp_path)

    def run(*arguments: str | Path, stdin: bytes = b"") -> Outcome:
        monkeypatch.setattr(sys, "argv", ["rdeic", *map(str, arguments)])
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(stdin)))
        with pytest.raises(SystemExit) as exit_:
            cli.main()
        captured = capsysbinary.readouterr()
        err = captured.err.decode()
        assert "Traceback" not in err
        return Outcome(exit_.value.code or 0, captured.out, err)

    return run


@pytest.fixture
def picture(tmp_path: Path, photo: images.Picture) -> Path:
    path = tmp_path / "photo.png"
    images.write(photo, path, "png")
    return path


@pytest.fixture
def model(tiny_folder: Path) -> tuple[str, str, str, str]:
    return ("--model", str(tiny_folder), "--device", "cpu")

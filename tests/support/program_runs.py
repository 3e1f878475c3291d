"""Runs of `rdeic ARGUMENTS` in this process."""

from __future__ import annotations

import io
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest

from rdeic import cli
from rdeic.pictures import images


class Outcome(NamedTuple):
    code: int
    out: bytes
    err: str  # without the pace
    pace: str = ""  # that line, if there was one

    @property
    def failures(self) -> list[str]:
        return [line for line in self.err.splitlines() if line.startswith("rdeic: ")]


Program = Callable[..., Outcome]
PACE = re.compile(
    r"^(\d+) pictures of [0-9.]+ megapixels in [0-9.]+ s: [0-9.]+ pictures and [0-9.]+ megapixels a second\n",
    re.MULTILINE,
)


def without_pace(err: str) -> str:
    """What a batch said, without the line whose figures no two runs share."""
    return PACE.sub("", err)


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
        pace = PACE.search(err)
        return Outcome(exit_.value.code or 0, captured.out, without_pace(err), pace[0] if pace else "")

    return run


@pytest.fixture
def picture(tmp_path: Path, photo: images.Picture) -> Path:
    path = tmp_path / "photo.png"
    images.write(photo, path, "png")
    return path


@pytest.fixture
def model(tiny_folder: Path) -> tuple[str, str, str, str]:
    return ("--model", str(tiny_folder), "--device", "cpu")

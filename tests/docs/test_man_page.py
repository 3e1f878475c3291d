"""The manual page is made from the options, and is the one that wheels carry."""

from __future__ import annotations

import importlib.metadata
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import man_page

ROOT = Path(__file__).resolve().parents[2]
CONSTRAINTS = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()


def test_the_committed_page_is_up_to_date() -> None:
    if f"typer=={importlib.metadata.version('typer')}" not in CONSTRAINTS:
        pytest.skip("other versions of typer word it differently")
    assert man_page.PAGE.read_text(encoding="utf-8") == man_page.page(), "run `make man`"


def test_wheels_carry_it() -> None:
    build = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["hatch"]["build"]
    carried = build["targets"]["wheel"]["shared-data"]
    assert {ROOT / source: place for source, place in carried.items()} == {
        man_page.PAGE: "share/man/man1/rdeic.1"
    }


def test_every_command_and_option_is_there() -> None:
    lines = man_page.page().splitlines()
    helped = subprocess.run(
        [sys.executable, "-m", "rdeic", "compress", "--help"], capture_output=True, text=True, check=True
    )
    options = [word for word in helped.stdout.split() if word.startswith("--") and word[2:].isalpha()]
    assert len(options) > 10
    text = "\n".join(lines).replace("\\-", "-")
    assert all(option in text for option in options)
    assert {line for line in lines if line.startswith(".SS")} >= {
        f'.SS "rdeic {name}"' for name in ("compress", "decompress", "doctor", "import-checkpoint", "bench")
    }
    assert all(
        line.split()[0] in (".TH", ".SH", ".SS", ".B", ".BR", ".PP", ".TP")
        for line in lines
        if line[0] == "."
    )


@pytest.mark.parametrize(
    "reader", [["mandoc", "-T", "lint", "-W", "error"], ["groff", "-man", "-T", "utf8", "-w", "mac", "-z"]]
)
def test_readers_of_manual_pages_have_no_complaints(reader: list[str]) -> None:
    if shutil.which(reader[0]) is None:
        pytest.skip(f"no {reader[0]} here")
    done = subprocess.run([*reader, str(man_page.PAGE)], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")

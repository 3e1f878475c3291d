"""The page of figures: sections that are measured and written one by one, each with how it came about."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from rdeic.errors import ConfigError
from rdeic.evaluation import report
from rdeic.evaluation.report import Table
from rdeic.system import files

PAGE = "figures.md"
IMAGES = "images/figures"  # beside the page
NUMBERS = "measurements/figures"

_INTRODUCTION = """\
# Figures

The analyses of the paper, measured anew. Written by `benchmarks/figures.py`, which replaces the sections that it
measures: edit the program, not this page. Rates count the whole file. Arrows point to where a metric is better."""
_BLOCK = re.compile(r"^<!-- (\w+) -->\n(.*?)\n<!-- end of (\w+) -->$", re.MULTILINE | re.DOTALL)


class Section(NamedTuple):
    """One analysis."""

    name: str  # as on the command line
    title: str
    text: str  # what is shown and how to read it; no results, which the table has
    images: tuple[str, ...]  # file names within IMAGES
    table: Table
    remarks: tuple[str, ...]  # the command, the machine, the pictures

    def markdown(self) -> str:
        """Everything from the heading to the remarks."""
        pictures = [f"![{self.title}]({IMAGES}/{name})" for name in self.images]
        remarks = "\n".join(f"* {remark}" for remark in self.remarks)
        return "\n\n".join([f"## {self.title}", self.text, *pictures, report.markdown(*self.table), remarks])


def update(folder: Path, sections: Sequence[Section], order: Sequence[str]) -> Path:
    """Writes the page in `folder` with these sections anew and its others as they were, by `order`; returns its path.

    Raises ConfigError if the page there cannot be read, OSError if it cannot be written.
    """
    path = folder / PAGE
    blocks = _read(path) | {section.name: section.markdown() for section in sections}
    known = [name for name in order if name in blocks]
    parts = [f"<!-- {name} -->\n{blocks[name]}\n<!-- end of {name} -->" for name in known]
    folder.mkdir(parents=True, exist_ok=True)
    files.atomic_write(path, ("\n\n".join([_INTRODUCTION, *parts]) + "\n").encode())
    return path


def _read(path: Path) -> dict[str, str]:
    """The sections of an earlier page, by name."""
    if not path.exists():
        return {}
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: cannot be read: {error}; move it away") from error
    return {name: body for name, body, last in _BLOCK.findall(text) if name == last}

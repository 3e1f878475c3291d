"""CONTRIBUTING.md walks a picture through the code: the functions that it names are called, and in that order."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable
from pathlib import Path
from types import CodeType, FrameType
from typing import Any, NamedTuple

import pytest
from test_architecture import FLOOR, ROOT

from support.program_runs import Program, model, picture, program

__all__ = ["model", "picture", "program"]  # fixtures

PAGE = (Path(__file__).parents[2] / "CONTRIBUTING.md").read_text(encoding="utf-8")
WALKS = ("From a picture to a file", "From a file to a picture")
_PLACE = re.compile(r"`([\w/]+\.py):([\w.]+)`")


class Place(NamedTuple):
    file: str  # below src/rdeic
    name: str  # of a function, or Class.method

    @property
    def floor(self) -> int:
        return FLOOR[self.file.partition("/")[0].removesuffix(".py")]


def steps(walk: str) -> list[list[Place]]:
    """The places that each numbered step of a walk names; the first is in the room that the step is named after."""
    section = PAGE.split(f"## {walk}\n")[1].partition("\n## ")[0]
    found = []
    for room, step in re.findall(r"^\d+\. \*\*(\w+)\.\*\* (.*(?:\n {3}.*)*)", section, re.MULTILINE):
        found.append([Place(*place) for place in _PLACE.findall(step)])
        assert found[-1][0].file.startswith(f"{room}/")
    assert len(found) == len(re.findall(r"^\d+\. ", section, re.MULTILINE))  # none without a room
    return found


def first_calls(work: Callable[[], Any]) -> list[Place]:
    """Functions of the package in the order in which `work` calls each for the first time."""
    seen: dict[int, CodeType] = {}  # by id: their hash takes long

    def note(frame: FrameType, event: str, _: Any) -> None:
        if event == "call":
            seen.setdefault(id(frame.f_code), frame.f_code)

    before = sys.getprofile()
    sys.setprofile(note)
    try:
        work()
    finally:
        sys.setprofile(before)
    own = [code for code in seen.values() if ROOT in Path(code.co_filename).parents]
    return [Place(Path(code.co_filename).relative_to(ROOT).as_posix(), code.co_qualname) for code in own]


@pytest.mark.parametrize("walk", WALKS)
def test_a_walk_goes_down_the_floors_and_comes_up_once(walk: str) -> None:
    floors = [places[0].floor for places in steps(walk)]
    lowest = floors.index(min(floors))
    assert floors[:lowest] == sorted(floors[:lowest], reverse=True)
    assert floors[lowest:] == sorted(floors[lowest:])
    assert floors[0] == floors[-1] == FLOOR["cli"]
    assert min(floors) <= FLOOR["entropy"]


def test_the_walks_name_what_is_called_in_the_order_of_its_calls(
    program: Program, picture: Path, model: tuple[str, ...], tmp_path: Path
) -> None:
    file, restored = tmp_path / "photo.rdeic", tmp_path / "restored.png"
    for walk, words in zip(
        WALKS,
        (("compress", picture, "-o", file, "--verify"), ("decompress", file, "-o", restored)),
        strict=True,
    ):
        called = first_calls(lambda words=words: program(*words, *model, "--jobs", "1"))
        named = [place for places in steps(walk) for place in places]
        assert len(named) > 15
        assert [place for place in named if place not in called] == []
        assert named == sorted(named, key=called.index)
    assert restored.exists()

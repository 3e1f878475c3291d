"""What memory there is, what a picture takes of it, and what is said where that is too much."""

from __future__ import annotations

import platform
from pathlib import Path

import numpy as np
import pytest

import rdeic
from rdeic.codec import limits, scaling
from rdeic.config import MINI, MINI_NEXT, SD21, ModelConfig
from rdeic.container.stored_size import Size
from rdeic.errors import ConfigError, ImageError
from rdeic.model.tiles import Tiling
from rdeic.pictures import images
from rdeic.system import arguments, memory
from support.program_runs import Program, model, picture, program

__all__ = ["model", "picture", "program"]  # fixtures

GB = 10**9
TWELVE, HUNDRED = Size(4000, 3000), Size(11547, 8660)


# Amounts


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("2GB", 2 * GB),
        ("2 gb", 2 * GB),
        ("1.5GiB", 3 * 2**29),
        ("800M", 800_000_000),
        ("64kib", 65_536),
        ("12345", 12_345),
        ("7b", 7),
        (4096, 4096),
        (np.int64(5), 5),
    ],
)
def test_amounts_of_memory(text: str | int, count: int) -> None:
    assert arguments.byte_count("max_memory", text) == count


HOSTILE = [
    "",
    "GB",
    "-2GB",
    "0",
    "0.0001kB",
    "1e9",
    "nan",
    "inf",
    "2GBB",
    "2ib",
    "٢GB",
    "2,5GB",
    "9" * 400,
    "2 G B",
    "0x10",
]


@pytest.mark.parametrize("text", HOSTILE)
def test_other_texts_are_none(text: str, program: Program) -> None:
    with pytest.raises(ConfigError, match="max_memory"):
        rdeic.load("mini", max_memory=text)
    outcome = program("compress", "a.png", f"--max-memory={text}")
    assert outcome.code == 2
    assert "--max-memory" in outcome.err


@pytest.mark.parametrize("value", [True, 0, -1, 2.5, [1], b"2GB"])
def test_other_values_are_none(value: object) -> None:
    with pytest.raises(ConfigError, match="max_memory"):
        rdeic.load("mini", max_memory=value)  # type: ignore[arg-type]


# The machine


def test_room_is_what_is_free_and_allowed() -> None:
    there, own = memory.free(), memory.resident()
    if there is None or not own:
        pytest.skip("this system does not say")
    assert 10**6 < own < 10**12
    assert memory.room(1) == 0
    assert memory.room(own + 10**6) < 10**8  # type: ignore[operator]
    assert memory.room(10**15) <= memory.room(None) + 10**9  # type: ignore[operator]


def test_a_control_group_is_a_smaller_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "memory.max").write_text("3000000\n")
    (tmp_path / "memory.current").write_text("2500000\n")
    (tmp_path / "memory.stat").write_text("anon 1900000\ninactive_file 600000\n")
    group = (tmp_path, "memory.max", "memory.current", "inactive_file")
    monkeypatch.setattr(memory, "_GROUPS", (group,))
    assert memory.free() == 1_100_000
    (tmp_path / "memory.max").write_text("max\n")
    assert memory.free() != 1_100_000


# The plan


@pytest.mark.parametrize("config", [MINI, MINI_NEXT, SD21])
def test_small_pictures_stay_whole_and_large_ones_take_the_usual_tiles(config: ModelConfig) -> None:
    for room in (None, 64 * GB):
        assert limits.plan(Size(768, 512), config, room) is None
        assert limits.plan(Size(1920, 1088), config, room) == (Tiling() if config == SD21 else None)
        assert limits.plan(TWELVE, config, room) == Tiling()


def test_short_memory_makes_tiles_smaller_and_at_last_refuses() -> None:
    ways = [limits.needed_bytes(TWELVE, MINI, way) for way in (Tiling(), Tiling().halved())]
    assert ways[1] < ways[0]
    assert limits.plan(TWELVE, MINI, ways[0]) == Tiling()
    assert limits.plan(TWELVE, MINI, ways[0] - 1) == Tiling().halved()
    with pytest.raises(
        ImageError, match=r"4000x3000 takes at least 0\.\d\d GB of memory more, and there are 0\.10 GB"
    ):
        limits.plan(TWELVE, MINI, GB // 10)
    small = Size(1600, 1200)  # whole, if it can be
    assert limits.plan(small, MINI, limits.needed_bytes(small, MINI, None) - 1) is not None


def test_the_estimate_grows_with_the_picture_slowly() -> None:
    """As the bars have it: under 1.5 GB at 12 and under 2.5 GB at 100 megapixels, 0.45 GB of them the program's own."""
    twelve, hundred = (limits.needed_bytes(size, MINI, Tiling(), 2) for size in (TWELVE, HUNDRED))
    assert twelve < 1.05 * GB
    assert hundred < 2.05 * GB
    assert hundred < 4 * twelve


def test_memory_is_a_reason_to_store_smaller_only_where_tiles_do_not_help() -> None:
    assert scaling.scales(HUNDRED, 10**6, MINI, room=3 * GB).factors[0] == 1
    assert scaling.scales(HUNDRED, 10**6, MINI, room=GB).factors[0] > 1
    with pytest.raises(ImageError, match="of memory more"):
        scaling.scales(HUNDRED, 10**6, MINI, room=1)


# Coding


def test_a_picture_that_memory_cannot_hold_fails_alone_in_a_batch(
    program: Program, model: tuple[str, ...], picture: Path, tmp_path: Path
) -> None:
    """Neither the others nor the program suffer."""
    images.write(np.zeros((9000, 9000, 3), np.uint8), tmp_path / "large.png", "png")
    allowed = memory.resident() + 600 * 10**6
    outcome = program("compress", "photo.png", "large.png", "-o", "out/", f"--max-memory={allowed}", *model)
    assert outcome.code == 1
    assert (tmp_path / "out" / "photo.rdeic").exists()
    assert not (tmp_path / "out" / "large.rdeic").exists()
    (line,) = outcome.failures
    assert "large.png: a picture of 9000x9000 takes at least" in line


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc can be told to")
def test_freed_memory_goes_back_to_the_system() -> None:
    blocks = [b"x" * 60_000 for _ in range(2_000)]
    last = blocks[-1]  # at the end of the heap, so that nothing below it goes back by itself
    del blocks
    before = memory.resident()
    memory.give_back()
    assert before - memory.resident() > 50e6
    assert len(last) == 60_000

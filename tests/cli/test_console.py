"""What the program says is lines of text: nothing in a name or a file commands the terminal, no library speaks."""

from __future__ import annotations

import os
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from rdeic.cli.console import only_our_words
from rdeic.pictures import images
from rdeic.system.text import harmless
from support.program_runs import Program, model, picture, program

__all__ = ["model", "picture", "program"]  # fixtures

EVIL = "\x1b[31mred\x1b[0m\r\n\x9b2J\u202egnp"
SHOWN = r"\x1b[31mred\x1b[0m\r\n\x9b2J\u202egnp"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("two  spaces, ümläut 写真\u3000\xa0", "two  spaces, ümläut 写真\u3000\xa0"),
        (EVIL, SHOWN),
        ("caf\udce9", r"caf\xe9"),  # Latin-1, as Python reads it
        ("\u2028\ud800\x7f\x00", r"\u2028\ud800\x7f\x00"),
    ],
)
def test_what_a_terminal_obeys_is_escaped(text: str, shown: str) -> None:
    assert harmless(text) == shown


@pytest.mark.skipif(os.name != "posix", reason="such names as POSIX allows")
def test_names_are_escaped_wherever_they_are_said(
    program: Program, picture: Path, model: tuple[str, ...]
) -> None:
    folder = Path(f"d{EVIL}")
    folder.mkdir()
    picture.rename(folder / f"a{EVIL}.png")
    (folder / f"b{EVIL}.png").write_bytes(b"no picture")
    (folder / f".c{EVIL}.png").write_bytes(b"hidden")
    done = program("compress", folder, *model)
    shown = f"d{SHOWN}/a{SHOWN}"
    assert done.out.decode().startswith(f"{shown}.png -> {shown}.rdeic  ")
    assert done.err.splitlines()[0] == f"rdeic: d{SHOWN}/.c{SHOWN}.png: left out: hidden"
    assert done.err.splitlines()[1].startswith(f"rdeic: d{SHOWN}/b{SHOWN}.png: not a picture")
    assert done.err.splitlines()[2] == (
        f"1 done, 0 finished before, 1 left out, 1 failed: d{SHOWN}/b{SHOWN}.png"
    )
    packed = folder / f"a{EVIL}.rdeic"
    runs = [
        program("info", folder),
        program("info", "--json", packed),
        program("info", f"missing{EVIL}"),
        program("decompress", packed, "-o", "x.png", *model),
        program("decompress", packed, "-o", f"x{EVIL}.gif", *model),
        program("compress", f"-{EVIL}.png", *model),
        program("compress", "a.png", "b.png", "-o", packed, *model),
        program("compress", "a.png", "--model", f"m{EVIL}"),
        program("compress", "a.png", "--background", EVIL),
        program("models", folder),
        program("evaluate", folder, "-o", "report", "--codec", "jpeg:q10", "--metrics", "psnr"),
    ]
    for run in runs:
        said = run.out.decode() + run.err
        assert said
        assert all(letter.isprintable() or letter == "\n" for letter in said), said


def test_what_libraries_say_stays_off_stderr() -> None:
    """A program that warns and logs, whatever filters are set."""
    script = """
import logging, sys, warnings
from rdeic.cli.console import only_our_words
with only_our_words():
    warnings.warn("a warning")
    warnings.warn_explicit("another", DeprecationWarning, "x.py", 1)
    logging.getLogger("PIL").warning("logged")
    logging.error("logged")
print("after", file=sys.stderr)
"""
    said = [
        subprocess.run(
            [sys.executable, "-W", "always", "-c", script],
            capture_output=True,
            text=True,
            check=True,
            env=os.environ | {"RDEIC_DEBUG": debug},
        ).stderr
        for debug in ("0", "1")
    ]
    assert said[0] == "after\n"
    assert len(said[1].splitlines()) == 5


def test_a_picture_that_pillow_warns_of_is_one_line(tmp_path: Path, tiny_folder: Path) -> None:
    """Palette with transparency in bytes, and a truncated EXIF block: Pillow warns of both."""
    picture = Image.new("RGB", (8, 8))
    exif = Image.Exif()
    exif[0x010F] = "Canon"
    picture.save(tmp_path / "a.jpg", exif=exif.tobytes()[:-6])
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        Image.open(tmp_path / "a.jpg").getexif()
    assert caught  # or else this tests nothing
    command = [
        sys.executable,
        "-W",
        "always",
        "-m",
        "rdeic",
        "compress",
        "--metadata",
        "--model",
        str(tiny_folder),
    ]
    done = subprocess.run([*command, str(tmp_path / "a.jpg")], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_errors_in_filters_still_raise() -> None:
    with only_our_words(), warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(UserWarning, match="strict"):
            warnings.warn("strict", stacklevel=1)


# Frames


@pytest.mark.parametrize(
    ("suffix", "count"),
    [("gif", 3), ("png", 3), ("webp", 3), ("tiff", 3), ("mpo", 3), ("gif", 1), ("png", 1)],
)
def test_frames_beyond_the_first_are_mentioned(
    program: Program, model: tuple[str, ...], photo: images.Picture, suffix: str, count: int
) -> None:
    frames = [Image.fromarray(np.roll(photo, 9 * number, axis=1)) for number in range(count)]
    frames[0].save(f"a.{suffix}", save_all=True, append_images=frames[1:])
    done = program("compress", f"a.{suffix}", *model)
    assert done.code == 0
    assert done.out.endswith(b"bpp  the first of 3 frames\n" if count > 1 else b"bpp\n")
    piped = program("compress", f"a.{suffix}", "-o", "-", *model)
    assert piped.err == (f"rdeic: a.{suffix}: the first of 3 frames\n" if count > 1 else "")

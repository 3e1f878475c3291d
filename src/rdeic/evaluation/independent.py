"""Judges that no training here minimises: SSIMULACRA2, ColorVideoVDP and Butteraugli, from those who keep them.

SSIMULACRA2 is that of the Python package, or without it that of libjxl's program. The package says a few points less
than the program, so a label tells which it was.
"""

from __future__ import annotations

import importlib
import io
import re
import shutil
import tempfile
from collections.abc import Callable
from importlib import metadata
from pathlib import Path
from typing import NamedTuple, TypeAlias

import torch
from PIL import Image

from rdeic.errors import ConfigError
from rdeic.evaluation.codecs import commands
from rdeic.pictures.images import Picture

MIN_SIDE = 8  # pixels: SSIMULACRA2's smallest scale; what all three say of less means nothing
DISPLAY = "standard_4k"  # of ColorVideoVDP: 30 inches, 200 cd/m^2, seen from 0.75 m
_TIMEOUT = 600.0  # seconds for a program
_JXL = "install libjxl's programs (Debian: libjxl-devtools), and have them on the PATH"
REMEDIES = {
    "ssimulacra2": "pip install ssimulacra2",
    "cvvdp": "pip install cvvdp, with a torchvision that fits torch",
    "butteraugli": _JXL,
}

# Restored and original, both (H, W, 3) uint8 -> the value; None: not defined for so small a picture.
PictureJudge: TypeAlias = Callable[[Picture, Picture], "float | None"]


class Independent(NamedTuple):
    """A metric of other people's software, loaded."""

    judge: PictureJudge
    label: str  # what is measured, exactly
    version: str  # of the library or program


def load(name: str, device: str | None) -> Independent:
    """One of REMEDIES' names. Raises ConfigError for a missing program, and anything that an import may raise."""
    if name == "butteraugli":
        return _program(name, "butteraugli_main", _three_norm)
    return _ssimulacra2() if name == "ssimulacra2" else _cvvdp(device)


def _ssimulacra2() -> Independent:
    name = "ssimulacra2"
    try:
        compute = importlib.import_module(name).compute_ssimulacra2
    except ImportError as error:
        try:
            return _program(name, name, float)
        except ConfigError as missing:
            raise ConfigError(f"{error}, and {missing}") from error

    def judge(restored: Picture, original: Picture) -> float:
        return float(compute(_bitmap(original), _bitmap(restored)))

    return Independent(_where_defined(judge), name, f"{name} {metadata.version(name)}")


def _cvvdp(device: str | None) -> Independent:
    where = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
    metric = importlib.import_module("pycvvdp").cvvdp(display_name=DISPLAY, device=where, quiet=True)

    def judge(restored: Picture, original: Picture) -> float:
        return float(metric.predict(restored, original, dim_order="HWC")[0])

    return Independent(_where_defined(judge), f"cvvdp {DISPLAY}", f"cvvdp {metadata.version('cvvdp')}")


def _program(name: str, program: str, read: Callable[[str], float]) -> Independent:
    """A program of libjxl: called with the original and the restored picture, it prints what `read` understands."""
    path = shutil.which(program)
    if path is None:
        raise ConfigError(f"no program {program} on the PATH")

    def judge(restored: Picture, original: Picture) -> float:
        with tempfile.TemporaryDirectory(prefix="rdeic-") as folder:
            places = [Path(folder) / f"{what}.ppm" for what in ("original", "restored")]
            for place, picture in zip(places, (original, restored), strict=True):
                Image.fromarray(picture).save(place)
            return read(commands.call([path, *map(str, places)], _TIMEOUT, None))

    label = commands.fingerprint(name, "", path)
    return Independent(_where_defined(judge), label, label)


def _three_norm(text: str) -> float:
    """Raises ValueError for an output without that line."""
    found = re.search(r"^3-norm: (\S+)$", text, re.MULTILINE)
    if found is None:
        raise ValueError(f"no line of the 3-norm in {text!r}")
    return float(found[1])


def _where_defined(judge: Callable[[Picture, Picture], float]) -> PictureJudge:
    def judged(restored: Picture, original: Picture) -> float | None:
        return judge(restored, original) if min(original.shape[:2]) >= MIN_SIDE else None

    return judged


def _bitmap(picture: Picture) -> io.BytesIO:
    """A file in memory, as libraries want one."""
    buffer = io.BytesIO()
    Image.fromarray(picture).save(buffer, "BMP")
    buffer.seek(0)
    return buffer

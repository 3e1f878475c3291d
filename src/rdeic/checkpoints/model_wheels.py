"""Models that installed wheels bring: the entry point group `rdeic.models`. Nothing in a wheel is imported or run.

Such an entry point names a package, and the folder of the package holds model folders, as the one that RDEIC_MODELS
names does. So each version of a model can be a wheel, beside others of its name: scripts/model_wheel.py builds them.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import re
from importlib.metadata import Distribution
from pathlib import Path
from typing import NamedTuple

GROUP = "rdeic.models"
# Fingerprint => name of each model that was ever released in the package. Never take one out: files name them for ever.
RELEASED = {"d64bffe1": "mini", "c0f58063": "mini"}


class Wheel(NamedTuple):
    """What one entry point promises."""

    distribution: str  # its name, as package indexes write it
    version: str
    folder: Path | None  # of model folders; None if the package is not there


def installed() -> list[Wheel]:
    """Every entry point of the group, sorted; of a distribution that is there twice, the one that Python finds first.

    Distributions whose metadata cannot be read are passed over.
    """
    found: dict[str, list[Wheel]] = {}
    for distribution in importlib.metadata.distributions():
        wheels = _brought(distribution)
        if wheels:
            found.setdefault(wheels[0].distribution, wheels)
    return [wheel for name in sorted(found) for wheel in found[name]]


def distribution_name(model: str, fingerprint: bytes) -> str:
    """Of the wheel that holds a model: its name and the 4 bytes by which files name it, as package indexes write it."""
    return _normal(f"rdeic-model-{model}-{fingerprint.hex()}")


def remedy(fingerprint: bytes) -> str:
    """What to do to have the model with that fingerprint, in words.

    Only a model that was released is named for `pip install`: a stranger's file could else have a stranger's package
    installed.
    """
    model = RELEASED.get(fingerprint.hex())
    ask = "ask the file's sender for the model folder; pass it with --model, or put it where RDEIC_MODELS points"
    if model:
        return f"pip install {distribution_name(model, fingerprint)}, or {ask}"
    return f"{ask}; or install its wheel, rdeic-model-NAME-{fingerprint.hex()}, if you trust who made it"


def _brought(distribution: Distribution) -> list[Wheel]:
    try:
        if GROUP not in (distribution.read_text("entry_points.txt") or ""):
            return []
        name, version = _normal(distribution.name), distribution.version
        return [
            Wheel(name, version, _folder(point.module))
            for point in distribution.entry_points
            if point.group == GROUP
        ]
    except Exception:  # of broken installations, anything; they are no reason to restore no picture
        return []


def _folder(package: str) -> Path | None:
    """Of a package, which may be installed in any way that Python knows. Only the finders run, not the package."""
    top, *below = package.split(".")
    spec = importlib.util.find_spec(top)
    if spec is None or not spec.submodule_search_locations:
        return None
    return Path(next(iter(spec.submodule_search_locations)), *below)


def _normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()

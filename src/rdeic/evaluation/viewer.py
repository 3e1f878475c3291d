"""The pictures of a report's viewer, as the page carries them: whole files in data URIs, up to a limit."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from rdeic.evaluation.plots import number
from rdeic.evaluation.results import ORIGINAL, Results, Shown
from rdeic.evaluation.types import METRICS, Measurement

_SCENES = 4  # that are to have room
_SIGNATURES = ((b"\x89PNG\r\n\x1a\n", "image/png"), (b"RIFF", "image/webp"))  # lossless files and no others


class Version(NamedTuple):
    """One picture as one codec left it."""

    codec: str
    setting: str
    bpp: float | None  # None: the original
    facts: tuple[tuple[str, str], ...]  # what to print below it: name and value
    uri: str


class Scene(NamedTuple):
    """One picture in all its versions: the original, then by codec, smallest files first."""

    image: str
    width: int
    height: int
    versions: tuple[Version, ...]


class Gallery(NamedTuple):
    """The pictures of the viewer, and what was left out."""

    scenes: tuple[Scene, ...]
    full: int  # pictures left out because the page was full
    broken: tuple[str, ...]  # files left out because they are no pictures, one line each


def gallery(results: Results, folder: Path, limit: int) -> Gallery:
    """The pictures of `results.shown` that lie in `folder`, in data URIs of `limit` bytes at most.

    Where there is no room for all, each of the first scenes keeps every second setting of each codec, or every third,
    and so on; what still finds no room is left out.
    """
    by_image: dict[str, list[Shown]] = {}
    for shown in results.shown:
        by_image.setdefault(shown.image, []).append(shown)
    measured = {(one.codec, one.setting, one.image): one for one in results.measurements}
    order = {codec: rank for rank, codec in enumerate((ORIGINAL, *results.codecs))}
    scenes: list[Scene] = []
    broken: list[str] = []
    room, full = limit, 0
    for image, group in by_image.items():
        versions: list[Version] = []
        for shown in group:
            uri = _embed(folder, shown.path)
            if uri is None:
                broken.append(f"{shown.path}: not a readable PNG or WebP file of the report's folder")
            else:
                versions.append(_version(shown, measured.get((shown.codec, shown.setting, image)), uri))
        kept = _thinned(versions, min(room, limit // min(len(by_image), _SCENES)))
        size = next((one for one in results.measurements if one.image == image and not one.error), None)
        if size is None or len(kept) < 2:  # nothing to compare
            kept = []
        full += len(versions) - len(kept)
        room -= sum(len(version.uri) for version in kept)
        if size is not None and kept:
            kept.sort(key=lambda one: (order.get(one.codec, len(order)), one.bpp or 0))
            scenes.append(Scene(image, size.width, size.height, tuple(kept)))
    return Gallery(tuple(scenes), full, tuple(broken))


def _thinned(versions: Sequence[Version], room: int) -> list[Version]:
    """The original, and of each codec as many rates in even steps as there is room for: nothing if not even one."""
    by_codec: dict[str, list[Version]] = {}
    for version in sorted(versions, key=lambda one: one.bpp or 0):
        by_codec.setdefault(version.codec, []).append(version)
    most = max((len(group) for group in by_codec.values()), default=0)
    for step in range(1, most + 1):
        kept = [version for group in by_codec.values() for version in group[::step]]
        if sum(len(version.uri) for version in kept) <= room:
            return kept
    return []


def _embed(folder: Path, name: str) -> str | None:
    """A picture file as a data URI; None for anything else, and for what lies outside `folder`."""
    try:
        path = (folder / name).resolve()
        if not path.is_relative_to(folder.resolve()):
            return None
        data = path.read_bytes()
    except (OSError, ValueError):
        return None
    kind = next((kind for start, kind in _SIGNATURES if data.startswith(start)), None)
    return None if kind is None else f"data:{kind};base64,{base64.b64encode(data).decode()}"


def _version(shown: Shown, measurement: Measurement | None, uri: str) -> Version:
    if measurement is None:
        return Version(shown.codec, shown.setting, None, (), uri)
    facts = [("rate", f"{measurement.bpp:.4f} bpp"), ("file", f"{measurement.bytes:,} bytes")]
    scores = {score.metric: score.value for score in measurement.scores}
    facts += [
        (metric.title, f"{number(scores[metric.name], metric)} {metric.unit}".strip())
        for metric in METRICS
        if metric.name in scores
    ]
    return Version(shown.codec, shown.setting, measurement.bpp, tuple(facts), uri)

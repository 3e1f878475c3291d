"""Results of a run that was never made, and the page of a report as a browser reads it."""

from __future__ import annotations

import csv
import io
import re
import xml.etree.ElementTree as ET
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
from PIL import Image

from rdeic.evaluation.results import ORIGINAL, Results, Shown
from rdeic.evaluation.types import Measurement, Score, SetScore, Unavailable, UnavailableCodec

DASH = "\N{EN DASH}"  # where there is no value
CODECS = ("rdeic", "avif", "webp", "jpeg")
BITS = {"rdeic": 0.5, "avif": 1.0, "webp": 1.3, "jpeg": 2.2}  # for the same quality
SETTINGS = ("1", "2", "3", "5", "10")
IMAGES = ("kodim01.png", "kodim02.png", "kodim03.png")


def measurement(codec: str, setting: str, image: str) -> Measurement:
    """Qualities that depend on the setting and the picture only, so that BD-rates are known."""
    level, offset = SETTINGS.index(setting), IMAGES.index(image)
    scores = (
        Score("psnr", 22.0 + 1.5 * level + offset - 0.05 * level**2),
        Score("ms_ssim", 1 - 0.3 / (2 + level)),
        Score("lpips", 0.4 / (1 + level) + 0.01 * offset),
        Score("dists", 0.25 / (1 + 0.7 * level) + 0.01 * offset),
    )
    bpp = BITS[codec] * 0.06 * 1.5**level
    size = round(bpp * 48 * 32 / 8)
    return Measurement(codec, setting, image, 48, 32, size, bpp, 0.1 + level, 0.25, scores, "")


def failed(one: Measurement, reason: str) -> Measurement:
    """As a run records it."""
    return Measurement(*one[:3], 0, 0, 0, 0.0, 0.0, 0.0, (), reason)


def results(measurements: tuple[Measurement, ...] | None = None) -> Results:
    if measurements is None:
        measurements = tuple(measurement(c, s, i) for c in CODECS for s in SETTINGS for i in IMAGES)
    return Results(
        dataset="kodak",
        protocol="as is",
        metrics=("psnr", "ms_ssim", "lpips", "dists", "niqe", "fid"),
        codecs=tuple(dict.fromkeys(one.codec for one in measurements)),
        measurements=measurements,
        set_scores=tuple(
            SetScore(codec, setting, Score("fid", 90 / (1 + level) + 5 * BITS[codec]))
            for codec in CODECS
            for level, setting in enumerate(SETTINGS)
        ),
        unavailable=(Unavailable("niqe", "needs pyiqa: pip install 'rdeic[eval]'"),),
        unavailable_codecs=(UnavailableCodec("bpg", "bpgenc is not on the PATH"),),
        shown=(),
        command="rdeic evaluate kodak --codec rdeic --codec avif -o report",
        versions=("rdeic 0.1", "Pillow 13.0.0"),
        hardware=("Some CPU, 2 cores, Linux", "Another CPU, 64 cores, Linux"),
    )


def show(folder: Path, base: Results) -> Results:
    """With pictures of noise for the viewer, of the first image."""
    generator = np.random.default_rng(0)
    shown = []
    (folder / "shown").mkdir(parents=True)
    for codec, setting in [(ORIGINAL, ""), *((codec, setting) for codec in CODECS for setting in SETTINGS)]:
        path = f"shown/{codec}-{setting}.png"
        Image.fromarray(generator.integers(0, 256, (32, 48, 3), np.uint8)).save(folder / path)
        shown.append(Shown(codec, setting, IMAGES[0], path))
    return base._replace(shown=tuple(shown))


class Page(HTMLParser):
    """What a browser would make of a page: elements, attributes, text, tables."""

    def __init__(self, path: Path) -> None:
        super().__init__(convert_charrefs=True)
        self.elements: list[tuple[str, dict[str, str]]] = []
        self.texts: list[str] = []
        self.raw: dict[str, list[str]] = {"script": [], "style": []}
        self.rows: list[list[str]] = []
        self._raw = ""
        self._in_cell = False
        self.feed(path.read_text(encoding="utf-8"))
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, {name: value or "" for name, value in attrs}))
        self._raw = tag if tag in self.raw else ""
        if self._raw:
            self.raw[tag].append("")
        if tag == "tr":
            self.rows.append([])
        if tag in ("td", "th"):
            self.rows[-1].append("")
        self._in_cell = tag in ("td", "th") or (self._in_cell and tag != "tr")

    def handle_endtag(self, tag: str) -> None:
        if tag in self.raw:
            self._raw = ""
        if tag in ("td", "th"):
            self._in_cell = False

    def handle_data(self, data: str) -> None:
        if self._raw:
            self.raw[self._raw][-1] += data
            return
        self.texts.append(data)
        if self._in_cell:
            self.rows[-1][-1] += data

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.texts).split())

    def row(self, *start: str) -> list[str]:
        """The first table row that begins so."""
        return next(row for row in self.rows if tuple(row[: len(start)]) == start)


def columns(path: Path) -> list[dict[str, str]]:
    lines = path.read_text(encoding="utf-8").splitlines()
    return list(csv.DictReader(line for line in lines if not line.startswith("#")))


def drawings(path: Path) -> list[ET.Element]:
    """The plots of a page, as XML."""
    return [
        ET.fromstring(svg) for svg in re.findall(r"<svg viewBox=\"0 0 .*?</svg>", path.read_text(), re.DOTALL)
    ]


def picture_file() -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (48, 32), "teal").save(buffer, "PNG")
    return buffer.getvalue()

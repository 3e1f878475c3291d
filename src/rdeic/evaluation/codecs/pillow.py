"""The formats that Pillow and its plugins write."""

from __future__ import annotations

import importlib
import io
import re
from dataclasses import dataclass
from importlib import metadata
from typing import NamedTuple

import numpy as np
from PIL import Image, features

from rdeic.errors import ConfigError
from rdeic.evaluation.types import UnavailableCodec
from rdeic.pictures.images import Picture


class Format(NamedTuple):
    """One format at the settings of its encoder that make the smallest files in reasonable time."""

    kind: str  # as Pillow calls it
    options: dict[str, bool | int]  # of Image.save, besides the quality
    least: int  # lowest quality
    package: str  # that has to be installed besides Pillow; "" for none
    module: str  # of that package
    library: str  # whose version `features` knows; "" for none
    settings: tuple[str, ...]  # extreme rates


FORMATS = {
    # Pillow takes quality 0 of JPEG for "not given".
    "jpeg": Format("JPEG", {"optimize": True}, 1, "", "", "libjpeg_turbo", ("q3", "q5", "q10", "q18")),
    "webp": Format("WEBP", {"method": 6}, 0, "", "", "webp", ("q0", "q1", "q3", "q10", "q20")),
    "avif": Format("AVIF", {"speed": 4}, 0, "", "", "avif", ("q4", "q10", "q16", "q22", "q28", "q34")),
    "jxl": Format(
        "JXL", {"effort": 7}, 0, "pillow-jxl-plugin", "pillow_jxl", "", ("q0", "q3", "q6", "q10", "q15")
    ),
    "heic": Format("HEIF", {}, 0, "pillow-heif", "pillow_heif", "", ("q2", "q6", "q10", "q15", "q20")),
}
_SETTING = re.compile(r"q(\d{1,3})")


@dataclass(frozen=True)
class PillowCodec:
    """A format of FORMATS. Settings: "q0" to "q100", the quality on the format's own scale."""

    name: str
    settings: tuple[str, ...]
    timeout: float  # seconds

    @property
    def version(self) -> str:
        """Name and version of the encoder's library, or of the plugin."""
        form = FORMATS[self.name]
        if form.package:
            return f"{form.package} {metadata.version(form.package)}"
        return f"{form.library} {features.version(form.library)}, Pillow {metadata.version('pillow')}"

    def prepare(self) -> None:
        """Registers the plugin. Raises ImportError if it is not installed."""
        form = FORMATS[self.name]
        if form.module:
            plugin = importlib.import_module(form.module)
            if self.name == "heic":
                plugin.register_heif_opener()

    def encode(self, picture: Picture, setting: str) -> bytes:
        """Raises ConfigError for the setting, and what Pillow raises."""
        self.prepare()
        form, quality = FORMATS[self.name], quality_of(self.name, setting)
        buffer = io.BytesIO()
        Image.fromarray(picture).save(buffer, form.kind, quality=max(form.least, quality), **form.options)
        return buffer.getvalue()

    def decode(self, data: bytes) -> Picture:
        """A file of this format only. Raises what Pillow raises."""
        self.prepare()
        with Image.open(io.BytesIO(data), formats=[FORMATS[self.name].kind]) as image:
            return np.array(image.convert("RGB"))


def create(name: str, settings: tuple[str, ...], timeout: float) -> PillowCodec | UnavailableCodec:
    """The codec of one of FORMATS; no settings: the default ones. Raises ConfigError for a setting."""
    form = FORMATS[name]
    for setting in settings:
        quality_of(name, setting)
    codec = PillowCodec(name, settings or form.settings, timeout)
    try:
        codec.prepare()
    except ImportError as error:
        return UnavailableCodec(name, f"{error}; pip install {form.package}")
    if form.library and not features.check(form.library):
        return UnavailableCodec(name, f"this Pillow has no {form.library}; pip install --upgrade pillow")
    return codec


def quality_of(name: str, setting: str) -> int:
    """0..100. Raises ConfigError if the setting is none."""
    found = _SETTING.fullmatch(setting)
    if found is None or int(found[1]) > 100:
        raise ConfigError(f"{name} knows no setting {setting!r}: write q0 to q100")
    return int(found[1])

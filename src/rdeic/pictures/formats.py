"""Which kinds of picture file can be read here: Pillow's, and those of installed plugins."""

from __future__ import annotations

import contextlib
import functools
from typing import NamedTuple

from PIL import Image


class Plugin(NamedTuple):
    """A package that teaches Pillow another format."""

    extra: str  # pip install 'rdeic[extra]'
    suffixes: tuple[str, ...]  # what such files are called, known without the package too


PLUGINS = {
    "HEIF": Plugin("heif", (".heic", ".heics", ".heif", ".heifs", ".hif")),
    "JXL": Plugin("jxl", (".jxl",)),
}
# Not simply all of Pillow's: some of those run other programs (EPS, WMF), hold no picture (HDF5, MPEG), hold
# measurements instead of colours (FITS, SPIDER), or match almost any bytes (IM, IPTC, MCIDAS).
_NATIVE = (
    *("PNG", "JPEG", "WEBP", "TIFF", "BMP", "GIF", "PPM", "AVIF", "JPEG2000", "QOI"),
    *("ICO", "CUR", "ICNS", "PSD", "SGI", "PCX", "DCX", "SUN", "DDS", "DIB", "XPM", "XBM", "MSP", "TGA"),
)
_ALIASES = frozenset({"MPO"})  # names of the same format for which Pillow has no opener of its own


@functools.cache
def readable() -> tuple[str, ...]:
    """Pillow's names of the formats, in the order in which they are to be tried."""
    Image.init()
    with contextlib.suppress(ImportError, OSError):  # not installed, or not for this machine
        import pillow_heif

        pillow_heif.register_heif_opener()
    with contextlib.suppress(ImportError, OSError):
        import pillow_jxl  # noqa: F401 (registers itself)
    return tuple(name for name in (*_NATIVE[:-1], *PLUGINS, _NATIVE[-1]) if name in Image.OPEN)


@functools.cache
def readable_suffixes() -> frozenset[str]:
    """What the readable files are called: lower case, with the dot; without plugins' formats that are not installed."""
    formats = _ALIASES.union(readable())
    return frozenset(
        suffix.lower() for suffix, name in Image.registered_extensions().items() if name in formats
    )

"""Which kinds of picture file can be read here: Pillow's, and those of installed plugins."""

from __future__ import annotations

import contextlib
import functools
from typing import NamedTuple

from PIL import Image


class Plugin(NamedTuple):
    """A package that teaches Pillow another format."""

    name: str  # as people call the format
    extra: str  # pip install 'rdeic[extra]'
    suffixes: tuple[str, ...]  # what such files are called, known without the package too


PLUGINS = {
    "HEIF": Plugin("HEIC", "heif", (".heic", ".heics", ".heif", ".heifs", ".hif")),
    "JXL": Plugin("JPEG XL", "jxl", (".jxl",)),
}
# Not simply all of Pillow's: some of those run other programs (EPS, WMF), hold no picture (HDF5, MPEG), hold
# measurements instead of colours (FITS, SPIDER), or match almost any bytes (IM, IPTC, MCIDAS).
_NATIVE = (
    *("PNG", "JPEG", "WEBP", "TIFF", "BMP", "GIF", "PPM", "AVIF", "JPEG2000", "QOI"),
    *("ICO", "CUR", "ICNS", "PSD", "SGI", "PCX", "DCX", "SUN", "DDS", "DIB", "XPM", "XBM", "MSP"),
)
_LAST = "TGA"  # has no magic number
_ALIASES = frozenset({"MPO"})  # names of the same format for which Pillow has no opener of its own
_HEIC_BRANDS = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"hevm", b"hevs")
_VIDEO_BRANDS = (b"isom", b"iso2", b"iso4", b"iso5", b"iso6", b"avc1", b"qt  ")
_OTHERS = {  # what people mistake for a picture file
    b"%PDF": "a PDF document",
    b"%!PS": "a PostScript document",
    b"<svg": "an SVG drawing",
    b"<!DO": "a web page or XML file",
    b"<htm": "a web page",
    b"<?xm": "an XML file, maybe an SVG drawing",
    b"\x1aE\xdf\xa3": "a video",
}


@functools.cache
def readable() -> tuple[str, ...]:
    """Pillow's names of the formats, in the order in which they are to be tried."""
    Image.init()
    with contextlib.suppress(ImportError, OSError):  # not installed, or not for this machine
        import pillow_heif

        pillow_heif.register_heif_opener()
    with contextlib.suppress(ImportError, OSError):
        import pillow_jxl  # noqa: F401 (registers itself)
    return tuple(name for name in (*_NATIVE, *PLUGINS, _LAST) if name in Image.OPEN)


@functools.cache
def readable_suffixes() -> frozenset[str]:
    """What the readable files are called: lower case, with the dot; without plugins' formats that are not installed."""
    formats = _ALIASES.union(readable())
    return frozenset(
        suffix.lower() for suffix, name in Image.registered_extensions().items() if name in formats
    )


def candidates(data: bytes) -> tuple[str, ...]:
    """The readable formats whose signature the file bears, in order."""
    head, found = data[:16].ljust(16, b"\0"), list[str]()
    for name in readable():
        accept = Image.OPEN[name][1]
        if _may_be_tga(data) if name == _LAST else accept is not None and accept(head):
            found.append(name)
    return tuple(found)


def unreadable(data: bytes) -> str:
    """Why a file without candidates cannot be read."""
    kind = _plugin_format(data)
    if kind is not None:
        plugin = PLUGINS[kind]
        return f"reading {plugin.name} takes a plugin: pip install 'rdeic[{plugin.extra}]'"
    other = _OTHERS.get(data[:4])
    if other is None and data[4:8] == b"ftyp":
        brand = data[8:12]
        kept = "a camera's raw data" if brand == b"crx " else f"a file of kind {brand.decode('latin-1')!r}"
        other = "a video" if brand in _VIDEO_BRANDS or brand[:2] in (b"mp", b"3g", b"M4") else kept
    known = "PNG, JPEG, WebP, TIFF and others can be read"
    return f"not a picture but {other}; {known}" if other else f"not a picture in a known format; {known}"


def _plugin_format(data: bytes) -> str | None:
    if data[4:8] == b"ftyp" and data[8:12] in (*_HEIC_BRANDS, b"mif1", b"msf1"):
        return "HEIF"
    if data[:2] == b"\xff\x0a" or data[4:12] == b"JXL \r\n\x87\n":
        return "JXL"
    return None


def _may_be_tga(data: bytes) -> bool:
    """Whether the header makes sense, and the file is long enough for it unless compressed."""
    if len(data) < 18 or data[1] > 1 or data[2] not in (1, 2, 3, 9, 10, 11) or data[17] & 0xC0:
        return False
    width, height, depth = data[12] | data[13] << 8, data[14] | data[15] << 8, data[16]
    mapped = (data[5] | data[6] << 8) * ((data[7] + 7) // 8) if data[1] else 0
    if data[1] != (data[2] in (1, 9)) or depth not in (8, 16, 24, 32) or not width * height:
        return False
    return data[2] > 8 or len(data) >= 18 + data[0] + mapped + width * height * depth // 8

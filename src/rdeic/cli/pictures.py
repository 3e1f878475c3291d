"""Which files of a folder are pictures, and why others that look like some are left out."""

from __future__ import annotations

from pathlib import Path

from rdeic.cli.inputs import TAKEN, Kind, head
from rdeic.pictures import formats, images

# By their content: other names of these are common (phones save JPEG as .heic), and no camera's raw format begins so.
_PLAIN = ((b"\xff\xd8\xff", "JPEG"), (b"\x89PNG\r\n\x1a\n", "PNG"), (b"GIF8", "GIF"))
_TIFF = (b"II*\0", b"MM\0*")
_BRANDS = {
    b"avif": "AVIF",
    b"avis": "AVIF",
    b"heic": "HEIC",
    b"heix": "HEIC",
    b"mif1": "HEIF",
    b"msf1": "HEIF",
}
_JXL = b"\0\0\0\x0cJXL \r\n\x87\n"

# As `formats.PLUGINS` names them; an installed plugin has taken its suffixes before.
_OF_PLUGINS = dict.fromkeys((".heic", ".heics", ".heif", ".heifs", ".hif"), "HEIF") | {".jxl": "JXL"}

# Pictures that nothing here reads; many raw formats would open as their thumbnail.
_UNREADABLE = frozenset(
    f".{name}"
    for name in (
        *(
            "3fr",
            "arw",
            "cr2",
            "cr3",
            "crw",
            "dcr",
            "dng",
            "erf",
            "iiq",
            "kdc",
            "mos",
            "mrw",
            "nef",
            "nrw",
            "orf",
        ),
        *("pef", "raf", "raw", "rw2", "rwl", "sr2", "srf", "srw", "x3f"),
        *(
            "bpg",
            "eps",
            "exr",
            "fit",
            "fits",
            "flif",
            "hdr",
            "jls",
            "jph",
            "jxr",
            "kra",
            "svg",
            "svgz",
            "wdp",
            "wmf",
        ),
        *("emf", "xcf", "avif", "avifs", "webp", "jp2", "j2k", "psd", "tga", "ico"),
    )
)


def kind() -> Kind:
    """Pictures, as `inputs.gather` looks for them."""
    return Kind(images.readable_suffixes(), _judge)


def _judge(path: Path) -> str | None:
    """Of a file whose suffix is none that can be read here."""
    suffix = path.suffix.lower()
    plugin = formats.PLUGINS.get(_OF_PLUGINS.get(suffix, ""))
    if plugin is None and suffix not in _UNREADABLE:
        content = _content(path)
        return content and f"{content} by its content, but not by its name; alone it would be taken"
    start = head(path)
    if any(start.startswith(magic) for magic, _ in _PLAIN) or _is_webp(start):
        return TAKEN
    if plugin is not None:
        return f"reading {plugin.name} takes a plugin: pip install 'rdeic[{plugin.extra}]'"
    return f"{suffix} files cannot be read; convert it first"


def _content(path: Path) -> str | None:
    """The format that the first bytes speak of; None if they speak of no picture."""
    start = head(path)
    for magic, name in _PLAIN:
        if start.startswith(magic):
            return name
    if start.startswith(_TIFF):
        return "TIFF"
    if start.startswith(_JXL):
        return "JPEG XL"
    if start[4:8] == b"ftyp":
        return _BRANDS.get(start[8:12])
    return "WebP" if _is_webp(start) else None


def _is_webp(start: bytes) -> bool:
    return start[:4] == b"RIFF" and start[8:12] == b"WEBP"

"""Text for a terminal."""

from __future__ import annotations

import unicodedata

# How Python writes a byte of a name that is no text (PEP 383): 0xDC00 + the byte, which is never ASCII.
_ASCII = 0x80
_FIRST_RAW, _LAST_RAW = 0xDC80, 0xDCFF


def harmless(text: str) -> str:
    """Without what a terminal would obey: control characters, and those that reverse the direction of writing.

    They are written as escape sequences of Python, as are the bytes of names that are no text.
    """
    return "".join(map(_shown, text))


def _shown(letter: str) -> str:
    if letter.isprintable() or unicodedata.category(letter) == "Zs":  # spaces of all kinds
        return letter
    if _FIRST_RAW <= ord(letter) <= _LAST_RAW:
        return f"\\x{ord(letter) - _FIRST_RAW + _ASCII:02x}"
    return letter.encode("unicode_escape").decode()

"""A hook of mkdocs: formulas between dollar signs become MathML, which browsers show by themselves.

GitHub shows the same pages by its own means. `latex2mathml` does it here, so that no page needs another host's script.
"""

from __future__ import annotations

import re
from typing import Any

from latex2mathml.converter import convert

_CODE = r"```.*?```|`[^`\n]+`"  # dollars in code are the shell's
_BLOCK = r"\$\$(?P<block>.+?)\$\$"
_INLINE = r"(?<![\\$\w])\$(?P<inline>[^\s$](?:[^$\n]*[^\s$])?)\$(?![\w$])"
_TAG = re.compile(r"\\tag\{(\w+)\}")  # which latex2mathml sets too close
_PARTS = re.compile(f"{_CODE}|{_BLOCK}|{_INLINE}", re.DOTALL)


def on_page_markdown(markdown: str, **_: Any) -> str:
    """A page as it goes on to Markdown."""
    return _PARTS.sub(_rendered, markdown)


def _rendered(found: re.Match[str]) -> str:
    if block := found["block"]:
        spaced = _TAG.sub(r"\\qquad\\text{(\1)}", block)
        return f"\n{convert(spaced, display='block')}\n"
    if inline := found["inline"]:
        return f"<span>{convert(inline)}</span>"  # a line that begins with <math> would end its paragraph
    return found[0]

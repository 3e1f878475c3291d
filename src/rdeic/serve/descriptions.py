"""What OpenAPI says of bodies and answers that are files."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from rdeic.serve.negotiation import RDEIC
from rdeic.serve.problems import KINDS, MEDIA_TYPE, PREFIX

_FILE = {"schema": {"type": "string", "format": "binary"}}
_PROBLEM = {
    "type": "object",
    "required": ["type", "title", "status", "detail"],
    "properties": {
        "type": {"type": "string", "enum": [PREFIX + name for name in KINDS]},
        "title": {"type": "string"},
        "status": {"type": "integer"},
        "detail": {"type": "string"},
    },
}
_ALWAYS = ("unauthorized", "foreign-origin", "misdirected", "internal")
_WORK = (
    *("slow-request", "too-many-bytes", "too-many-pixels", "unsupported-media", "not-acceptable"),
    *("bad-parameters", "queue-full", "busy", "too-long"),
)
PICTURE_PROBLEMS = (*_WORK, "bad-picture", "transparent-picture", "out-of-reach")
FILE_PROBLEMS = (*_WORK, "bad-file", "other-model")


def body(media_type: str) -> dict[str, Any]:
    """A request whose body is the file itself."""
    content = {media_type: _FILE, "application/octet-stream": _FILE}
    return {"requestBody": {"required": True, "content": content}}


def answers(
    media_types: Sequence[str], problems: Sequence[str], headers: dict[str, str] | None = None
) -> dict[int | str, dict[str, Any]]:
    """One of the media types with these headers, or one of the problems."""
    described = {
        name: {"schema": {"type": "string"}, "description": text} for name, text in (headers or {}).items()
    }
    found: dict[int | str, dict[str, Any]] = {
        200: {"description": "Done.", "content": dict.fromkeys(media_types, _FILE), "headers": described}
    }
    return found | failures(problems)


def json_answer(example: dict[str, Any], problems: Sequence[str]) -> dict[int | str, dict[str, Any]]:
    """JSON such as the example, or one of the problems."""
    done = {"description": "Done.", "content": {"application/json": {"example": example}}}
    return {200: done, **failures(problems)}


def failures(problems: Sequence[str]) -> dict[int | str, dict[str, Any]]:
    """The problems by their status, each with an example."""
    found: dict[int | str, dict[str, Any]] = {}
    for name in dict.fromkeys((*problems, *_ALWAYS)):
        _, status, title = KINDS[name]
        example = {"type": PREFIX + name, "title": title, "status": status, "detail": "..."}
        content = found.setdefault(
            status, {"description": title, "content": {MEDIA_TYPE: {"schema": _PROBLEM, "examples": {}}}}
        )["content"][MEDIA_TYPE]
        content["examples"][name] = {"value": example}
        if title not in found[status]["description"]:
            found[status]["description"] += f"; {title}"
    for status in (429, 503):
        if status in found:
            wait = {"schema": {"type": "integer"}, "description": "Seconds."}
            found[status]["headers"] = {"Retry-After": wait}
    return found


SAID = {
    "Rdeic-Bpp": "Bits per pixel of the original picture, header included.",
    "Rdeic-Quality": "0 to 100.",
    "Rdeic-Size": "WIDTHxHEIGHT of the original picture.",
    "Rdeic-Stored-Size": "WIDTHxHEIGHT of the coded picture, smaller where a size demanded it.",
}
EXAMPLE_INFO = {
    "width": 768,
    "height": 512,
    "quality": 18.8,
    "steps": 2,
    "seed": 0,
    "fingerprint": "0a1b2c3d",
    "file_bytes": 2459,
    "bpp": 0.05003,
    "stored_width": 768,
    "stored_height": 512,
    "metadata": None,
}
EXAMPLE_PROGRESS = {"state": "working", "ahead": 0, "seconds": 1.2, "expected_seconds": 4.0}
TITLE = f"Photographs in one or two kilobytes: pictures to {RDEIC} and back."

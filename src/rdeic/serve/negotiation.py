"""What the client sends and what it wants: Content-Type and Accept."""

from __future__ import annotations

import re
from collections.abc import Sequence

from rdeic.serve.problems import Problem

RDEIC = "image/x-rdeic"
_OCTETS = "application/octet-stream"
_RANGE = re.compile(r"\s*([\w!#$&^.+*-]+)/([\w!#$&^.+*-]+)\s*((?:;[^,]*)?)")
_QUALITY = re.compile(r";\s*q\s*=\s*(0(?:\.\d{0,3})?|1(?:\.0{0,3})?)\s*(?:;|$)", re.IGNORECASE)


def check_sent(content_type: str | None, wanted: str) -> None:
    """Raises a Problem unless the body may be what is `wanted`: image/*, image/x-rdeic or octets; or says nothing."""
    kind = (content_type or _OCTETS).partition(";")[0].strip().lower()
    family = wanted.partition("*")[0]
    if kind != _OCTETS and not (kind.startswith(family) if wanted.endswith("*") else kind == wanted):
        raise Problem(
            "unsupported-media",
            f"Content-Type {kind[:80]!r}: send the file itself as the body, as {wanted} or {_OCTETS}",
            headers={"Accept": f"{wanted}, {_OCTETS}"},
        )


def choose(accept: str | None, offers: Sequence[str]) -> str:
    """The offer that the client prefers; among equals the first. Raises a Problem if it takes none of them.

    `application/octet-stream` takes the first offer as it is.
    """
    if accept is None or not accept.strip():
        return offers[0]
    ranges = [found for part in accept.split(",") if (found := _parsed(part)) is not None]
    wishes = [(_wish(offer, ranges), -place, offer) for place, offer in enumerate(offers)]
    best, _, offer = max(wishes)
    if best > 0:
        return offer
    if _wish(_OCTETS, [one for one in ranges if one[0] != "*/*"]) > 0:
        return offers[0]
    raise Problem("not-acceptable", f"Accept {accept[:80]!r}: this can be had as {', '.join(offers)}")


def _parsed(part: str) -> tuple[str, float] | None:
    """A range and how much it is wanted, 0 to 1."""
    found = _RANGE.fullmatch(part)
    if found is None:
        return None
    quality = _QUALITY.search(found[3])
    return f"{found[1]}/{found[2]}".lower(), float(quality[1]) if quality else 1.0


def _wish(offer: str, ranges: Sequence[tuple[str, float]]) -> float:
    """The most specific range that fits decides."""
    for wanted in (offer, f"{offer.partition('/')[0]}/*", "*/*"):
        for name, quality in ranges:
            if name == wanted:
                return quality
    return 0.0

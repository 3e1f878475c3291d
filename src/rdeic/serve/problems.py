"""What went wrong, for programs (RFC 9457): `application/problem+json`, each kind with a name of its own.

`docs/serve.md` lists them; a test keeps the list complete.
"""

from __future__ import annotations

import json
import math
from typing import NamedTuple

from starlette.responses import Response

from rdeic.errors import (
    ConfigError,
    FileFormatError,
    ImageError,
    ModelMismatchError,
    RateError,
    RdeicError,
    TooLargeError,
    TransparencyError,
)

MEDIA_TYPE = "application/problem+json"
PREFIX = "urn:rdeic:problem:"


class Kind(NamedTuple):
    """One kind of problem: its name, status and title."""

    name: str  # after PREFIX
    status: int
    title: str


KINDS = {
    kind.name: kind
    for kind in (
        Kind("bad-request", 400, "The request is not HTTP as this server speaks it"),
        Kind("unauthorized", 401, "A token is needed"),
        Kind("foreign-origin", 403, "Another web site sent this request"),
        Kind("not-found", 404, "There is nothing here"),
        Kind("method-not-allowed", 405, "This is asked in another way"),
        Kind("not-acceptable", 406, "There is no such answer"),
        Kind("slow-request", 408, "The request came too slowly"),
        Kind("too-many-bytes", 413, "The body is too large"),
        Kind("too-many-pixels", 413, "The picture is too large"),
        Kind("unsupported-media", 415, "The body is not what this takes"),
        Kind("misdirected", 421, "The request was meant for another host"),
        Kind("bad-parameters", 422, "The parameters make no sense"),
        Kind("bad-picture", 422, "The picture cannot be used"),
        Kind("transparent-picture", 422, "The picture is transparent"),
        Kind("bad-file", 422, "The .rdeic file cannot be read"),
        Kind("other-model", 422, "The .rdeic file needs another model"),
        Kind("out-of-reach", 422, "The picture cannot have this size"),
        Kind("queue-full", 429, "Too many requests are waiting"),
        Kind("internal", 500, "The server failed"),
        Kind("busy", 503, "The server is busy"),
        Kind("too-long", 503, "The work takes too long"),
    )
}

_NAMES = {
    ImageError: "bad-picture",
    FileFormatError: "bad-file",
    RateError: "out-of-reach",
    ConfigError: "bad-parameters",
}


class Problem(Exception):  # noqa: N818 (RFC 9457's word)
    """Ends a request with an answer of application/problem+json."""

    def __init__(
        self, name: str, detail: str, retry_after: float | None = None, headers: dict[str, str] | None = None
    ) -> None:
        """`detail` is for people; `retry_after` in seconds."""
        super().__init__(detail)
        self.kind, self.detail = KINDS[name], detail
        self.headers = dict(headers or {})
        if retry_after is not None:
            self.headers["Retry-After"] = str(max(1, math.ceil(retry_after)))

    def response(self) -> Response:
        """What the client gets."""
        name, status, title = self.kind
        body = {"type": PREFIX + name, "title": title, "status": status, "detail": self.detail}
        content = json.dumps(body, ensure_ascii=True)
        return Response(content, status, self.headers | {"Cache-Control": "no-store"}, MEDIA_TYPE)


def of(error: RdeicError) -> Problem:
    """The problem that an exception of the package is for a client. Where the server is at fault, it is passed on."""
    if isinstance(error, TooLargeError):
        return Problem("too-many-pixels", str(error).partition("; ")[0])
    if isinstance(error, TransparencyError):
        return Problem(
            "transparent-picture", "has transparent pixels; say what lies behind them: background=white"
        )
    if isinstance(error, ModelMismatchError):
        return Problem("other-model", str(error).partition("; ")[0])
    for kind, name in _NAMES.items():
        if isinstance(error, kind):
            return Problem(name, str(error))
    raise error

"""What every request passes first, and what every answer carries.

A web page of another site can make a browser on this machine send requests to this server. Such requests are refused:
Host tells those that reach it under another name (DNS rebinding), Origin and Sec-Fetch-Site tell the rest. No answer
has a CORS header, so such a page can read none.
"""

from __future__ import annotations

import secrets
from collections.abc import Collection
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from rdeic.serve.metrics import Meters
from rdeic.serve.problems import Problem
from rdeic.serve.settings import Settings, is_local

_SELF = "'self'"
POLICY = "; ".join(
    (
        "default-src 'none'",
        *(f"{kind} {_SELF}" for kind in ("script-src", "style-src", "connect-src")),
        f"img-src {_SELF} blob:",
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
    )
)
_HEADERS = {
    "Content-Security-Policy": POLICY,
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}


class Guard:
    """ASGI middleware that checks host, origin and token of every request before anything else runs."""

    def __init__(self, app: ASGIApp, settings: Settings, public: Collection[str], meters: Meters) -> None:
        """`public` are the paths that need no token."""
        self._app, self._settings, self._public, self._meters = app, settings, frozenset(public), meters

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request, refused with a problem where host, origin or token are wrong; headers go into every answer."""
        if scope["type"] != "http":  # lifespan
            await self._app(scope, receive, send)
            return

        async def sending(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).update(_HEADERS)
                route = scope.get("route")
                self._meters.answered(getattr(route, "path", "other"), message["status"])
            await send(message)

        try:
            self._check(Headers(scope=scope), scope["path"])
        except Problem as problem:
            await problem.response()(scope, receive, sending)
        else:
            await self._app(scope, receive, sending)

    def _check(self, headers: Headers, path: str) -> None:
        host, origin = headers.get("host", ""), headers.get("origin")
        if self._settings.local and not is_local(_name(host)):
            raise Problem("misdirected", f"this server is for this machine only, not for host {host[:80]!r}")
        foreign = origin is not None and _authority(origin) != host.lower()
        if foreign or headers.get("sec-fetch-site", "none") in ("cross-site", "same-site"):
            raise Problem("foreign-origin", "the pages of other sites may not use this server")
        token = self._settings.token
        if token is not None and path not in self._public:
            scheme, _, given = headers.get("authorization", "").partition(" ")
            right = secrets.compare_digest(given.strip().encode(), token.encode())
            if scheme.lower() != "bearer" or not right:
                raise Problem(
                    "unauthorized",
                    "send the header Authorization: Bearer TOKEN, with the token that the server was started with",
                    headers={"WWW-Authenticate": "Bearer"},
                )


def _name(host: str) -> str:
    """Without the port."""
    name, colon, port = host.rpartition(":")
    return name if colon and port.isdecimal() else host


def _authority(origin: str) -> str:
    """Host and port of an origin; "" if it is none ("null")."""
    try:
        return urlsplit(origin).netloc.lower()
    except ValueError:
        return ""

"""The page. Its files are read once, when the server starts; nothing else of the disk can be asked for."""

from __future__ import annotations

import hashlib
from importlib import resources

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

_TYPES = {
    "html": "text/html; charset=utf-8",
    "css": "text/css; charset=utf-8",
    "js": "text/javascript; charset=utf-8",
    "svg": "image/svg+xml",
    "jpg": "image/jpeg",
}
_FOLDER = "assets"
_FIRST = "index.html"


def routes() -> list[Route]:
    """One for each file of the page; `/` is the page itself."""
    found = []
    for file in resources.files("rdeic.serve").joinpath(_FOLDER).iterdir():
        kind = _TYPES.get(file.name.rpartition(".")[2])
        if kind is not None:
            path = "/" if file.name == _FIRST else f"/{_FOLDER}/{file.name}"
            found.append(_route(path, file.read_bytes(), kind))
    return found


def _route(path: str, content: bytes, kind: str) -> Route:
    tag = f'"{hashlib.sha256(content).hexdigest()[:16]}"'
    headers = {"ETag": tag, "Cache-Control": "no-cache"}

    async def answer(request: Request) -> Response:
        if request.headers.get("if-none-match") == tag:
            return Response(status_code=304, headers=headers)
        return Response(content, media_type=kind, headers=headers)

    return Route(path, answer, methods=["GET"])

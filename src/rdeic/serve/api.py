"""The paths under /v1, /healthz and /metrics.

A request that takes computing time first gets a place, then sends its body, waits for its turn, and is computed in a
thread.
"""

from __future__ import annotations

import asyncio
import functools
import re
from collections.abc import Callable
from typing import Annotated, Any, NamedTuple, TypeVar

from fastapi import APIRouter, Depends, Query, Request, Response

import rdeic
from rdeic.codec.codec import Codec
from rdeic.serve import body, descriptions, jobs, negotiation, queries
from rdeic.serve import metrics as meters_
from rdeic.serve.desk import Desk, Ticket
from rdeic.serve.negotiation import RDEIC
from rdeic.serve.settings import Limits

T = TypeVar("T")
PICTURES = tuple(jobs.KINDS)
_NAME = re.compile(r"[\w-]{8,64}", re.ASCII)
_NO_STORE = {"Cache-Control": "no-store"}
_REQUEST_NAME = "request-name"


class Service(NamedTuple):
    """What all requests of one server share."""

    codec: Codec
    desk: Desk
    meters: meters_.Meters
    limits: Limits
    model: str


def _service(request: Request) -> Service:
    return request.app.state.service


Served = Annotated[Service, Depends(_service)]
router = APIRouter()


@router.post(
    "/v1/compress",
    summary="A picture to an .rdeic file",
    response_class=Response,
    responses=descriptions.answers((RDEIC,), descriptions.PICTURE_PROBLEMS, descriptions.SAID),
    openapi_extra=descriptions.body("image/*"),
)
async def compress(
    request: Request, service: Served, query: Annotated[queries.Compress, Query()]
) -> Response:
    """The body is a picture file: PNG, JPEG, WebP, TIFF and whatever else the server's Pillow reads."""
    negotiation.check_sent(request.headers.get("content-type"), "image/*")
    negotiation.choose(request.headers.get("accept"), (RDEIC,))
    wish = jobs.Wish(
        query.quality,
        query.bpp,
        query.max_bytes,
        query.seed,
        query.scale,
        query.metadata != "none",
        query.metadata == "location",
    )
    reading = jobs.Reading(service.limits.pixels, query.background)

    def work(data: bytes, ticket: Ticket) -> jobs.Compressed:
        return jobs.compress(service.codec, data, wish, reading, ticket)

    # A search for a size takes several times as long as a given quality.
    operation = "compress" if query.bpp is None and query.max_bytes is None else "fit"
    blob, info = await _computed(request, service, operation, work)
    headers = {
        "Rdeic-Bpp": f"{info.bpp:.5f}",
        "Rdeic-Quality": f"{info.quality:g}",
        "Rdeic-Size": f"{info.width}x{info.height}",
        "Rdeic-Stored-Size": f"{info.stored_width}x{info.stored_height}",
        "Content-Disposition": 'attachment; filename="picture.rdeic"',
    }
    return _file(service, blob, RDEIC, headers)


@router.post(
    "/v1/decompress",
    summary="An .rdeic file to a picture",
    response_class=Response,
    responses=descriptions.answers(PICTURES, descriptions.FILE_PROBLEMS),
    openapi_extra=descriptions.body(RDEIC),
)
async def decompress(
    request: Request, service: Served, query: Annotated[queries.Decompress, Query()]
) -> Response:
    """Accept chooses the picture's format; PNG if it says nothing."""
    negotiation.check_sent(request.headers.get("content-type"), RDEIC)
    kind = negotiation.choose(request.headers.get("accept"), PICTURES)
    restoring = jobs.Restoring(query.detail, query.steps, kind, service.limits.pixels)

    def work(data: bytes, ticket: Ticket) -> jobs.Restored:
        return jobs.decompress(service.codec, data, restoring, ticket)

    restored = await _computed(request, service, "decompress", work)
    return _file(service, restored.data, kind, _size(restored))


@router.post(
    "/v1/inspect",
    summary="What the header of an .rdeic file says",
    responses=descriptions.json_answer(descriptions.EXAMPLE_INFO, descriptions.FILE_PROBLEMS),
    openapi_extra=descriptions.body(RDEIC),
)
async def inspect(request: Request, service: Served) -> dict[str, Any]:
    """No model is needed for it."""
    negotiation.check_sent(request.headers.get("content-type"), RDEIC)
    negotiation.choose(request.headers.get("accept"), ("application/json",))
    with service.desk.place("inspect", ""):
        info = await asyncio.to_thread(rdeic.inspect, await body.read(request, service.limits))
    return {**info._asdict(), "metadata": info.metadata and info.metadata.as_dict(), "bpp": info.bpp}


@router.post(
    "/v1/compare",
    summary="A picture as AVIF, WebP or JPEG leaves it at a wanted size",
    response_class=Response,
    responses=descriptions.answers(
        PICTURES,
        descriptions.PICTURE_PROBLEMS,
        {
            "Rdeic-Bytes": "Of the file from which the picture was restored: the nearest to the wanted size.",
            "Rdeic-Downscale": "By how much its sides were divided before it was compressed.",
            "Rdeic-Setting": "The codec's quality, such as q3.",
        },
    ),
    openapi_extra=descriptions.body("image/*"),
)
async def compare(request: Request, service: Served, query: Annotated[queries.Compare, Query()]) -> Response:
    """The codec is tried at full size and smaller, as people do at such rates; its best result counts."""
    negotiation.check_sent(request.headers.get("content-type"), "image/*")
    kind = negotiation.choose(request.headers.get("accept"), PICTURES)
    reading = jobs.Reading(service.limits.pixels, query.background)

    def work(data: bytes, ticket: Ticket) -> jobs.Rival:
        return jobs.compare(data, query.codec, query.bytes, kind, reading, ticket)

    rival = await _computed(request, service, query.codec, work)
    headers = {
        "Rdeic-Bytes": str(rival.file_bytes),
        "Rdeic-Downscale": str(rival.downscale),
        "Rdeic-Setting": rival.setting,
    }
    return _file(service, rival.restored.data, kind, _size(rival.restored) | headers)


@router.post(
    "/v1/show",
    summary="A picture as it is before it is compressed",
    response_class=Response,
    responses=descriptions.answers(PICTURES, descriptions.PICTURE_PROBLEMS),
    openapi_extra=descriptions.body("image/*"),
)
async def show(request: Request, service: Served, query: Annotated[queries.Show, Query()]) -> Response:
    """Upright, sRGB, opaque; for browsers that cannot show the file itself, such as TIFF or HEIC."""
    negotiation.check_sent(request.headers.get("content-type"), "image/*")
    kind = negotiation.choose(request.headers.get("accept"), PICTURES)
    reading = jobs.Reading(service.limits.pixels, query.background)

    def work(data: bytes, ticket: Ticket) -> jobs.Restored:
        return jobs.show(data, kind, reading, ticket)

    shown = await _computed(request, service, "show", work)
    return _file(service, shown.data, kind, _size(shown))


@router.get(
    "/v1/progress/{name}",
    summary="How far a request is",
    responses=descriptions.json_answer(descriptions.EXAMPLE_PROGRESS, ()),
)
async def progress(name: str, service: Served) -> dict[str, Any]:
    """Of the request that was sent with the header Request-Name: NAME (8 to 64 letters, digits, - and _)."""
    ticket = service.desk.find(name) if _NAME.fullmatch(name) else None
    if ticket is None:
        return {"state": "unknown"}
    return {
        "state": "working" if ticket.began else "waiting",
        "ahead": service.desk.ahead(ticket),
        "seconds": round(ticket.seconds, 2),
        "expected_seconds": round(service.desk.pace.expected(ticket), 2),
    }


@router.get("/healthz", summary="Whether the server is ready")
async def health(service: Served) -> dict[str, str]:
    """It answers as soon as the model is loaded."""
    return {"status": "ok", "version": rdeic.__version__, "model": service.model}


@router.get(
    "/metrics",
    summary="Counters for Prometheus",
    response_class=Response,
    responses={200: {"description": "Counters.", "content": {"text/plain": {"schema": {"type": "string"}}}}},
)
async def metrics(service: Served) -> Response:
    """Nothing of it says anything about a picture."""
    return Response(service.meters.text(), media_type=meters_.MEDIA_TYPE, headers=_NO_STORE)


async def _computed(
    request: Request, service: Service, operation: str, work: Callable[[bytes, Ticket], T]
) -> T:
    body.check_length(request, service.limits)
    name = request.headers.get(_REQUEST_NAME, "")
    with service.desk.place(operation, name if _NAME.fullmatch(name) else "") as ticket:
        data = await body.read(request, service.limits)
        service.meters.received(len(data))
        return await service.desk.work(request, ticket, functools.partial(work, data, ticket))


def _file(service: Service, content: bytes, media_type: str, headers: dict[str, str]) -> Response:
    service.meters.sent(len(content))
    return Response(content, media_type=media_type, headers=headers | _NO_STORE)


def _size(restored: jobs.Restored) -> dict[str, str]:
    return {"Rdeic-Size": f"{restored.width}x{restored.height}", "Vary": "Accept"}

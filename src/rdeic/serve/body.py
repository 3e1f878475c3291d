"""The body of a request, with limits for its size in memory and for the time that it takes to come."""

from __future__ import annotations

import asyncio

from starlette.requests import ClientDisconnect, Request

from rdeic.serve.problems import Problem
from rdeic.serve.settings import Limits


async def read(request: Request, limits: Limits) -> bytes:
    """All of it. Raises a Problem if it is too large, which may be known before it comes, too slow, or empty."""
    check_length(request, limits)
    parts, size = list[bytes](), 0
    chunks = request.stream()
    try:
        async with asyncio.timeout(limits.body_seconds):
            while True:
                async with asyncio.timeout(limits.chunk_seconds):
                    part = await anext(chunks, None)
                if part is None:
                    break
                size += len(part)
                if size > limits.body_bytes:
                    raise _too_large(limits)
                parts.append(part)
    except TimeoutError as error:
        raise Problem(
            "slow-request",
            f"the next bytes must come within {limits.chunk_seconds:g} s, all within {limits.body_seconds:g} s",
            headers={"Connection": "close"},
        ) from error
    if not size:
        raise Problem("unsupported-media", "the body is empty: send the file itself as the body")
    return b"".join(parts)


def check_length(request: Request, limits: Limits) -> None:
    """Raises a Problem if the head announces too large a body."""
    announced = request.headers.get("content-length", "")
    if announced.isdecimal() and int(announced[:20]) > limits.body_bytes:
        raise _too_large(limits)


async def gone(request: Request) -> None:
    """Waits until the client hangs up. To be called after `read`."""
    try:
        while (await request.receive())["type"] != "http.disconnect":
            pass
    except ClientDisconnect:
        pass


def _too_large(limits: Limits) -> Problem:
    return Problem("too-many-bytes", f"the limit is {limits.body_bytes:,} bytes")

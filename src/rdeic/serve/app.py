"""The application: settings => ASGI."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import AsyncIterator

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.responses import Response
from starlette.types import ASGIApp

import rdeic
from rdeic.codec.codec import Codec
from rdeic.errors import RdeicError
from rdeic.serve import api, descriptions, interrupt, jobs, page, problems
from rdeic.serve.api import Service
from rdeic.serve.desk import ClientGoneError, Desk
from rdeic.serve.guard import Guard
from rdeic.serve.metrics import Meters
from rdeic.serve.problems import Problem
from rdeic.serve.settings import Settings

_CLIENT_CLOSED_REQUEST = 499  # nobody sees it but the counters
_HTTP = {404: "not-found", 405: "method-not-allowed"}
_log = logging.getLogger("rdeic.serve")


def create(settings: Settings, codec: Codec) -> ASGIApp:
    """An ASGI application around one codec, which it loads when it starts."""
    meters = Meters()

    @contextlib.asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        desk = Desk(settings.limits, meters, settings.threads)
        app.state.service = Service(codec, desk, meters, settings.limits, codec.config.name)
        with interrupt.between_layers():
            await desk.prepare(lambda: jobs.warm_up(codec))
            yield
            desk.close()

    app = FastAPI(
        title="rdeic",
        version=rdeic.__version__,
        summary=descriptions.TITLE,
        lifespan=lifespan,
        docs_url=None,  # its page would load programs from elsewhere
        redoc_url=None,
        redirect_slashes=False,
    )
    app.include_router(api.router)
    pages = page.routes()
    app.router.routes.extend(pages)
    app.add_exception_handler(Problem, _problem)
    app.add_exception_handler(ClientGoneError, _gone)
    app.add_exception_handler(ClientDisconnect, _gone)  # before all of the body was there
    app.add_exception_handler(RdeicError, _refused)
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_exception_handler(HTTPException, _http)
    app.add_exception_handler(Exception, _failed)
    return Guard(app, settings, {"/healthz", *(route.path for route in pages)}, meters)


async def _problem(_: Request, error: Exception) -> Response:
    assert isinstance(error, Problem)
    return error.response()


async def _gone(_: Request, __: Exception) -> Response:
    return Response(status_code=_CLIENT_CLOSED_REQUEST)


async def _refused(_: Request, error: Exception) -> Response:
    assert isinstance(error, RdeicError)
    return problems.of(error).response()


async def _invalid(_: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    said = "; ".join(
        f"{'.'.join(map(str, one['loc'][1:])) or 'query'}: {one['msg']}" for one in error.errors()
    )
    return Problem("bad-parameters", said[:1000]).response()


async def _http(_: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    name, headers = _HTTP.get(error.status_code, "bad-request"), dict(error.headers or {})
    return Problem(name, str(error.detail), headers=headers).response()


async def _failed(request: Request, error: Exception) -> Response:
    _log.error("%s %s", request.method, request.url.path, exc_info=error)
    return Problem("internal", "the server's log says more").response()

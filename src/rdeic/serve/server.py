"""Runs the application until SIGINT or SIGTERM; then it lets no request in and finishes those that it has."""

from __future__ import annotations

import contextlib
import logging
import signal
import socket
from collections.abc import Callable, Iterator

import uvicorn

from rdeic.codec import codec
from rdeic.errors import ConfigError
from rdeic.serve import app
from rdeic.serve.connections import impatient
from rdeic.serve.settings import Settings

_IDLE_SECONDS = 5  # between two requests of a connection
_BACKLOG = 256


def run(settings: Settings, ready: Callable[[str], None]) -> None:
    """Serves; `ready` hears the address when requests are answered.

    Raises ConfigError if the address cannot be had, CheckpointError for broken weights.
    """
    _log_to_stderr()
    coder = codec.load(settings.model, settings.device)
    with _listening(settings) as listener:
        port = listener.getsockname()[1]
        host = f"[{settings.host}]" if ":" in settings.host else settings.host
        config = uvicorn.Config(
            app.create(settings, coder),
            http=impatient(settings.limits),  # type: ignore[arg-type]
            ws="none",
            lifespan="on",
            access_log=False,
            log_config=None,
            log_level="error",
            server_header=False,
            timeout_keep_alive=_IDLE_SECONDS,
        )
        server = _Server(config, lambda: ready(f"http://{host}:{port}/"))
        server.run(sockets=[listener])


class _Server(uvicorn.Server):
    def __init__(self, config: uvicorn.Config, ready: Callable[[], None]) -> None:
        super().__init__(config)
        self._ready = ready

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self._ready()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """As uvicorn's, but without the signal once more at the end: to be told to stop is no failure."""
        before = {
            number: signal.signal(number, self.handle_exit) for number in (signal.SIGINT, signal.SIGTERM)
        }
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)


def _log_to_stderr() -> None:
    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter("%(asctime)s %(message)s"))
    for name in ("rdeic.serve", "uvicorn.error"):
        logging.getLogger(name).addHandler(handler)


def _listening(settings: Settings) -> socket.socket:
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    try:
        return socket.create_server((settings.host, settings.port), family=family, backlog=_BACKLOG)
    except (OSError, OverflowError) as error:
        said = getattr(error, "strerror", None) or str(error)
        raise ConfigError(
            f"{settings.host} port {settings.port}: {said}; choose another with --port"
        ) from error

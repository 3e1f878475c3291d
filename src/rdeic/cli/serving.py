"""`rdeic serve`."""

from __future__ import annotations

import dataclasses
import os
import secrets
from typing import NamedTuple

from rdeic.cli.console import tell
from rdeic.errors import ConfigError

TOKEN_VARIABLE = "RDEIC_TOKEN"


class ServeOptions(NamedTuple):
    """The options of `rdeic serve`."""

    host: str
    port: int
    token: str | None
    model: str
    device: str | None
    threads: int | None
    jobs: int
    waiting: int
    max_bytes: int
    max_pixels: int
    seconds: float


def serve(options: ServeOptions) -> None:
    """Serves until it is told to stop. Raises ConfigError, also if the extra is missing, and CheckpointError."""
    try:
        from rdeic.serve import server, settings
    except ModuleNotFoundError as error:
        raise ConfigError(f"{error}; pip install 'rdeic[serve]'") from error

    token = options.token or os.environ.get(TOKEN_VARIABLE)
    if token is None and not settings.is_local(options.host):
        token = secrets.token_urlsafe(24)
        tell(f"token, made for this run; set {TOKEN_VARIABLE} to keep one: {token}")
    limits = dataclasses.replace(
        settings.Limits(),
        body_bytes=options.max_bytes,
        pixels=options.max_pixels,
        working=options.jobs,
        waiting=options.waiting,
        work_seconds=options.seconds,
    )
    chosen = settings.Settings(
        options.host, options.port, token, options.model, options.device, options.threads, limits
    )
    fragment = "" if token is None else "#token=TOKEN"
    server.run(chosen, lambda address: tell(f"serving on {address}{fragment}; Ctrl-C stops it"))

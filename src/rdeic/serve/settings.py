"""The settings of a server, and the limits that it sets its clients."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass

from rdeic.errors import ConfigError

DEFAULT_HOST = "127.0.0.1"
DEFAULT_PORT = 7334  # "rdei" on the keys of a telephone


@dataclass(frozen=True)
class Limits:
    """What one request, and all of them together, may cost."""

    body_bytes: int = 64_000_000
    pixels: int = 50_000_000
    working: int = 1  # requests that are computed at the same time
    waiting: int = 16  # requests that wait for their turn; their bodies are in memory
    wait_seconds: float = 60.0  # for a turn
    work_seconds: float = 300.0
    head_seconds: float = 10.0  # until a request's head is there
    chunk_seconds: float = (
        10.0  # until the next bytes of a body come, and until the client takes some of an answer
    )
    body_seconds: float = 120.0  # for the whole body


@dataclass(frozen=True)
class Settings:
    """One server. Raises ConfigError if it would be open to a network without a token."""

    host: str = DEFAULT_HOST
    port: int = DEFAULT_PORT  # 0: any that is free
    token: str | None = None  # that requests must bring; None: on this machine only
    model: str = "mini"
    device: str | None = None
    threads: int | None = None  # of torch for each request that is computed; None: the processor's, shared
    limits: Limits = Limits()

    def __post_init__(self) -> None:
        if self.token is None and not self.local:
            raise ConfigError(f"host {self.host} is open to others: set a token")
        if self.token is not None and not (
            self.token.isascii() and self.token.isprintable() and self.token.strip()
        ):
            raise ConfigError("a token consists of printable ASCII characters")

    @property
    def local(self) -> bool:
        """Whether the server can be reached from this machine only."""
        return is_local(self.host)


def is_local(host: str) -> bool:
    """Whether the name or address means the machine itself, whatever a name server says."""
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host.lower() == "localhost"

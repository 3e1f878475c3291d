"""Clients that hold a connection and do nothing with it (slowloris) lose it.

uvicorn closes connections that are idle between requests. It waits for ever for the rest of a head, for the rest of a
body that nobody reads any more, and for a client to take an answer. Where a body turns out not to be HTTP, it answers
400 and lets the application answer too, which fails.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

from rdeic.serve.settings import Limits


def impatient(limits: Limits) -> Callable[..., asyncio.Protocol]:
    """The protocol class for uvicorn."""
    return type("Impatient", (_Impatient,), {"limits": limits})


class _Impatient(H11Protocol):
    limits: Limits
    _due: asyncio.TimerHandle | None = None  # runs while there is no request
    _watch: asyncio.TimerHandle | None = None
    _unsent = 0  # bytes that wait for the client

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        self._due = self.loop.call_later(self.limits.head_seconds, self._give_up)
        self._watch = self.loop.call_later(self.limits.chunk_seconds, self._look)

    def data_received(self, data: bytes) -> None:
        if self._due is None and self._is_idle():
            self._due = self.loop.call_later(self.limits.head_seconds, self._give_up)
        super().data_received(data)
        if not self._is_idle():
            self._forget("_due")

    def send_400_response(self, msg: str) -> None:
        """Ends a connection that does not speak HTTP, and the request that came over it."""
        may_answer = self.conn.our_state in (h11.IDLE, h11.SEND_RESPONSE)
        if self.cycle is not None:
            self.cycle.disconnected = True
            self.cycle.message_event.set()
        if may_answer:
            super().send_400_response(msg)
        else:
            self.transport.close()

    def connection_lost(self, exc: Exception | None) -> None:
        self._forget("_due")
        self._forget("_watch")
        super().connection_lost(exc)

    def _is_idle(self) -> bool:
        return self.cycle is None or self.cycle.response_complete

    def _give_up(self) -> None:
        self._due = None
        if self._is_idle():
            self.transport.abort()

    def _look(self) -> None:
        """Ends the connection if the client has taken nothing since the last look."""
        unsent = self.transport.get_write_buffer_size()
        if unsent and unsent == self._unsent:
            self.transport.abort()
            return
        self._unsent = unsent
        self._watch = self.loop.call_later(self.limits.chunk_seconds, self._look)

    def _forget(self, name: str) -> None:
        timer: asyncio.TimerHandle | None = getattr(self, name)
        if timer is not None:
            timer.cancel()
            setattr(self, name, None)

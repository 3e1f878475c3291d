"""The time of one call on a borrowed machine."""

from __future__ import annotations

import time

SPARE = 20.0  # seconds to end a step, save and deliver before a call is over


class OutOfTimeError(Exception):
    """The call is over, the agenda is not."""


class Clock:
    """What is left of a call, or of a part of it."""

    def __init__(self, seconds: float, spare: float = SPARE) -> None:
        self._end = time.monotonic() + seconds - spare

    @property
    def left(self) -> float:
        return self._end - time.monotonic()

    def require(self, seconds: float) -> None:
        """Raises OutOfTimeError unless so much is left."""
        if self.left < seconds:
            raise OutOfTimeError

"""Ends work that nobody wants any more before it is finished.

A network cannot be interrupted, but its layers are computed one after the other: before each, the thread that computes
asks whether it should go on. That costs a microsecond a layer.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator
from typing import Any

_thread = threading.local()


class UnwantedError(Exception):
    """The work is not wanted any more, because its client is gone."""


def check() -> None:
    """Raises what the check of this thread's work raises, if it has one."""
    look: Callable[[], None] | None = getattr(_thread, "look", None)
    if look is not None:
        look()


@contextlib.contextmanager
def watched(look: Callable[[], None]) -> Iterator[None]:
    """Inside, `look` is called again and again in this thread; what it raises ends the work."""
    _thread.look = look
    try:
        yield
    finally:
        _thread.look = None


@contextlib.contextmanager
def between_layers() -> Iterator[None]:
    """While inside, all networks of this process ask before each of their layers, in whichever thread."""
    from torch.nn.modules.module import register_module_forward_pre_hook

    def before(*_: Any) -> None:
        check()

    handle = register_module_forward_pre_hook(before)
    try:
        yield
    finally:
        handle.remove()

"""Coding in processes that fork. No torch.

A forked child has only the thread that forked. Torch's worker threads are gone, and its first parallel sum would wait
for them for ever; a lock that another thread held stays locked. Therefore a fork waits for the pictures that other
threads are coding, new ones wait for the fork, and what is forked computes in one thread.
"""

from __future__ import annotations

import contextlib
import os
import sys
import threading
from collections.abc import Iterator

from rdeic.errors import ConfigError


class _Gate:
    """Many may code, or one may fork."""

    def __init__(self) -> None:
        self.changed = threading.Condition(threading.Lock())
        self.coding: dict[int, int] = {}  # by thread: how deep
        self.forking = False

    def enter(self) -> None:
        me = threading.get_ident()
        with self.changed:
            self.changed.wait_for(lambda: me in self.coding or not self.forking)
            self.coding[me] = self.coding.get(me, 0) + 1

    def leave(self) -> None:
        me = threading.get_ident()
        with self.changed:
            self.coding[me] -= 1
            if not self.coding[me]:
                del self.coding[me]
                self.changed.notify_all()

    def close(self) -> None:
        me = threading.get_ident()
        with self.changed:
            self.changed.wait_for(lambda: not self.forking)
            self.forking = True
            self.changed.wait_for(lambda: not self.coding.keys() - {me})

    def open(self) -> None:
        with self.changed:
            self.forking = False
            self.changed.notify_all()


class _Process:
    """What this process must know of itself."""

    def __init__(self) -> None:
        self.gate = _Gate()
        self.coded = False  # here or in an ancestor, before the fork
        self.forked_with_torch = False
        self.uses_gpus = False  # at the fork that is under way
        self.lost_gpus = False  # an ancestor used GPUs; torch cannot do so again

    def before(self) -> None:
        self.gate.close()
        self.uses_gpus = _gpus_in_use()

    def after_in_parent(self) -> None:
        self.gate.open()

    def after_in_child(self) -> None:
        self.lost_gpus = self.lost_gpus or self.uses_gpus
        inside = self.gate.coding.get(threading.get_ident())
        self.gate = _Gate()  # of the old one's waiting threads none is left
        if inside:
            self.gate.coding[threading.get_ident()] = inside
        if "torch" in sys.modules:
            self.forked_with_torch = True
            if self.coded:
                _one_thread()


_process = _Process()


@contextlib.contextmanager
def coding() -> Iterator[None]:
    """While torch works, in this thread. May be nested."""
    gate = _process.gate
    gate.enter()
    try:
        _process.coded = True
        if _process.forked_with_torch:
            _one_thread()
        yield
    finally:
        _process.gate.leave()


def check_device(kind: str) -> None:
    """Raises ConfigError for a kind of device ("cuda") that this process lost when it was forked."""
    if kind != "cpu" and _process.lost_gpus:
        raise ConfigError(
            f"this process was forked from one that used the GPU, so it cannot use {kind}; "
            'start it with multiprocessing.get_context("spawn"), or pass device="cpu"'
        )


def _one_thread() -> None:
    import torch

    if torch.get_num_threads() > 1:  # torch keeps that for each thread
        torch.set_num_threads(1)


def _gpus_in_use() -> bool:
    torch = sys.modules.get("torch")
    return torch is not None and bool(torch.cuda.is_initialized())


if hasattr(os, "register_at_fork"):  # not on Windows
    os.register_at_fork(
        before=_process.before,
        after_in_parent=_process.after_in_parent,
        after_in_child=_process.after_in_child,
    )

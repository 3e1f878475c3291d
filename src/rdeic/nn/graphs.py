"""CUDA graphs: a network's launches, recorded once for a shape and sent as one from then on.

At small sizes a GPU waits for Python: a denoising step of `sd21` is more than a thousand launches. Recording one costs
a few runs, so it waits for the second picture of a shape, unless told otherwise, and only so many graphs are kept.

    run = cache.visit("step", z.shape, ...)     once a picture
    eps = run(work, z, t, guide)                as often as needed; `work` itself, or its graph
"""

from __future__ import annotations

import contextlib
import itertools
import threading
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

Work = Callable[..., Any]  # of tensors alone, to one or a tuple of them; does the same for equal keys
Capture = Callable[[Work, tuple[Tensor, ...]], Work]  # -> what does the same as the work, for such inputs
Runner = Callable[..., Any]  # (work, *inputs) -> the work's result

MOST_GRAPHS = 128  # sd21 takes 2 to encode and 24 to decode a size of pictures
_KEYS_PER_GRAPH = 4  # remembered
_TOLERANCE = 0.02  # between kernels that a library chooses for a graph and without
_WARM_UPS = 2  # libraries choose and allocate in the first runs, which a graph must not contain


def eager(work: Work, *inputs: Tensor) -> Any:
    """A Runner that runs the work itself, without a graph."""
    return work(*inputs)


@dataclass(eq=False)
class _Entry:
    last: int = -1  # number of the latest visit, and of the one before; -1: none
    previous: int = -1
    graph: Work | None = None
    refused: bool = False  # could not be captured


class GraphCache:
    """What is captured when, and what makes room for it. Threads may share it: one replays at a time.

    A full cache gives up the graph visited longest ago, but only for one that was visited twice since: shapes that
    take turns and are too many would otherwise be captured over and over. A graph is used only if it finds what the
    work itself finds.
    """

    def __init__(self, capture: Capture, at_once: bool = False, most: int = MOST_GRAPHS) -> None:
        """`at_once`: at the first visit of a key, while there is room, instead of at the second."""
        self._capture, self._at_once, self._most = capture, at_once, most
        self._entries: dict[Hashable, _Entry] = {}
        self._visits = itertools.count()
        self._lock = threading.Lock()

    def visit(self, *key: Hashable) -> Runner:
        """The key must tell all that the work depends on beside the values of its inputs, their shapes included."""
        with self._lock:
            entry = self._entries.setdefault(key, _Entry())
            entry.previous, entry.last = entry.last, next(self._visits)
            wanted = not entry.refused and (
                entry.graph is not None or ((self._at_once or entry.previous >= 0) and self._has_room(entry))
            )
            self._forget_keys()

        def run(work: Work, *inputs: Tensor) -> Any:
            if wanted:
                with contextlib.suppress(torch.OutOfMemoryError), self._lock:
                    if (graph := self._graph(entry, work, inputs)) is not None:
                        return graph(*inputs)
            return self._eagerly(work, inputs)

        return run

    def clear(self) -> bool:
        """Forget all graphs, because weights change or memory is short -> whether there were any."""
        with self._lock:
            held = self._graphed()
            for entry in self._entries.values():
                entry.graph, entry.refused = None, True  # for visits that go on
            self._entries.clear()
        return bool(held)

    def _graph(self, entry: _Entry, work: Work, inputs: tuple[Tensor, ...]) -> Work | None:
        if entry.graph is None and not entry.refused:
            if len(held := self._graphed()) >= self._most:
                min(held, key=lambda one: one.last).graph = None
            try:
                graph = self._capture(work, inputs)
                entry.graph = graph if _agree(graph(*inputs), work(*inputs)) else None
            except RuntimeError:  # out of memory, or a library that cannot be captured: it works without
                pass
            entry.refused = entry.graph is None
        return entry.graph

    def _has_room(self, entry: _Entry) -> bool:
        held = self._graphed()
        return len(held) < self._most or min(one.last for one in held) < entry.previous

    def _graphed(self) -> list[_Entry]:
        return [entry for entry in self._entries.values() if entry.graph is not None]

    def _forget_keys(self) -> None:
        if len(self._entries) > _KEYS_PER_GRAPH * self._most:
            plain = [key for key, entry in self._entries.items() if entry.graph is None]
            del self._entries[min(plain, key=lambda key: self._entries[key].last)]

    def _eagerly(self, work: Work, inputs: tuple[Tensor, ...]) -> Any:
        try:
            return work(*inputs)
        except torch.OutOfMemoryError:
            if not self.clear():
                raise
        torch.cuda.empty_cache()
        return work(*inputs)


class CudaGraphs:
    """The Capture of one GPU.

    All graphs share one pool of memory, so that together they take what the largest takes: between its inputs' copies
    and its output's, each has the pool to itself.
    """

    def __init__(self) -> None:
        self._pool = torch.cuda.graph_pool_handle()
        self._done = torch.cuda.Event()

    def __call__(self, work: Work, inputs: tuple[Tensor, ...]) -> Work:
        """Records `work` on inputs of these shapes -> what replays it. Raises RuntimeError if it cannot be recorded."""
        # Not the values of `inputs`: if any of them went into the graph, its trial with them would not tell.
        own = tuple(torch.zeros_like(x) for x in inputs)
        device = inputs[0].device
        with torch.cuda.device(device):
            stream, here = torch.cuda.Stream(device), torch.cuda.current_stream(device)
            stream.wait_stream(here)
            with torch.cuda.stream(stream):
                for _ in range(_WARM_UPS):
                    work(*own)
            stream.synchronize()
            graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(graph, self._pool, stream, capture_error_mode="thread_local"):
                output = work(*own)

        def replay(*given: Tensor) -> Any:
            current = torch.cuda.current_stream(device)
            current.wait_event(self._done)  # of another thread's replay, on a stream of its own
            for mine, value in zip(own, given, strict=True):
                mine.copy_(value)
            graph.replay()
            result = cloned(output)
            self._done.record(current)
            return result

        replay.work = work  # type: ignore[attr-defined]  # what it refers to must stay where it is
        return replay


def cloned(result: Any) -> Any:
    """A copy of a work's result, which the next replay overwrites."""
    return result.clone() if isinstance(result, Tensor) else tuple(x.clone() for x in result)


def _agree(found: Any, wanted: Any) -> bool:
    """Whether two results are equal: to the bit where they are exact, integers and float64; nearly otherwise."""
    if not isinstance(wanted, Tensor):
        return all(_agree(one, other) for one, other in zip(found, wanted, strict=True))
    if wanted.dtype == torch.float64 or not wanted.is_floating_point():
        return torch.equal(found, wanted)
    found, wanted = found.float(), wanted.float()
    return bool((found - wanted).norm() <= _TOLERANCE * wanted.norm())  # not so if there is a NaN

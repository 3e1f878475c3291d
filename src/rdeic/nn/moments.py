"""Group norms with the statistics of a sample of the whole picture, instead of those of the activations at hand.

A picture that runs in tiles would be normalised by the statistics of each tile, and look different in each. So a sample
of windows runs first, as one batch, and each norm takes its statistics over all of it. All tiles then use these.

    with recorded(margin) as moments:    windows, a batch
        network(windows)
    with given(moments):                 a tile; as often as needed
        network(tile)

Both apply to the calling thread only.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from contextvars import ContextVar
from typing import NamedTuple

import torch
from torch import Tensor


class Moments(NamedTuple):
    """Mean and variance of one norm's input in each of its groups, (groups,) float32."""

    mean: Tensor
    variance: Tensor


Source = Callable[[Tensor, int], Moments]  # x (B, C, H, W), groups

current: ContextVar[Source | None] = ContextVar("moments", default=None)


@contextlib.contextmanager
def recorded(margin: float) -> Iterator[list[Moments]]:
    """Norms in the `with` block take their statistics over the whole batch, and add them to the list as they run.

    A `margin` at each border, a share of the side, does not count: what lies there sees the window's end.
    """
    found: list[Moments] = []

    def count(x: Tensor, groups: int) -> Moments:
        rows, columns = (round(side * margin) for side in x.shape[2:])
        inner = x[:, :, rows : x.shape[2] - rows, columns : x.shape[3] - columns]
        each = [  # one after the other: in float32 they take twice the memory of half precision
            torch.var_mean(one.float().unflatten(0, (groups, -1)), dim=(1, 2, 3), correction=0)
            for one in inner
        ]
        variances, means = (torch.stack(parts) for parts in zip(*each, strict=True))
        found.append(Moments(means.mean(0), variances.mean(0) + means.var(0, correction=0)))
        return found[-1]

    with _set(count):
        yield found


@contextlib.contextmanager
def given(moments: Sequence[Moments]) -> Iterator[None]:
    """In the `with` block each norm takes the next of `moments` instead of its input's own."""
    left = iter(moments)
    with _set(lambda x, groups: next(left)):
        yield


@contextlib.contextmanager
def _set(source: Source) -> Iterator[None]:
    token = current.set(source)
    try:
        yield
    finally:
        current.reset(token)

"""Copies between the host and a device that wait no longer than they must."""

from __future__ import annotations

from typing import Any

import torch
from numpy.typing import NDArray
from torch import Tensor


def to_host(x: Tensor) -> NDArray[Any]:
    """The values of x; waits once, until they are there. Shares memory with x on the CPU."""
    if x.device.type != "cuda":
        return x.cpu().numpy()
    pinned = torch.empty(x.shape, dtype=x.dtype, pin_memory=True)
    pinned.copy_(x, non_blocking=True)
    torch.cuda.current_stream(x.device).synchronize()
    return pinned.numpy()


def to_device(values: NDArray[Any], like: Tensor) -> Tensor:
    """`values` where `like` lives and in its precision; a GPU is not waited for."""
    host = torch.from_numpy(values)
    if like.device.type != "cuda":
        return host.to(like)
    # Pinned memory comes from torch's pool, which hands it out again when the copy is over.
    return host.pin_memory().to(like.device, non_blocking=True).to(like.dtype)

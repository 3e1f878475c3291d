"""Running out of memory as an error of one line, and how much memory was used."""

from __future__ import annotations

import resource
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from rdeic.errors import TrainingError
from rdeic.system.memory import exhausted


@contextmanager
def named_when_exhausted() -> Iterator[None]:
    """Raises TrainingError with the remedy where an allocation fails inside the `with` block."""
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        if not exhausted(error):
            raise
        raise TrainingError(
            "out of memory; raise `accumulate` or set checkpoint_activations = true, which change no result, or lower "
            '`crop`, `batch` or `cache_mb`, or set precision = "bf16"'
        ) from error


def peak(device: torch.device) -> int:
    """Bytes used at most so far: of the device on CUDA, by this process on the CPU."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    used = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return used if sys.platform == "darwin" else used * 1024

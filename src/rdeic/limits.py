"""What a picture may cost: no file can claim more memory or time than these limits allow."""

from __future__ import annotations

import os
import re
from pathlib import Path

from rdeic.config import ModelConfig
from rdeic.errors import FileFormatError, ImageError

MAX_FILE_STEPS = 50  # denoising steps that a file may ask for by itself
_LIVE = 4  # tensors of D's finest level that exist at the same time, at the least
_FLOAT_BYTES = 4
# torch has an error class of its own for few allocators; the others raise RuntimeError like anything else.
_EXHAUSTED = re.compile("DefaultCPUAllocator|out of memory|ALLOC_FAILED")
_MEMINFO, _AVAILABLE = Path("/proc/meminfo"), re.compile(r"^MemAvailable:\s*(\d+) kB$", re.MULTILINE)
_CGROUP_LIMIT = Path("/sys/fs/cgroup/memory.max")


def check_steps(wanted: int, config: ModelConfig) -> None:
    """Raises FileFormatError if a file that asks for `wanted` denoising steps must not have them."""
    most = min(config.diffusion.relay_start, max(MAX_FILE_STEPS, config.diffusion.default_steps))
    if wanted > most:
        raise FileFormatError(
            f"the file asks for {wanted} denoising steps, at most {most} are plausible; choose with --steps"
        )


def check_memory(width: int, height: int, config: ModelConfig) -> None:
    """Raises ImageError if this machine cannot hold what a picture of this size takes at the very least.

    E's finest level is as wide as D's, so that holds for compressing as for restoring.

    Linux would kill the process instead of refusing it the memory.
    """
    needed, there = _least_bytes(width, height, config), _physical_bytes()
    if there is not None and needed > there:
        raise ImageError(
            f"a picture of {width}x{height} takes at least {needed / 1e9:.1f} GB of memory, this machine has "
            f"{there / 1e9:.1f} GB; scale it down, cut it up, or use a larger machine"
        )


def exhausted(error: Exception) -> bool:
    """Whether `error` says that the memory of the machine or of a device has run out."""
    return isinstance(error, MemoryError) or bool(_EXHAUSTED.search(str(error)))


def _least_bytes(width: int, height: int, config: ModelConfig) -> int:
    return width * height * config.autoencoder.values_per_pixel * _FLOAT_BYTES * _LIVE


def likely_bytes(width: int, height: int, config: ModelConfig) -> int:
    """What coding a picture of this size takes on this machine, about: half as much again as the least."""
    return _least_bytes(width, height, config) * 3 // 2


def free_bytes() -> int | None:
    """What this machine, or the container, has left; half of all where it tells no more, None where not even that."""
    there = _physical_bytes()
    if there is None:
        return None
    try:
        found = _AVAILABLE.search(_MEMINFO.read_text(encoding="ascii"))
    except OSError:
        found = None
    return min(int(found[1]) * 1024, there) if found else there // 2


def _physical_bytes() -> int | None:
    try:
        there = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, OSError, ValueError):  # Windows
        return None
    try:
        return min(there, int(_CGROUP_LIMIT.read_text(encoding="ascii")))
    except (OSError, ValueError):  # not in a container, or in one without a limit ("max")
        return there

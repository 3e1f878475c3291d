"""How much memory there is: of the machine, of this process's control group, and of the process itself."""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path

_MEMINFO, _STATM = Path("/proc/meminfo"), Path("/proc/self/statm")
_GROUPS = (  # limit, usage, and where in `memory.stat` is what the system would give back
    (Path("/sys/fs/cgroup"), "memory.max", "memory.current", "inactive_file"),
    (Path("/sys/fs/cgroup/memory"), "memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
)
# torch has an error class of its own for few allocators; the others raise RuntimeError like anything else.
_EXHAUSTED = re.compile("DefaultCPUAllocator|out of memory|ALLOC_FAILED")


def room(most: int | None) -> int | None:
    """Bytes that the process may take in addition: what is free, and with `most` no more than it lets it have in all.

    None: nobody knows what is free, and there is no `most`.
    """
    rooms = [free()] if most is None else [free(), max(0, most - resident())]
    return min((one for one in rooms if one is not None), default=None)


def free() -> int | None:
    """Bytes that processes can have without others being paged out or killed; None where the system does not say.

    That of the machine or of the control group, whichever is less. Outside of Linux all that the machine has.
    """
    free_ones = [_available(), *(_left_to_group(*group) for group in _GROUPS)]
    return min((one for one in free_ones if one is not None), default=None)


def resident() -> int:
    """Bytes of memory that this process occupies; 0 where the system does not say."""
    try:
        return int(_STATM.read_text(encoding="ascii").split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, ValueError, IndexError, AttributeError):
        return 0


def give_back() -> None:
    """Returns to the system what the C library keeps of the memory that was freed, where it can be told to (glibc).

    For between two stages that need much: the second finds no use for pieces as small as those of the first.
    """
    import ctypes

    if sys.platform == "linux" and (trim := getattr(ctypes.CDLL(None), "malloc_trim", None)):
        trim(0)


def _available() -> int | None:
    try:
        return _field(_MEMINFO, "MemAvailable:") * 1024
    except (OSError, ValueError):
        pass
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, OSError, ValueError):  # Windows
        return None


def _left_to_group(folder: Path, limit: str, usage: str, given_back: str) -> int | None:
    try:
        most, used = (int((folder / name).read_text(encoding="ascii")) for name in (limit, usage))
        return max(0, most - used + _field(folder / "memory.stat", given_back))
    except (OSError, ValueError):  # no such group, or no limit ("max")
        return None


def _field(path: Path, name: str) -> int:
    """Raises ValueError if it is not there."""
    for line in path.read_text(encoding="ascii").splitlines():
        if line.startswith(f"{name} "):
            return int(line.split()[1])
    raise ValueError(name)


def exhausted(error: Exception) -> bool:
    """Whether `error` says that the memory of the machine or of a device has run out."""
    return isinstance(error, MemoryError) or bool(_EXHAUSTED.search(str(error)))

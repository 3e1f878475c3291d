"""What a process costs from its start to its end: the clock's seconds, the processor's, and its peak of memory."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping
from typing import NamedTuple

# A process's peak memory begins with that of the one that started it, so a small one must do that, not the benchmark.
LAUNCHER = """
import os, sys, time
silent = [(os.POSIX_SPAWN_OPEN, 1, os.devnull, os.O_WRONLY, 0)]
start = time.perf_counter()
child = os.posix_spawn(sys.executable, [sys.executable, *sys.argv[1:]], os.environ, file_actions=silent)
_, status, usage = os.wait4(child, 0)
print(time.perf_counter() - start, usage.ru_utime + usage.ru_stime, usage.ru_maxrss)
sys.exit(os.waitstatus_to_exitcode(status))
"""
MAXRSS_UNIT = 1 if sys.platform == "darwin" else 1024  # bytes


class Cost(NamedTuple):
    seconds: float
    cpu_seconds: float
    peak_bytes: float


def cost(arguments: list[str], environment: Mapping[str, str] | None = None) -> Cost:
    """Of a new Python interpreter with these arguments; `environment` is added to this one's.

    Raises subprocess.CalledProcessError if it fails; what it says on stderr is seen.
    """
    launcher = [sys.executable, "-c", LAUNCHER, *arguments]
    line = subprocess.check_output(launcher, env=os.environ | (environment or {}))
    seconds, cpu_seconds, peak = map(float, line.split())
    return Cost(seconds, cpu_seconds, peak * MAXRSS_UNIT)

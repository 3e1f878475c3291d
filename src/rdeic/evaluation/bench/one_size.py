"""One direction of one size, in a process that does nothing else, so that its peak of memory is that size's.

    python -m rdeic.evaluation.bench.one_size JSON

`sizes.py` starts it with a Task, and reads a Found from its stdout.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import torch

from rdeic.errors import RdeicError
from rdeic.evaluation.bench import times
from rdeic.evaluation.bench.subject import Subject

_STATUS = Path("/proc/self/status")
_SMALL = 64  # pixels: a side of the picture that loads the model
_WARM_AFTER = 5.0  # seconds: in a first run this long, what it sets up takes nothing beside it


class Task(NamedTuple):
    """What to measure."""

    compress: bool  # and write the file; or restore what is in it
    model: str
    device: str | None
    width: int
    height: int
    quality: float
    runs: int
    file: str  # name of the .rdeic file


class Found(NamedTuple):
    """What was measured."""

    seconds: list[float]  # of each run
    peak_bytes: (
        int  # of the process: Python, torch and the model with it; of the GPU where the networks run on one
    )


def measure(task: Task) -> Found:
    """Times one direction on a picture of the task's size. Raises what the codec raises."""
    subject, place = Subject(task.model, task.device), Path(task.file)
    subject.make(times.texture(_SMALL, _SMALL), task.quality)
    if task.compress:
        picture = times.texture(task.width, task.height)
        return _timed(subject, task.runs, lambda: place.write_bytes(subject.make(picture, task.quality)))
    blob = place.read_bytes()
    return _timed(subject, task.runs, lambda: subject.decompress(blob))


def _timed(subject: Subject, runs: int, work: Callable[[], object]) -> Found:
    def once() -> float:
        start = times.now(subject.device)
        work()
        return times.now(subject.device) - start

    first = once()
    seconds = [first] if first > _WARM_AFTER else [once() for _ in range(runs)]
    return Found(seconds, _peak_bytes(subject.device))


def _peak_bytes(device: torch.device) -> int:
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    try:
        lines = _STATUS.read_text(encoding="ascii").splitlines()
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM:"))
    except (OSError, StopIteration):
        return _peak_elsewhere()


def _peak_elsewhere() -> int:
    """Where there is no /proc; 0 on Windows, which tells it in a way of its own."""
    try:
        import resource
    except ImportError:
        return 0
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


if __name__ == "__main__":
    try:
        print(json.dumps(measure(Task(**json.loads(sys.argv[1])))._asdict()))
    except RdeicError as error:
        sys.exit(str(error))

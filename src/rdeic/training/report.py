"""What a run reports: a progress bar on a terminal, plain lines elsewhere, scalars for TensorBoard if it is there."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rdeic.system.text import harmless

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

Scalars = Sequence[tuple[str, float]]


class Report:
    """Speaks on stderr, where it is to speak at all."""

    def __init__(self, out: Path, first: int, steps: int, speaks: bool) -> None:
        self._steps, self._speaks = steps, speaks
        self._width = len(str(steps))
        self._mark = (time.perf_counter(), first)
        self._bar: Progress | None = None
        self._task: TaskID | None = None
        if speaks and sys.stderr.isatty():
            from rich.console import Console
            from rich.progress import Progress

            self._bar = Progress(console=Console(stderr=True))
            self._task = self._bar.add_task("training", total=steps, completed=first)
            self._bar.start()
        self._writer = _tensorboard(out / "tensorboard") if speaks else None

    def log(self, step: int, scalars: Scalars, most: float) -> None:
        """Training scalars after `step` steps, with the speed since the last call; `most` seconds are left."""
        now = time.perf_counter()
        seconds = (now - self._mark[0]) / max(step - self._mark[1], 1)
        self._mark = (now, step)
        left = _duration(min(seconds * (self._steps - step), max(most, 0.0)))
        self.say(f"{self._at(step)}  {_text(scalars)}  {seconds:.3f} s/step  {left} left")
        self._scalars("train", step, scalars)
        if self._bar is not None and self._task is not None:
            self._bar.update(self._task, completed=step)

    def validation(self, step: int, scalars: Scalars) -> None:
        """Held-out metrics after `step` steps."""
        self.say(f"{self._at(step)}  held out: {_text(scalars)}")
        self._scalars("validation", step, scalars)

    def say(self, line: str) -> None:
        """Prints one line, above the progress bar where there is one."""
        if self._bar is not None:
            self._bar.console.print(harmless(line), highlight=False, markup=False)
        elif self._speaks:
            print(harmless(line), file=sys.stderr, flush=True)

    def close(self) -> None:
        """Removes the progress bar and closes the TensorBoard log."""
        if self._bar is not None:
            self._bar.stop()
        if self._writer is not None:
            self._writer.close()

    def _at(self, step: int) -> str:
        return f"step {step:{self._width}}/{self._steps}"

    def _scalars(self, group: str, step: int, scalars: Scalars) -> None:
        if self._writer is not None:
            for name, value in scalars:
                self._writer.add_scalar(f"{group}/{name}", value, step)


def _text(scalars: Scalars) -> str:
    return "  ".join(f"{name} {value:.5g}" for name, value in scalars)


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02}:{rest:02}"


def _tensorboard(folder: Path) -> Any:
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        return None
    return SummaryWriter(str(folder))

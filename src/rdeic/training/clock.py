"""How far a run has come: counted in steps, or by the clock where `minutes` says so."""

from __future__ import annotations

from time import monotonic

from rdeic.training.config import TrainConfig
from rdeic.training.processes import Processes


class Clock:
    """The training time of one run, all its parts together; the same in every process."""

    elapsed: float  # seconds up to the last `tick`, those of earlier parts included

    def __init__(self, config: TrainConfig, processes: Processes) -> None:
        self._limit, self._steps = 60.0 * config.minutes, config.steps
        self._processes = processes
        self.elapsed = 0.0
        self._zero: float | None = None  # when this run would have begun, had it never been interrupted

    def start(self) -> None:
        """Starts the clock, with the `elapsed` seconds of earlier parts of the run."""
        self._zero = monotonic() - self.elapsed

    def tick(self) -> None:
        """Looks at the clock; nothing happens before `start`."""
        if self._zero is not None:
            self.elapsed = monotonic() - self._zero
            if self._limit and self._processes.count > 1:
                self.elapsed = self._processes.collect(self.elapsed)[0]

    @property
    def left(self) -> float:
        """Seconds to the end; infinite for a run by steps."""
        return self._limit - self.elapsed if self._limit else float("inf")

    def position(self, step: int) -> float:
        """Where a run of `step` steps so far stands between 0 and `steps`: by steps or time, whichever is further."""
        return max(step, self._steps * self.elapsed / self._limit) if self._limit else step

"""How fast a batch goes."""

from __future__ import annotations

import time


class Pace:
    """What was done since the batch began, the loading of the model included."""

    def __init__(self) -> None:
        self.pictures = 0
        self._pixels = 0
        self._start = time.perf_counter()

    def count(self, pixels: int) -> None:
        """Adds a finished picture of so many pixels."""
        self.pictures += 1
        self._pixels += pixels

    def rates(self) -> str:
        """Pictures and megapixels a second, for a short line; empty until a picture is done."""
        if not self.pictures:
            return ""
        pictures, megapixels, _ = self._measured()
        return f"{pictures:.2f} pictures/s, {megapixels:.2f} MP/s"

    def summary(self) -> str:
        """Counts, seconds and rates since the start, in one line."""
        pictures, megapixels, seconds = self._measured()
        return (
            f"{self.pictures} pictures of {self._pixels / 1e6:.1f} megapixels in {seconds:.1f} s: "
            f"{pictures:.2f} pictures and {megapixels:.2f} megapixels a second"
        )

    def _measured(self) -> tuple[float, float, float]:
        """Pictures and megapixels a second, and the seconds."""
        seconds = max(time.perf_counter() - self._start, 1e-9)
        return self.pictures / seconds, self._pixels / 1e6 / seconds, seconds

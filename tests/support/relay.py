"""Noise levels of the relay."""

from __future__ import annotations

from rdeic.config import MINI
from rdeic.diffusion.schedule import (
    alpha_bars,
)

ALPHA_BAR = alpha_bars(MINI.diffusion)
START = MINI.diffusion.relay_start
AB_N = float(ALPHA_BAR[START - 1])

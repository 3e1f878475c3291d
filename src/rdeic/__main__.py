"""`python -m rdeic` is the command line program."""

from __future__ import annotations

from rdeic.cli import script

script()

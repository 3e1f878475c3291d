"""Training configurations written down."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path

from rdeic.training.config import CriticConfig, TrainConfig

NO_CRITIC = CriticConfig(pixel=0.0, feature=0.0, width=8, learning_rate=1e-3, start=0, ramp=0)


def write_config(config: TrainConfig, changes: Mapping[str, object], path: Path) -> Path:
    """`config` with `changes`, which it may not allow, as the TOML file `path`."""
    values = dataclasses.asdict(config) | dict(changes)
    tables = [f"[{name}]\n{_lines(values.pop(name))}" for name in ("loss", "critic", "method")]
    path.write_text("\n".join([_lines(values), *tables]))
    return path


def _lines(values: Mapping[str, object]) -> str:
    return "".join(f"{name} = {json.dumps(value)}\n" for name, value in values.items())

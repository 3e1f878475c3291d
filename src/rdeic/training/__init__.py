"""Training: picture folders in, a folder of weights out. Needs torch only once `run` is called."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rdeic.training.config import TrainConfig


def run(
    stage: str, config: TrainConfig, data: Sequence[Path], resume: bool, dry_run: bool, out: Path
) -> Path | None:
    """Train `stage` on the pictures under `data` (folders, pictures, tar files).

    Returns the folder of the finished weights, `out / "model"`; None after a dry run, which trains three steps to
    print what the whole would cost and writes nothing, and after an interruption, which leaves a checkpoint for
    `resume`. Raises TrainingError, ConfigError or CheckpointError.
    """
    from rdeic.training.launch import launch

    return launch(stage, config, data, resume, dry_run, out)

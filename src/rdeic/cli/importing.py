"""`rdeic import-checkpoint`."""

from __future__ import annotations

import sys
from pathlib import Path

from rdeic import config as configs
from rdeic.checkpoints import registry
from rdeic.cli.console import progress, say
from rdeic.config import SD21, ModelConfig
from rdeic.errors import ConfigError


def import_checkpoints(
    stable_diffusion: str,
    checkpoints: list[Path],
    steps: list[int],
    out: Path,
    config: Path | None,
    precision: str,
    offline: bool,
) -> None:
    """Write the model folder and say what came of it."""
    from rdeic.checkpoints.foreign import importer

    shape = _read(config)
    if steps and not checkpoints:
        raise ConfigError("--steps says what --rdeic was fine-tuned for: give that too")
    known = steps or [importer.steps_of(path, shape.diffusion.default_steps) for path in checkpoints]
    if len(known) == 1:
        known = known * len(checkpoints)
    if len(known) != len(checkpoints):
        raise ConfigError(
            f"{len(checkpoints)} --rdeic but {len(known)} --steps: give one for each, or one for all"
        )
    rates = tuple(importer.Rate(path, count) for path, count in zip(checkpoints, known, strict=True))
    job = importer.Job(stable_diffusion, rates, shape, precision, offline)
    with progress(importer.tensors(job)) as tick:
        importer.import_checkpoints(job, out, tick)
    size = registry.describe(out).weight_bytes
    for folder in registry.rates(out):
        steps_now = registry.describe(folder).config.diffusion.default_steps
        say(f"{folder}: fingerprint {registry.fingerprint(folder).hex()}, {steps_now} steps", sys.stdout)
    say(f"{out}: {size / 1e6:.0f} MB", sys.stdout)


def _read(path: Path | None) -> ModelConfig:
    if path is None:
        return SD21
    try:
        return configs.from_json(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: cannot be read: {error}") from error

"""One training run from settings to a folder of weights, or an estimate of what it would cost."""

from __future__ import annotations

import resource
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import torch

from rdeic import checkpoints
from rdeic.config import PRESETS
from rdeic.model import Rdeic
from rdeic.training import data as pictures
from rdeic.training.config import TrainConfig
from rdeic.training.contract import Stage
from rdeic.training.loop import Data, Trainer, train
from rdeic.training.stages import build_stage

TIMED_STEPS = 3


def launch(
    stage: str, config: TrainConfig, data: Sequence[Path], resume: bool, dry_run: bool, out: Path
) -> Path | None:
    """See `rdeic.training.run`."""
    if config.threads:
        torch.set_num_threads(config.threads)
    sources = pictures.find(data)
    model = _initial_model(config)
    prepared = build_stage(stage, model, config)
    training, held_out = pictures.split(sources)
    if dry_run:
        # The few pictures that three steps need, not the minutes of decoding a large set.
        few = training[: 4 * config.batch]
        _estimate(prepared, pictures.ImageSet(few, config.cache_mb << 20), config)
        return None
    sets = Data(*(pictures.ImageSet(part, config.cache_mb << 20) for part in (training, held_out)))
    skipped = sets.training.corrupt + sets.held_out.corrupt
    _say(f"{len(sets.training)} pictures, {len(sets.held_out)} held out, {skipped} unreadable skipped")
    if not train(prepared, sets, config, out, resume):
        return None
    checkpoints.save_model(model, out / "model")
    return out / "model"


def _initial_model(config: TrainConfig) -> Rdeic:
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if config.model in PRESETS:
        torch.manual_seed(config.seed)
        return Rdeic(PRESETS[config.model]).to(device)
    return checkpoints.load_model(Path(config.model), device)[0]


def _estimate(stage: Stage, images: pictures.ImageSet, config: TrainConfig) -> None:
    trainer = Trainer(stage, config)
    batches = [images.batch(step, config.batch, config.crop, config.seed) for step in range(TIMED_STEPS + 1)]
    trainer.advance(batches[0])  # the first step also allocates, tunes and compiles
    start = time.perf_counter()
    for batch in batches[1:]:
        trainer.advance(batch).grad_norm.item()
    seconds = (time.perf_counter() - start) / TIMED_STEPS
    count = {id(p): p.numel() for p in stage.model.parameters()}
    trained = sum(p.numel() for p in trainer.parameters)
    frozen = sum(count.values()) - sum(count.get(id(p), 0) for p in trainer.parameters)
    _say(f"trainable parameters  {trained:,}")
    _say(f"frozen parameters     {frozen:,}")
    _say(f"seconds per step      {seconds:.3f}")
    _say(f"estimated total       {seconds * config.steps / 3600:.2f} hours for {config.steps:,} steps")
    _say(f"peak memory           {_peak_memory(trainer.device) / 2**20:,.0f} MiB")


def _peak_memory(device: torch.device) -> int:
    """Bytes: of the device on CUDA, of this process on the CPU."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def _say(line: str) -> None:
    print(line, flush=True)

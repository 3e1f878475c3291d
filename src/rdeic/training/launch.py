"""One training run from settings to a folder of weights, or an estimate of what it would cost."""

from __future__ import annotations

import dataclasses
import os
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import torch

from rdeic.checkpoints import checkpoints
from rdeic.config import PRESETS
from rdeic.errors import ConfigError
from rdeic.model.model import Rdeic
from rdeic.training import memory, sources
from rdeic.training.compiled import require_compiler
from rdeic.training.config import TrainConfig
from rdeic.training.contract import Stage
from rdeic.training.data import Holding, ImageSet, Sampling, centre_crops
from rdeic.training.features import FeatureSet, prepare
from rdeic.training.loop import Data, TrainingSet, train
from rdeic.training.processes import Processes, joined
from rdeic.training.stages import build_stage
from rdeic.training.trainer import Trainer

TIMED_STEPS = 3
VALIDATION_CROP = 256  # pixels at least: MS-SSIM needs more than 160


def launch(
    stage: str, config: TrainConfig, data: Sequence[Path], resume: bool, dry_run: bool, out: Path
) -> Path | None:
    """Runs or estimates a stage. Arguments, result and errors are those of `rdeic.training.run`."""
    with joined() as processes, memory.named_when_exhausted():
        if config.threads:
            torch.set_num_threads(config.threads)
        _require_sense(config, processes)
        torch.backends.cudnn.benchmark = (
            True  # batches of one shape: the fastest kernels are worth looking for
        )
        training, held_out = sources.split(sources.find(data))
        model = _initial_model(config, processes.device)
        prepared = build_stage(stage, model, config)
        if dry_run:
            # The few pictures that these steps need, not the minutes of decoding a large set.
            few = training[: (TIMED_STEPS + 1) * config.batch]
            with tempfile.TemporaryDirectory() as folder:
                scratch = dataclasses.replace(config, features=config.features and folder)
                _estimate(prepared, _training_set(few, scratch, model, processes), config, processes)
            return None
        sets = Data(
            _training_set(training, config, model, processes),
            centre_crops(held_out, config.validation_images, max(config.crop, VALIDATION_CROP)),
        )

        def export(folder: Path) -> None:
            checkpoints.save_model(model, folder)

        before = _unreadable(sets.training, processes)
        _say(f"{len(training)} pictures, {len(held_out)} held out, {before} unreadable skipped", processes)
        done = train(prepared, sets, config, out, resume, export, processes)
        if (after := _unreadable(sets.training, processes)) > before:
            _say(f"{after} unreadable skipped in all", processes)
        return out / "model" if done else None


def _require_sense(config: TrainConfig, processes: Processes) -> None:
    """What the settings alone cannot know. Raises ConfigError."""
    processes.share(config.batch, config.accumulate)
    if config.precision == "fp16" and processes.device.type != "cuda":
        raise ConfigError('precision = "fp16" needs a CUDA device, and there is none; set precision = "bf16"')
    if config.compile:
        require_compiler(processes.device)
    asked = os.environ.get("ACCELERATE_MIXED_PRECISION", "no")
    if asked not in ("no", config.precision):
        raise ConfigError(
            f"accelerate is set to mixed precision {asked}, but `precision` decides here; launch with "
            f"--mixed_precision no, or set precision = {asked!r}"
        )


def _initial_model(config: TrainConfig, device: torch.device) -> Rdeic:
    if config.model in PRESETS:
        torch.manual_seed(config.seed)
        return Rdeic(PRESETS[config.model]).to(device)
    # As stored would be half precision for some, too coarse to add small steps to.
    return checkpoints.load_model(Path(config.model), device, precision=torch.float32)[0]


def _training_set(
    found: Sequence[sources.Source], config: TrainConfig, model: Rdeic, processes: Processes
) -> TrainingSet:
    sampling = Sampling(config.batch, config.crop, config.seed)
    share = processes.share(config.batch, config.accumulate)
    if config.features:
        folder, autoencoder = Path(config.features), model.autoencoder
        if processes.first:
            prepare(folder, found, autoencoder, config.crop)
        processes.first_says(0)  # the others wait
        return FeatureSet(folder, sampling, share, model.config.autoencoder.stride)
    device = processes.device if config.images_on == "device" else None
    return ImageSet(found, sampling, share, Holding(config.cache_mb << 20, device))


def _unreadable(images: TrainingSet, processes: Processes) -> int:
    """Training pictures that some process found so."""
    return len(set().union(*processes.collect(images.unreadable)))


def _estimate(stage: Stage, images: TrainingSet, config: TrainConfig, processes: Processes) -> None:
    trainer = Trainer(stage, config, processes)
    batches = [images.batch(step) for step in range(TIMED_STEPS + 1)]
    trainer.advance(batches[0])  # the first step also allocates, tunes and compiles
    start = time.perf_counter()
    for batch in batches[1:]:
        trainer.advance(batch).grad_norm.item()
    seconds = (time.perf_counter() - start) / TIMED_STEPS
    steps = min(config.steps, round(60 * config.minutes / seconds)) if config.minutes else config.steps
    crops = config.batch // processes.count // config.accumulate
    parts = f"{processes.count} processes x {config.accumulate} micro-batches x {crops} crops"
    for line in (
        f"trainable parameters  {sum(p.numel() for p in trainer.parameters):,}",
        f"frozen parameters     {sum(p.numel() for p in trainer.frozen):,}",
        f"batch                 {config.batch} = {parts}",
        f"seconds per step      {seconds:.3f}",
        f"estimated total       {seconds * steps / 3600:.2f} hours for {steps:,} steps",
        f"peak memory           {max(processes.collect(memory.peak(trainer.device))) / 2**20:,.0f} MiB",
    ):
        _say(line, processes)


def _say(line: str, processes: Processes) -> None:
    if processes.first:
        print(line, flush=True)

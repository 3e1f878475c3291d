"""Stable Diffusion's and the authors' checkpoints => a model folder, once.

    shared by all rates   noise estimator, autoencoder, context of the empty prompt
    of each checkpoint    compression module, control network

A checkpoint may hold everything or only its own part. Files are opened one after another and read tensor by tensor,
so memory stays near the largest of them. Without any checkpoint of the authors' those two parts are fresh: a start for
training.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import re
import shutil
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

from rdeic.checkpoints import registry
from rdeic.checkpoints.checkpoints import Shape, require_fit
from rdeic.checkpoints.foreign import download, hub, original, text
from rdeic.checkpoints.foreign.convert import our_shapes, require_complete, value_of
from rdeic.checkpoints.foreign.keys import Foreign, locate
from rdeic.checkpoints.foreign.sources import Weights, open_weights
from rdeic.checkpoints.shards import ShardWriter, write_index
from rdeic.config import ModelConfig, to_json
from rdeic.container.container import MAX_STEPS
from rdeic.diffusion.schedule import alpha_bars
from rdeic.errors import CheckpointError
from rdeic.model.compression import Compression
from rdeic.model.networks import control_network
from rdeic.nn.unet import UNet
from rdeic.system.files import atomic_write

PRECISIONS = {"fp16": torch.float16, "fp32": torch.float32}
_SHARED = ("unet.", "autoencoder.")
_OWN = ("control.", "compression.")
_TEXT_HEAD_CHANNELS = text.VIT_H.width // text.VIT_H.heads
_FRESH_SEED = 0
_STEPS_IN_NAME = re.compile(r"_step(\d+)$")
Tick = Callable[[], None]


class Rate(NamedTuple):
    """One checkpoint of the authors'."""

    path: Path
    steps: int  # L it was fine-tuned for, and is decoded with unless told otherwise


class Job(NamedTuple):
    """What to import."""

    stable_diffusion: str  # file, folder or hub id; not touched if the first checkpoint has everything
    checkpoints: tuple[Rate, ...]  # the authors', one for each rate, lowest first; none: for training
    config: ModelConfig
    precision: str  # of the stored weights, a key of PRECISIONS
    offline: bool


def steps_of(path: Path, default: int) -> int:
    """L from a file name in the authors' way, `rdeic_2_step2.ckpt`; `default` where it has none."""
    stated = _STEPS_IN_NAME.search(path.stem)
    return int(stated[1]) if stated else default


def tensors(job: Job) -> int:
    """How many there are to import."""
    own = sum(key.startswith(_OWN) for key in our_shapes(job.config))
    return len(our_shapes(job.config)) + 1 + (max(len(job.checkpoints), 1) - 1) * own


def import_checkpoints(job: Job, out: Path, tick: Tick) -> None:
    """Write the model folder `out`, which must not exist; `tick` is called after each tensor.

    Raises CheckpointError for sources that cannot be had or do not fit, naming what is missing, unexpected and
    misshaped; then nothing is written.
    """
    if out.exists():
        raise CheckpointError(f"{out} exists; remove it or choose another folder")
    for path, steps in job.checkpoints:
        if not 1 <= steps <= MAX_STEPS:
            raise CheckpointError(
                f"{path}: its name says {steps} denoising steps; say with --steps how many, 1 to {MAX_STEPS}"
            )
    names = [rate.path.stem for rate in job.checkpoints]
    if len(set(names)) < len(names):
        raise CheckpointError(
            f"checkpoints need names of their own, for the folders of each rate: {', '.join(names)}"
        )
    several = len(names) > 1
    with _assembled_aside(out) as top:
        shared = ShardWriter(top, "shared", PRECISIONS[job.precision])
        own = []
        for (path, _), name in zip(job.checkpoints, names, strict=True):
            folder = top / name if several else top
            folder.mkdir(exist_ok=True)
            own.append(ShardWriter(folder, "rate", PRECISIONS[job.precision]))
            with open_weights(path) as weights:
                _copy_checkpoint(weights, job.config, own[-1], shared, tick)
        origins = [(path.name, steps) for path, steps in job.checkpoints]
        if not origins:
            own.append(ShardWriter(top, "rate", PRECISIONS[job.precision]))
            _add_fresh(job.config, own[0], tick)
            origins.append(("fresh networks", job.config.diffusion.default_steps))
        if not shared.files:
            _copy_stable_diffusion(job, shared, tick)
        for writer, (origin, steps) in zip(own, origins, strict=True):
            prefix = "../" if several else ""
            files = writer.files | {key: prefix + name for key, name in shared.files.items()}
            write_index(writer.folder, files, f"{origin} on {job.stable_diffusion}")
            atomic_write(
                writer.folder / registry.CONFIG_FILE, to_json(_with_steps(job.config, steps)).encode()
            )
        if several:
            atomic_write(top / registry.RATES_FILE, (json.dumps(names, indent=2) + "\n").encode())
            atomic_write(top / registry.CONFIG_FILE, to_json(job.config).encode())


def _with_steps(config: ModelConfig, steps: int) -> ModelConfig:
    return dataclasses.replace(config, diffusion=dataclasses.replace(config.diffusion, default_steps=steps))


@contextlib.contextmanager
def _assembled_aside(out: Path) -> Iterator[Path]:
    """A folder that becomes `out` if all goes well, and disappears otherwise."""
    aside = out.with_name(out.name + ".part")
    shutil.rmtree(aside, ignore_errors=True)
    try:
        aside.mkdir(parents=True)
        yield aside
        os.replace(aside, out)
    except OSError as error:
        raise CheckpointError(f"{out}: cannot be written: {error}") from error
    finally:
        shutil.rmtree(aside, ignore_errors=True)


def _copy_checkpoint(
    weights: Weights, config: ModelConfig, own: ShardWriter, shared: ShardWriter, tick: Tick
) -> None:
    """An authors' checkpoint; of the first complete one, the shared parts too."""
    complete = any(name.startswith(f"{original.UNET}.") for name in weights.shapes)
    located = _located(weights, _SHARED + _OWN if complete else _OWN, config)
    _copy(weights, located, _OWN, config, own, tick)
    if complete and not shared.files:
        _copy(weights, located, _SHARED, config, shared, tick)
        _add_context(_original_tower(weights, config), shared, tick)


def _add_fresh(config: ModelConfig, own: ShardWriter, tick: Tick) -> None:
    """Compression module and control network as training starts: random, the control network without effect."""
    with torch.device("meta"):
        unet = UNet(config.unet, config.autoencoder.latent_channels)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(_FRESH_SEED)
        parts = {"compression.": Compression(config), "control.": control_network(config, unet)}
    for prefix, part in parts.items():
        for key, value in part.state_dict().items():
            own.add(prefix + key, value)
            tick()
    own.flush()


def _copy_stable_diffusion(job: Job, shared: ShardWriter, tick: Tick) -> None:
    place = download.locate(job.stable_diffusion, job.offline)
    if place.is_dir():
        _copy_hub(place, job.config, shared, tick)
        return
    with open_weights(place) as weights:
        _copy(weights, _located(weights, _SHARED, job.config), _SHARED, job.config, shared, tick)
        _add_context(_original_tower(weights, job.config), shared, tick)


def _located(weights: Weights, prefixes: tuple[str, ...], config: ModelConfig) -> dict[str, Foreign]:
    """Where a file in the original layout has our parts at `prefixes`; it must hold these and no others."""
    shapes = {key: shape for key, shape in our_shapes(config).items() if key.startswith(prefixes)}
    located = locate(shapes, original.stable_diffusion(config) + original.authors(config))
    require_complete(located, config, weights.shapes, weights.where)
    _require_schedule(weights, config)
    return located


def _copy_hub(folder: Path, config: ModelConfig, shared: ShardWriter, tick: Tick) -> None:
    hub.require_noise_prediction(folder)
    for part, prefix in ((hub.UNET, "unet."), (hub.AUTOENCODER, "autoencoder.")):
        shapes = {key: shape for key, shape in our_shapes(config).items() if key.startswith(prefix)}
        with open_weights(hub.weight_file(folder, part)) as weights:
            layout = (
                hub.unet(config.unet)
                if part == hub.UNET
                else hub.autoencoder(original.published(config), weights.shapes)
            )
            located = locate(shapes, layout)
            require_fit(
                {place.name: place.shape for place in located.values()}, weights.shapes, weights.where
            )
            _copy(weights, located, (prefix,), config, shared, tick)
    with open_weights(hub.weight_file(folder, hub.TEXT)) as weights:
        _add_context(
            text.hub(weights.shapes, weights.fetch, _text_config(config), weights.where), shared, tick
        )


def _copy(
    weights: Weights,
    located: Mapping[str, Foreign],
    prefixes: tuple[str, ...],
    config: ModelConfig,
    writer: ShardWriter,
    tick: Tick,
) -> None:
    for key, place in located.items():
        if key.startswith(prefixes):
            writer.add(key, value_of(key, place, weights.fetch, config))
            tick()
    writer.flush()


def _add_context(tower: text.Tower, writer: ShardWriter, tick: Tick) -> None:
    writer.add("context", text.empty_context(tower), torch.float32)
    writer.flush()
    tick()


def _original_tower(weights: Weights, config: ModelConfig) -> text.Tower:
    found: dict[str, Shape] = {
        name: shape for name, shape in weights.shapes.items() if name.startswith("cond_stage_model.")
    }
    return text.open_clip(found, weights.fetch, _text_config(config), weights.where)


def _text_config(config: ModelConfig) -> text.TextConfig:
    """ViT-H, at the width of the context."""
    width = config.unet.context_channels
    return text.VIT_H._replace(width=width, heads=max(1, width // _TEXT_HEAD_CHANNELS))


def _require_schedule(weights: Weights, config: ModelConfig) -> None:
    """Raise CheckpointError for a model that was trained with another noise schedule."""
    if "alphas_cumprod" not in weights.shapes:
        return
    theirs, ours = weights.fetch("alphas_cumprod").double().numpy(), alpha_bars(config.diffusion)
    if not np.allclose(theirs, ours, rtol=1e-4, atol=1e-6):
        raise CheckpointError(f"{weights.where} has another noise schedule than Stable Diffusion 2.1-base")

"""`rdeic compress` and `rdeic decompress`."""

from __future__ import annotations

import math
from pathlib import Path
from typing import NamedTuple

import numpy as np
import typer
from PIL import Image

import rdeic
from rdeic import codec, images
from rdeic.cli import batch
from rdeic.cli.batch import Item, Target
from rdeic.errors import ConfigError, FileFormatError
from rdeic.info import read_blob

RDEIC_SUFFIX = ".rdeic"
_KINDS = {".png": "png", ".jpg": "jpg", ".jpeg": "jpg", ".webp": "webp"}


class Goal(NamedTuple):
    """How large the result is to be, as `Codec.compress` takes it."""

    quality: float | None
    bpp: float | None
    max_bytes: int | None
    seed: int


class CompressOptions(NamedTuple):
    """The options of `rdeic compress`."""

    out: str | None
    goal: Goal
    model: str
    device: str | None
    verify: bool
    background: str | None
    force: bool


class DecompressOptions(NamedTuple):
    """The options of `rdeic decompress`."""

    out: str | None
    detail: float
    steps: int | None
    kind: str | None
    model: str | None
    device: str | None
    force: bool


def compress(arguments: list[str], options: CompressOptions) -> None:
    """Compresses what the arguments mean. Raises typer.BadParameter, typer.Exit(1), ConfigError, CheckpointError."""
    inputs = batch.gather(arguments, images.SUFFIXES)
    target = Target(options.out, RDEIC_SUFFIX, options.force, redo_stale=True)
    batch.check_target(inputs, target)
    if options.background is not None:
        try:
            images.parse_colour(options.background)
        except ConfigError as error:
            raise typer.BadParameter(str(error)) from error
    coder = codec.load(options.model, options.device)

    def work(item: Item) -> tuple[bytes, str]:
        picture = images.read(item.source(), background=options.background)
        goal = options.goal
        blob = coder.compress(picture, goal.quality, goal.bpp, goal.max_bytes, goal.seed)
        remark = f"{len(blob)} bytes  {8 * picture[0, 0].size * len(blob) / picture.size:.4f} bpp"
        if options.verify:
            remark += f"  verified, PSNR {_psnr(picture, coder.decompress(blob)):.2f} dB"
        return blob, remark

    batch.run(inputs, target, work)


def decompress(arguments: list[str], options: DecompressOptions) -> None:
    """Restores what the arguments mean. Raises as `compress` does."""
    inputs = batch.gather(arguments, frozenset({RDEIC_SUFFIX}))
    kind = options.kind or _kind_of(options.out, inputs.batch)
    target = Target(options.out, f".{kind}", options.force, redo_stale=options.out is not None)
    batch.check_target(inputs, target)
    chosen = None if options.model is None else codec.load(options.model, options.device)
    known: dict[str, codec.Codec] = {}  # by fingerprint, so that a batch loads each model once

    def work(item: Item) -> tuple[bytes, str]:
        blob = read_blob(item.source())
        fingerprint = rdeic.inspect(blob).fingerprint
        coder = chosen or known.get(fingerprint) or codec.load_for(blob, options.device)
        known[fingerprint] = coder
        picture = coder.decompress(blob, options.detail, options.steps)
        return images.encode(picture, kind), f"{picture.width}x{picture.height}"

    batch.run(inputs, target, work)


def _kind_of(out: str | None, many: bool) -> str:
    """The format that the output's suffix asks for. Raises typer.BadParameter if it is an unknown one."""
    if out in (None, batch.STREAM) or many or batch.means_directory(str(out)):
        return "png"
    suffix = Path(str(out)).suffix.lower()
    if suffix and suffix not in _KINDS:
        if Path(str(out)).exists() and not Path(str(out)).is_file():
            return "png"
        raise typer.BadParameter(f"{suffix} pictures cannot be written; use {', '.join(_KINDS)} or --format")
    return _KINDS.get(suffix, "png")


def _psnr(picture: images.Picture, restored: Image.Image) -> float:
    """Decibels. Raises FileFormatError if the sizes differ, which a sound file cannot bring about."""
    again = np.asarray(restored)
    if again.shape != picture.shape:
        raise FileFormatError(
            f"verification failed: {again.shape} came back from {picture.shape}; please report it"
        )
    error = float(np.mean((picture.astype(np.float64) - again) ** 2))
    return math.inf if error == 0 else 10 * math.log10(255**2 / error)

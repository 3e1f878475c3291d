"""`rdeic compress` and `rdeic decompress`."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import typer

import rdeic
from rdeic import codec, exif, images
from rdeic.cli import batch
from rdeic.cli.batch import Item, Target
from rdeic.errors import ConfigError
from rdeic.info import read_blob

RDEIC_SUFFIX = ".rdeic"
_KINDS = {".png": "png", ".jpg": "jpg", ".jpeg": "jpg", ".webp": "webp"}


class Goal(NamedTuple):
    """How large the result is to be, as `Codec.compress` takes it."""

    quality: float | None
    bpp: float | None
    max_bytes: int | None
    seed: int
    scale: bool  # whether the picture may be stored smaller


class Keep(NamedTuple):
    """What of the source's metadata goes into the file."""

    metadata: bool
    location: bool  # together with the rest


class CompressOptions(NamedTuple):
    """The options of `rdeic compress`."""

    out: str | None
    goal: Goal
    model: str
    device: str | None
    verify: bool | None
    background: str | None
    keep: Keep
    max_pixels: int
    force: bool


class DecompressOptions(NamedTuple):
    """The options of `rdeic decompress`."""

    out: str | None
    detail: float
    steps: int | None
    kind: str | None
    model: str | None
    device: str | None
    max_pixels: int
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
        source, goal, keep = item.source(), options.goal, options.keep
        picture = images.read(source, options.max_pixels, options.background)
        wanted = keep.metadata or keep.location
        described = exif.read(source, keep.location, options.max_pixels) if wanted else None
        blob = coder.compress(
            picture,
            goal.quality,
            goal.bpp,
            goal.max_bytes,
            goal.seed,
            options.verify,
            described,
            options.max_pixels,
            goal.scale,
        )
        verified = "  verified" if options.verify else ""
        return (
            blob,
            f"{len(blob)} bytes  {8 * picture[0, 0].size * len(blob) / picture.size:.4f} bpp{verified}",
        )

    batch.run(inputs, target, work)


def decompress(arguments: list[str], options: DecompressOptions) -> None:
    """Restores what the arguments mean. Raises as `compress` does."""
    inputs = batch.gather(arguments, frozenset({RDEIC_SUFFIX}))
    kind = options.kind or _kind_of(options.out, inputs.batch)
    target = Target(options.out, f".{kind}", options.force, redo_stale=options.out is not None)
    batch.check_target(inputs, target)
    chosen = None if options.model is None else codec.load(options.model, options.device)
    known: dict[str, codec.Codec] = {}  # by fingerprint, so that a batch loads each model once

    def coder_for(blob: bytes) -> codec.Codec:
        fingerprint = rdeic.inspect(blob).fingerprint
        if fingerprint not in known:
            # Rates of one model share most of their weights, as long as it is one codec that loads them.
            siblings = (one for one in known.values() if one.made(fingerprint))
            known[fingerprint] = next(siblings, None) or codec.load_for(blob, options.device)
        return known[fingerprint]

    def work(item: Item) -> tuple[bytes, str]:
        blob = read_blob(item.source())
        coder = chosen or coder_for(blob)
        picture = coder.decompress(blob, options.detail, options.steps, options.max_pixels)
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

"""`rdeic compress` and `rdeic decompress`."""

from __future__ import annotations

import contextlib
import functools
import itertools
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import typer

import rdeic
from rdeic.cli import batch, outputs, pictures
from rdeic.cli.batch import Result
from rdeic.cli.console import fail, remarks
from rdeic.cli.inputs import RDEIC_FILES, STREAM, Source, gather
from rdeic.cli.lanes import Lanes
from rdeic.cli.outputs import Target
from rdeic.cli.rules import Packing, Restoring
from rdeic.codec import codec
from rdeic.codec.codecs import Codecs
from rdeic.codec.weights import Settings
from rdeic.container import marks
from rdeic.errors import ConfigError, RdeicError
from rdeic.pictures import exif, images
from rdeic.system import memory, threads

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


class RunOptions(NamedTuple):
    """How a command does its work, whatever its direction."""

    force: bool
    preserve_times: bool
    jobs: int | None  # pictures at a time; None: so many that no core is idle
    threads: int | None  # of torch, for each picture; None: the processor's, shared among the jobs

    def lanes(self, pictures: int, most: int | None) -> Lanes:
        """Lanes for so many pictures, in a process that may occupy `most` bytes."""
        room = None if most is None else memory.room(most)
        return Lanes(self.jobs or threads.jobs(pictures, self.threads), self.threads, room)


class CompressOptions(NamedTuple):
    """The options of `rdeic compress`."""

    out: str | None
    goal: Goal
    model: str
    place: Settings
    verify: bool | None
    background: str | None
    keep: Keep
    max_pixels: int
    run: RunOptions


class DecompressOptions(NamedTuple):
    """The options of `rdeic decompress`."""

    out: str | None
    detail: float
    steps: int | None
    kind: str | None
    model: str | None
    place: Settings
    max_pixels: int
    run: RunOptions


def compress(arguments: list[str], options: CompressOptions) -> None:
    """Compresses what the arguments mean. Raises typer.BadParameter, typer.Exit(1), ConfigError, CheckpointError."""
    inputs = gather(arguments, pictures.kind())
    target = Target(options.out, RDEIC_SUFFIX, options.run.force, options.run.preserve_times)
    outputs.check(inputs, target, (RDEIC_SUFFIX,))
    if options.background is not None:
        try:
            images.parse_colour(options.background)
        except ConfigError as error:
            raise typer.BadParameter(str(error)) from error
    coder = codec.load(options.model, *options.place)
    remark, lanes = remarks(), options.run.lanes(len(inputs.items), options.place.max_memory)

    def work(source: Source) -> Result:
        data, goal, keep = source.data, options.goal, options.keep
        held = [images.read(data, options.max_pixels, options.background)]
        wanted = keep.metadata or keep.location
        described = exif.read(data, keep.location, options.max_pixels) if wanted else None
        remark(coder.remark)
        height, width, _ = held[0].shape
        with lanes.lane(coder.memory_for(width, height)):
            blob = coder.compress(
                held.pop(),  # so that it is gone when it is analysed
                goal.quality,
                goal.bpp,
                goal.max_bytes,
                goal.seed,
                options.verify,
                described,
                options.max_pixels,
                goal.scale,
            )
        remarks = [f"{len(blob)} bytes", f"{8 * len(blob) / (width * height):.4f} bpp"]
        remarks += ["verified"] if options.verify else []
        remarks += _remarks(source, options.max_pixels, target.place(source.item, inputs.batch) is None)
        return Result(blob, "  ".join(remarks), width * height)

    batch.run(inputs, target, Packing(_remaker(coder, options)), work, lanes.jobs)


def _remaker(coder: codec.Codec, options: CompressOptions) -> Callable[[Source, bytes], Iterator[bytes]]:
    """Compresses a picture at the settings of an .rdeic file: only of the picture that it holds the same comes out.

    In half precision y depends on the number of threads, so both of a batch and of a single picture are tried, and
    single precision, which an earlier run may have asked for.
    """
    settings = [options.place, options.place._replace(encoder_precision="fp32")]

    def remake(source: Source, there: bytes) -> Iterator[bytes]:
        with contextlib.suppress(RdeicError):  # no .rdeic file, or none of this model
            found = rdeic.inspect(there)
            picture = images.read(source.data, options.max_pixels, options.background)
            for place, count in itertools.product(dict.fromkeys(settings), {1, threads.used()}):
                with threads.using(count):
                    remade = coders(place).compress(
                        picture,
                        quality=found.quality,
                        seed=found.seed,
                        verify=False,
                        metadata=found.metadata,
                        max_pixels=options.max_pixels,
                    )
                yield remade

    @functools.cache
    def coders(place: Settings) -> codec.Codec:
        return coder if place == options.place else codec.load(options.model, *place)

    return remake


def _remarks(source: Source, max_pixels: int, to_stdout: bool) -> list[str]:
    """What a user may not expect of the picture; on stderr where the result goes to stdout, and so has no line."""
    remarks = []
    if (count := images.frame_count(source.data, max_pixels)) > 1:
        remarks.append(f"the first of {count} frames")
    if (checksum := marks.find(source.data)) is not None:
        remarks.append(f"restored by rdeic before, from a file with checksum {checksum}: losses add up")
    if to_stdout:
        for remark in remarks:
            fail(f"{source.item.name}: {remark}")
    return remarks


def decompress(arguments: list[str], options: DecompressOptions) -> None:
    """Restores what the arguments mean. Raises as `compress` does."""
    inputs = gather(arguments, RDEIC_FILES)
    kind = options.kind or _kind_of(options.out, inputs.batch)
    target = Target(options.out, f".{kind}", options.run.force, options.run.preserve_times)
    own = Path(options.out or "").suffix.lower()
    outputs.check(inputs, target, (*_KINDS, own) if own and options.kind else tuple(_KINDS))
    chosen = None if options.model is None else codec.load(options.model, *options.place)
    remark, lanes = remarks(), options.run.lanes(len(inputs.items), options.place.max_memory)
    known = Codecs(options.place)

    def work(source: Source) -> Result:
        coder = chosen or known.for_file(source.data)
        remark(coder.remark)
        found = rdeic.inspect(source.data)
        with lanes.lane(coder.memory_for(found.width, found.height)):
            picture = coder.decompress(source.data, options.detail, options.steps, options.max_pixels)
        data = images.encode(picture, kind)
        return Result(data, f"{picture.width}x{picture.height}", picture.width * picture.height)

    batch.run(inputs, target, Restoring(), work, lanes.jobs)


def _kind_of(out: str | None, many: bool) -> str:
    """The format that the output's suffix asks for. Raises typer.BadParameter if it is an unknown one."""
    if out in (None, STREAM) or many or outputs.means_folder(str(out)):
        return "png"
    suffix = Path(str(out)).suffix.lower()
    if suffix and suffix not in _KINDS:
        if outputs.is_direct(Path(str(out))):
            return "png"
        raise typer.BadParameter(f"{suffix} pictures cannot be written; use {', '.join(_KINDS)} or --format")
    return _KINDS.get(suffix, "png")

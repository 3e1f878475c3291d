"""The commands of a user and their options. Each option states its unit and range."""

from __future__ import annotations

import enum
from pathlib import Path
from typing import Annotated

import typer

from rdeic.cli import completing
from rdeic.cli.options import (
    DEVICE,
    IN,
    Compile,
    Device,
    Force,
    Jobs,
    MaxMemory,
    MaxPixels,
    Out,
    PreserveTimes,
    Threads,
)
from rdeic.container.container import MAX_PIXELS

VERIFY = (
    "Decode the bits again and compare, before anything is written. Default: where it costs little, which is with "
    "--bpp and --bytes, and for models with a large encoder."
)


ENCODER_PRECISION = (
    "What is computed in up to the bits; each makes other files, which decode as exactly. Default, auto: bf16 for mini "
    "on a CPU that has instructions for it, fp32 elsewhere."
)
PRECISION = (
    "What is computed in after the bits; pictures differ where nobody sees it. Default, auto: bf16 for mini on a "
    "CPU that has instructions for it, else fp32 on a CPU and that of the stored weights on a GPU."
)
SCALE = (
    "Whether --bpp and --bytes may store the picture smaller, where that looks better or nothing else is small enough; "
    "it is restored at its own size. --no-scale refuses instead."
)

SERVE_JOBS = "Requests that are computed at a time; they share the processor."


class Precision(enum.StrEnum):
    """What networks can compute in."""

    auto = "auto"
    fp32 = "fp32"
    bf16 = "bf16"
    fp16 = "fp16"


class Format(enum.StrEnum):
    """Kinds of picture files that can be written."""

    png = "png"
    jpg = "jpg"
    webp = "webp"


def compress(
    inputs: Annotated[
        list[str],
        typer.Argument(metavar="IN...", help=IN, show_default=False, autocompletion=completing.pictures),
    ],
    out: Out = None,
    quality: Annotated[
        float | None, typer.Option(min=0, max=100, help="Quality, 0 to 100. Default: 50.")
    ] = None,
    bpp: Annotated[
        float | None, typer.Option(min=1e-6, help="Wanted bits per pixel, met as closely as possible.")
    ] = None,
    max_bytes: Annotated[
        int | None, typer.Option("--bytes", min=1, metavar="N", help="Best quality in at most N bytes.")
    ] = None,
    model: Annotated[
        str,
        typer.Option(
            metavar="NAME|DIR", help="Installed model, or a model folder.", autocompletion=completing.models
        ),
    ] = "mini",
    seed: Annotated[
        int, typer.Option(min=0, max=2**32 - 1, help="Seed of the decoder's noise; 0 is free.")
    ] = 0,
    device: Device = None,
    compile: Compile = None,
    encoder_precision: Annotated[Precision, typer.Option(help=ENCODER_PRECISION)] = Precision.auto,
    scale: Annotated[bool, typer.Option("--scale/--no-scale", help=SCALE)] = True,
    verify: Annotated[bool | None, typer.Option("--verify/--no-verify", help=VERIFY)] = None,
    metadata: Annotated[
        bool, typer.Option("--metadata", help="Keep date, camera, comment and the colour profile's name.")
    ] = False,
    location: Annotated[
        bool, typer.Option("--location", help="Keep the GPS position too; implies --metadata.")
    ] = False,
    background: Annotated[
        str | None, typer.Option(metavar="COLOUR", help="Put behind transparent pixels: white, #rrggbb, ...")
    ] = None,
    max_pixels: MaxPixels = MAX_PIXELS,
    max_memory: MaxMemory = None,
    jobs: Jobs = None,
    threads: Threads = None,
    preserve_times: PreserveTimes = False,
    force: Force = False,
) -> None:
    """Compress pictures: photo.png => photo.rdeic."""
    if sum(goal is not None for goal in (quality, bpp, max_bytes)) > 1:
        raise typer.BadParameter("choose one of --quality, --bpp and --bytes")
    from rdeic.cli import coding
    from rdeic.codec.weights import Settings

    goal, keep = coding.Goal(quality, bpp, max_bytes, seed, scale), coding.Keep(metadata, location)
    place = Settings(device, compile, encoder_precision.value, max_memory=max_memory)
    run = coding.RunOptions(force, preserve_times, jobs, threads)
    options = coding.CompressOptions(out, goal, model, place, verify, background, keep, max_pixels, run)
    coding.compress(inputs, options)


def decompress(
    inputs: Annotated[
        list[str],
        typer.Argument(metavar="IN...", help=IN, show_default=False, autocompletion=completing.rdeic_files),
    ],
    out: Out = None,
    detail: Annotated[
        float,
        typer.Option(min=0, max=10, help="Amount of generated detail: below 1 smoother, above 1 sharper."),
    ] = 1.0,
    steps: Annotated[
        int | None, typer.Option(min=1, help="Denoising steps. Default: as the file says.")
    ] = None,
    kind: Annotated[
        Format | None, typer.Option("--format", help="Default: that of the output's suffix, or else png.")
    ] = None,
    model: Annotated[
        str | None,
        typer.Option(
            metavar="NAME|DIR",
            help="Default: the installed model that made the file.",
            autocompletion=completing.models,
        ),
    ] = None,
    device: Device = None,
    compile: Compile = None,
    precision: Annotated[Precision, typer.Option(help=PRECISION)] = Precision.auto,
    max_pixels: MaxPixels = MAX_PIXELS,
    max_memory: MaxMemory = None,
    jobs: Jobs = None,
    threads: Threads = None,
    preserve_times: PreserveTimes = False,
    force: Force = False,
) -> None:
    """Restore pictures: photo.rdeic => photo.png."""
    from rdeic.cli import coding
    from rdeic.codec.weights import Settings

    wanted = None if kind is None else kind.value
    place = Settings(device, compile, precision=precision.value, max_memory=max_memory)
    run = coding.RunOptions(force, preserve_times, jobs, threads)
    options = coding.DecompressOptions(out, detail, steps, wanted, model, place, max_pixels, run)
    coding.decompress(inputs, options)


def serve(
    host: Annotated[
        str, typer.Option(help="Address to listen on; other than localhost needs a token.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65_535, help="Port; 0 for any that is free.")] = 7334,
    token: Annotated[
        str | None,
        typer.Option(help="That clients must send. Default: RDEIC_TOKEN; if needed and not set, a new one."),
    ] = None,
    model: Annotated[
        str, typer.Option(metavar="NAME|DIR", help="Installed model, or a model folder.")
    ] = "mini",
    device: Device = None,
    jobs: Annotated[int, typer.Option("--jobs", "-j", min=1, metavar="N", help=SERVE_JOBS)] = 1,
    threads: Threads = None,
    waiting: Annotated[
        int, typer.Option(min=0, metavar="N", help="Requests that may wait for their turn.")
    ] = 16,
    max_bytes: Annotated[
        int, typer.Option(min=1, metavar="N", help="Of the body of a request.")
    ] = 64_000_000,
    max_pixels: MaxPixels = 50_000_000,
    seconds: Annotated[float, typer.Option(min=1, help="That one request may be computed.")] = 300,
) -> None:
    """Serve a web page and an HTTP API, for this machine only unless told otherwise; pip install 'rdeic[serve]'."""
    from rdeic.cli import serving

    serving.serve(
        serving.ServeOptions(
            host, port, token, model, device, threads, jobs, waiting, max_bytes, max_pixels, seconds
        )
    )


def info(
    inputs: Annotated[
        list[str],
        typer.Argument(metavar="FILE...", help=IN, show_default=False, autocompletion=completing.rdeic_files),
    ],
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object per line and file.")] = False,
) -> None:
    """Show what the headers of .rdeic files say, and their metadata."""
    from rdeic.cli import listing

    listing.info(inputs, as_json)


def models(
    folders: Annotated[
        list[Path] | None, typer.Argument(metavar="DIR", help="Further model folders.", show_default=False)
    ] = None,
) -> None:
    """List the installed models, in the package and in the folder RDEIC_MODELS, with sizes and rates."""
    from rdeic.cli import listing

    listing.models(folders or [])


def doctor(
    device: Annotated[str | None, typer.Option(help=f"Where the self-test runs. {DEVICE}")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object.")] = False,
) -> None:
    """Check this installation: versions, devices, models, a small picture there and back; say how to mend it.

    Exit status 1 if something is wrong.
    """
    from rdeic.cli import checkup

    checkup.doctor(device, as_json)

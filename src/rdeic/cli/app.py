"""The commands and their options. Each option states its unit and range."""

from __future__ import annotations

import enum
from pathlib import Path
from typing import Annotated

import typer

import rdeic
from rdeic.cli import status
from rdeic.container import MAX_PIXELS
from rdeic.foreign import download

app = typer.Typer(
    help="Extreme image compression: photographs at 0.02 to 0.15 bits per pixel.",
    add_completion=False,
    rich_markup_mode=None,  # plain help: importing rich would double the start-up time
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

IN = "Files, directories (searched recursively) and patterns; - is stdin."
OUT = "Output file; a directory for several inputs; - is stdout. Default: beside the input."
DEVICE = "Device such as cpu or cuda:1. Default: the first GPU, or else the CPU."
VERIFY = (
    "Decode the bits again and compare, before anything is written. Default: where it costs little, which is with "
    "--bpp and --bytes, and for models with a large encoder."
)
LARGEST = "Refuse pictures of more pixels, width times height."
FORCE = "Overwrite existing outputs; otherwise a batch skips those newer than their input."


class Format(enum.StrEnum):
    """Kinds of picture files that can be written."""

    png = "png"
    jpg = "jpg"
    webp = "webp"


class Precision(enum.StrEnum):
    """Floating-point formats of stored weights."""

    fp16 = "fp16"
    fp32 = "fp32"


class Protocol(enum.StrEnum):
    """How `rdeic evaluate` prepares pictures."""

    as_is = "as-is"
    crop_768 = "crop-768"


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"rdeic {rdeic.__version__}")
        raise typer.Exit()


@app.callback()
def _program(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    pass


@app.command()
def compress(
    inputs: Annotated[list[str], typer.Argument(metavar="IN...", help=IN, show_default=False)],
    out: Annotated[str | None, typer.Option("-o", "--output", metavar="OUT|DIR", help=OUT)] = None,
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
        str, typer.Option(metavar="NAME|DIR", help="Installed model, or a model folder.")
    ] = "mini",
    seed: Annotated[
        int, typer.Option(min=0, max=2**32 - 1, help="Seed of the decoder's noise; 0 is free.")
    ] = 0,
    device: Annotated[str | None, typer.Option(help=DEVICE)] = None,
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
    max_pixels: Annotated[int, typer.Option(min=1, metavar="N", help=LARGEST)] = MAX_PIXELS,
    force: Annotated[bool, typer.Option("--force", "-f", help=FORCE)] = False,
) -> None:
    """Compress pictures: photo.png => photo.rdeic."""
    if sum(goal is not None for goal in (quality, bpp, max_bytes)) > 1:
        raise typer.BadParameter("choose one of --quality, --bpp and --bytes")
    from rdeic.cli import coding

    goal, keep = coding.Goal(quality, bpp, max_bytes, seed), coding.Keep(metadata, location)
    options = coding.CompressOptions(out, goal, model, device, verify, background, keep, max_pixels, force)
    coding.compress(inputs, options)


@app.command()
def decompress(
    inputs: Annotated[list[str], typer.Argument(metavar="IN...", help=IN, show_default=False)],
    out: Annotated[str | None, typer.Option("-o", "--output", metavar="OUT|DIR", help=OUT)] = None,
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
        str | None, typer.Option(metavar="NAME|DIR", help="Default: the installed model that made the file.")
    ] = None,
    device: Annotated[str | None, typer.Option(help=DEVICE)] = None,
    max_pixels: Annotated[int, typer.Option(min=1, metavar="N", help=LARGEST)] = MAX_PIXELS,
    force: Annotated[bool, typer.Option("--force", "-f", help=FORCE)] = False,
) -> None:
    """Restore pictures: photo.rdeic => photo.png."""
    from rdeic.cli import coding

    wanted = None if kind is None else kind.value
    options = coding.DecompressOptions(out, detail, steps, wanted, model, device, max_pixels, force)
    coding.decompress(inputs, options)


@app.command()
def info(
    inputs: Annotated[list[str], typer.Argument(metavar="FILE...", help=IN, show_default=False)],
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object per line and file.")] = False,
) -> None:
    """Show what the headers of .rdeic files say, and their metadata."""
    from rdeic.cli import listing

    listing.info(inputs, as_json)


@app.command()
def models(
    folders: Annotated[
        list[Path] | None, typer.Argument(metavar="DIR", help="Further model folders.", show_default=False)
    ] = None,
) -> None:
    """List the installed models, in the package and in the folder RDEIC_MODELS, with sizes and rates."""
    from rdeic.cli import listing

    listing.models(folders or [])


@app.command()
def import_checkpoint(
    out: Annotated[Path, typer.Option("-o", "--output", metavar="DIR", help="Model folder to write.")],
    rdeic: Annotated[
        list[Path] | None,
        typer.Option(
            metavar="CKPT",
            help="Checkpoint of the authors; again for a further, higher rate. Without any: untrained networks, to "
            "start training from.",
        ),
    ] = None,
    sd: Annotated[
        str,
        typer.Option(
            metavar="PATH|HUB_ID",
            help="Stable Diffusion 2.1-base: .ckpt or .safetensors, folder with unet, vae and text_encoder, or "
            "NAME/ID[@REVISION] on the hub.",
        ),
    ] = download.MIRROR,
    steps: Annotated[
        list[int] | None,
        typer.Option(
            min=1,
            max=255,
            help="Denoising steps that --rdeic was fine-tuned for, again for each. Default: from a name that ends in "
            "_step5, else 2.",
        ),
    ] = None,
    config: Annotated[
        Path | None, typer.Option(help="Model configuration (JSON). Default: that of the paper, sd21.")
    ] = None,
    precision: Annotated[Precision, typer.Option(help="Of the stored weights.")] = Precision.fp16,
    offline: Annotated[bool, typer.Option("--offline", help="Use the hub's cache only.")] = False,
) -> None:
    """Turn Stable Diffusion's and the authors' checkpoints into a model folder."""
    from rdeic.cli import importing

    importing.import_checkpoints(sd, rdeic or [], steps or [], out, config, precision.value, offline)


@app.command()
def train(
    stage: Annotated[
        str, typer.Argument(help="autoencoder, prior, independent or fixed-step.", show_default=False)
    ],
    config: Annotated[Path, typer.Option(help="Training configuration (TOML).", show_default=False)],
    data: Annotated[
        list[Path] | None,
        typer.Option(
            metavar="DIR|TAR", help="Folder of pictures and tar files, or one of these; again for more."
        ),
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on from the latest checkpoint.")] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Time a few steps, say what all would cost; write nothing.")
    ] = False,
    out: Annotated[
        Path, typer.Option("-o", "--output", metavar="DIR", help="Checkpoints, log, and at the end model.")
    ] = Path("runs"),
) -> None:
    """Train one stage of a model."""
    from rdeic.training import config as settings
    from rdeic.training import run

    finished = run(stage, settings.read(config), data or [], resume, dry_run, out)
    if finished is None and not dry_run:
        # A scheduler shall start it again, and a script not go on to the next stage.
        raise typer.Exit(status.INTERRUPTED)


@app.command()
def evaluate(
    dataset: Annotated[
        Path, typer.Argument(metavar="DATASET_DIR", help="Folder of pictures.", show_default=False)
    ],
    out: Annotated[
        Path,
        typer.Option(
            "-o", "--output", metavar="REPORT", help="Folder of the report; a run resumes what is there."
        ),
    ],
    codecs: Annotated[
        list[str] | None,
        typer.Option(
            "--codec",
            metavar="NAME[/N][:SETTING,...]|TOML",
            help="Codec, at 1/N of the size, at settings of your own; again for more. Default: rdeic.",
        ),
    ] = None,
    models: Annotated[
        list[str] | None,
        typer.Option(
            "--model", metavar="NAME|DIR", help="Model of codec rdeic; again for more. Default: mini."
        ),
    ] = None,
    qualities: Annotated[
        str, typer.Option(metavar="Q,...", help="Qualities of codec rdeic. Default: 0,25,50,75,100.")
    ] = "",
    bpps: Annotated[str, typer.Option(metavar="B,...", help="Wanted bits per pixel of codec rdeic.")] = "",
    commands: Annotated[
        list[str] | None,
        typer.Option(
            "--command",
            metavar="'NAME | SETTING,... | ENCODE | DECODE'",
            help="Programs as a codec; again for more. Placeholders such as {input}: docs/evaluation.md.",
        ),
    ] = None,
    metrics: Annotated[str, typer.Option(metavar="NAME,...", help="Metrics. Default: all there are.")] = "",
    perceptual: Annotated[
        str | None,
        typer.Option(metavar="FILE", help="SqueezeNet 1.0 safetensors, for the metric perceptual."),
    ] = None,
    protocol: Annotated[
        Protocol, typer.Option(help="How pictures are prepared; crop-768 for Tecnick and CLIC2020.")
    ] = Protocol.as_is,
    published: Annotated[
        str | None,
        typer.Option(metavar="DATASET", help="Draw published curves too: Kodak, Tecnick, CLIC2020."),
    ] = None,
    anchor: Annotated[
        str | None, typer.Option(metavar="CODEC", help="What BD-rates are against. Default: a fitting one.")
    ] = None,
    jobs: Annotated[
        int | None,
        typer.Option(min=1, help="Pictures at once; 1 for undisturbed times. Default: one for each core."),
    ] = None,
    show: Annotated[
        int, typer.Option(min=0, help="Of how many pictures the report keeps the restored ones.")
    ] = 4,
    timeout: Annotated[
        float, typer.Option(min=1, help="Seconds for one picture, start and metrics included.")
    ] = 600,
    device: Annotated[str | None, typer.Option(help=DEVICE)] = None,
) -> None:
    """Measure codecs on real files and write a report, as a web page with its tables."""
    from rdeic.cli import evaluating

    wanted = codecs or ([] if commands else ["rdeic"])
    evaluating.evaluate(
        dataset,
        out,
        evaluating.EvaluateOptions(
            codecs=wanted,
            models=models or ["mini"],
            qualities=qualities,
            bpps=bpps,
            commands=commands or [],
            metrics=metrics,
            perceptual=perceptual,
            protocol=protocol.value,
            published=published,
            anchor=anchor,
            jobs=jobs,
            show=show,
            timeout=timeout,
            device=device,
        ),
    )


@app.command()
def bench(
    inputs: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="PICTURE...",
            help="Files, directories and patterns. Default: five generated pictures.",
            show_default=False,
        ),
    ] = None,
    models: Annotated[
        list[str] | None,
        typer.Option(
            "--model",
            metavar="NAME|DIR",
            help="Installed model, or a model folder; again for more. Default: mini.",
        ),
    ] = None,
    quality: Annotated[float, typer.Option(min=0, max=100, help="Quality, 0 to 100.")] = 50,
    steps: Annotated[
        list[int] | None,
        typer.Option(min=1, metavar="L", help="Denoising steps; again for more. Default: 2 and 5."),
    ] = None,
    runs: Annotated[int, typer.Option(min=1, help="Of each picture.")] = 3,
    size: Annotated[str, typer.Option(metavar="WxH", help="Pixels of generated pictures.")] = "768x512",
    device: Annotated[str | None, typer.Option(help=DEVICE)] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object, with all digits.")] = False,
) -> None:
    """Measure how long encoding, denoising and the rest of decoding take on this machine.

    The table is that of the paper's Tables I and III: means and standard deviations in seconds, the model loaded.
    """
    from rdeic.cli import benching

    options = benching.BenchOptions(models or ["mini"], quality, steps or [2, 5], runs, size, device, as_json)
    benching.bench(inputs or [], options)

"""The commands that make and measure models, and their options. Each option states its unit and range."""

from __future__ import annotations

import enum
from pathlib import Path
from typing import Annotated

import typer

from rdeic.checkpoints.foreign import download
from rdeic.cli import completing, status
from rdeic.cli.options import Device


class Precision(enum.StrEnum):
    """Floating-point formats of stored weights."""

    fp16 = "fp16"
    fp32 = "fp32"


class Protocol(enum.StrEnum):
    """How `rdeic evaluate` prepares pictures."""

    as_is = "as-is"
    crop_768 = "crop-768"


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


def train(
    stage: Annotated[
        str,
        typer.Argument(
            help="autoencoder, prior, independent or fixed-step.",
            show_default=False,
            autocompletion=completing.stages,
        ),
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


# Of `evaluate`.
Dataset = Annotated[
    Path, typer.Argument(metavar="DATASET_DIR", help="Folder of pictures.", show_default=False)
]
Report = Annotated[
    Path,
    typer.Option(
        "-o", "--output", metavar="REPORT", help="Folder of the report; a run resumes what is there."
    ),
]
Codecs = Annotated[
    list[str] | None,
    typer.Option(
        "--codec",
        metavar="NAME[/N][:SETTING,...]|TOML",
        help="Codec, at 1/N of the size, at settings of your own; again for more. Default: rdeic.",
    ),
]
EvaluatedModels = Annotated[
    list[str] | None,
    typer.Option(
        "--model",
        metavar="NAME|DIR",
        help="Model of codec rdeic; again for more. Default: mini.",
        autocompletion=completing.models,
    ),
]
Qualities = Annotated[
    str, typer.Option(metavar="Q,...", help="Qualities of codec rdeic. Default: 0,25,50,75,100.")
]
Bpps = Annotated[str, typer.Option(metavar="B,...", help="Wanted bits per pixel of codec rdeic.")]
Commands = Annotated[
    list[str] | None,
    typer.Option(
        "--command",
        metavar="'NAME | SETTING,... | ENCODE | DECODE'",
        help="Programs as a codec; again for more. Placeholders such as {input}: docs/evaluation.md.",
    ),
]
Metrics = Annotated[str, typer.Option(metavar="NAME,...", help="Metrics. Default: all there are.")]
Perceptual = Annotated[
    str | None,
    typer.Option(metavar="FILE", help="SqueezeNet 1.0 safetensors, for the metric perceptual."),
]
PreparedBy = Annotated[
    Protocol, typer.Option(help="How pictures are prepared; crop-768 for Tecnick and CLIC2020.")
]
Published = Annotated[
    str | None,
    typer.Option(metavar="DATASET", help="Draw published curves too: Kodak, Tecnick, CLIC2020."),
]
Anchor = Annotated[
    str | None, typer.Option(metavar="CODEC", help="What BD-rates are against. Default: a fitting one.")
]
PicturesAtOnce = Annotated[
    int | None,
    typer.Option(min=1, help="Pictures at once; 1 for undisturbed times. Default: one for each core."),
]
Shown = Annotated[int, typer.Option(min=0, help="Of how many pictures the report keeps the restored ones.")]
Timeout = Annotated[float, typer.Option(min=1, help="Seconds for one picture, start and metrics included.")]


def evaluate(
    dataset: Dataset,
    out: Report,
    codecs: Codecs = None,
    models: EvaluatedModels = None,
    qualities: Qualities = "",
    bpps: Bpps = "",
    commands: Commands = None,
    metrics: Metrics = "",
    perceptual: Perceptual = None,
    protocol: PreparedBy = Protocol.as_is,
    published: Published = None,
    anchor: Anchor = None,
    jobs: PicturesAtOnce = None,
    show: Shown = 4,
    timeout: Timeout = 600,
    device: Device = None,
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


def bench(
    inputs: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="PICTURE...",
            help="Files, directories and patterns. Default: five generated pictures.",
            show_default=False,
            autocompletion=completing.pictures,
        ),
    ] = None,
    models: Annotated[
        list[str] | None,
        typer.Option(
            "--model",
            metavar="NAME|DIR",
            help="Installed model, or a model folder; again for more. Default: mini.",
            autocompletion=completing.models,
        ),
    ] = None,
    quality: Annotated[float, typer.Option(min=0, max=100, help="Quality, 0 to 100.")] = 50,
    steps: Annotated[
        list[int] | None,
        typer.Option(min=1, metavar="L", help="Denoising steps; again for more. Default: 2 and 5."),
    ] = None,
    runs: Annotated[int, typer.Option(min=1, help="Of each picture.")] = 3,
    size: Annotated[
        str | None, typer.Option(metavar="WxH", help="Pixels of generated pictures. Default: 768x512.")
    ] = None,
    megapixels: Annotated[
        str | None,
        typer.Option(
            metavar="MP,...",
            help="Sizes whose seconds and memory are measured, each in a process of its own. Default: 0.1,0.4,1,4, or "
            "none where pictures, their size or several models are named.",
        ),
    ] = None,
    device: Device = None,
    json: Annotated[
        str | None, typer.Option(metavar="FILE", help="Write all that was measured, as JSON; - is stdout.")
    ] = None,
    plot: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Draw what sizes cost: .svg, .png or .jpg.")
    ] = None,
) -> None:
    """Measure how long coding takes on this machine, stage by stage and by the size of pictures, and its memory.

    The first table is that of the paper's Tables I and III: means and standard deviations in seconds, the model loaded.
    """
    from rdeic.cli import benching

    options = benching.BenchOptions(
        models or ["mini"], quality, steps or [2, 5], runs, size, megapixels, device, json, plot
    )
    benching.bench(inputs or [], options)

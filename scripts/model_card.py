r"""Writes the model card; every figure in it comes from a log or a measurement.

    python scripts/model_card.py --manifest MANIFEST.csv --hardware "2 cores of ..." \
        --stage autoencoder configs/mini/autoencoder.toml autoencoder.log --stage prior ... \
        --rates rate_distortion.csv --speed speed.csv [--start "..."] [--observations seen.md] -o docs/model_card.md

The manifest has a line for each training picture: repository, licence_class, width, height, original (its size before).
A log is what `rdeic train` printed, both streams. The CSV files are those of benchmarks/rate_distortion.py and
benchmarks/speed.py, and bring along the command and the machine that made them. --start says what the first stage
began with, if not with fresh weights; --observations is Markdown by somebody who looked at the pictures.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import rdeic
from rdeic.checkpoints import registry
from rdeic.evaluation import report
from rdeic.evaluation.report import Stored
from rdeic.system import files
from training_record import Stage, data_section, read_stage, training_section

PROTOCOL = """\
Means over the pictures. Other codecs, where there are any, come at the size of rdeic's file, picture by picture, each
at the best of full size and 1/2, 1/3 and 1/4 of it. bpp counts all bytes of the file over the original pixels; PSNR and
MS-SSIM are in RGB; a lower perceptual distance is better, a higher SSIMULACRA2, and gradients (over the original's)
near 1."""

LIMITS = """\
* **It makes things up.** Texture, leaves, hair, letters and small faces are plausible inventions, not records. Do not
  use it where a detail may be evidence: medicine, law, science, number plates, documents.
* **Text and small faces** are the first to go at these rates.
* **What it has seen decides what it invents.** The training pictures are what public repositories happen to hold; no
  part of the world, no group of people and no subject is represented evenly.
* **Files belong to their weights.** A file decodes only with the very weights that made it (its fingerprint);
  retraining makes a new model, not a new version of this one.
* Pictures are 8-bit sRGB inside; transparency, depth beyond 8 bits and other colour spaces are lost."""


class Column(NamedTuple):
    """One of rate_distortion.csv in a table; older files lack some."""

    name: str
    title: str
    decimals: int
    unit: str = ""


COLUMNS = (
    Column("bytes", "bytes", 0),
    Column("bpp", "bpp", 4),
    Column("psnr", "PSNR", 2, " dB"),
    Column("ms_ssim", "MS-SSIM", 4),
    Column("perceptual", "perceptual", 4),
    Column("gradients", "gradients", 3),
    Column("ssimulacra2", "SSIMULACRA2", 1),
    Column("compress_s", "compress", 2, " s"),
    Column("decompress_s", "decompress", 2, " s"),
)


def results_section(tables: list[Stored]) -> Iterator[str]:
    yield "## Results"
    yield PROTOCOL
    for table in tables:
        means = [row for row in table.rows if row["image"] == "mean"]
        shown = [column for column in COLUMNS if any(row.get(column.name) for row in means)]
        header = ("codec", "setting", *(column.title for column in shown))
        lines = [(row["codec"], row["setting"], *(cell(row, one) for one in shown)) for row in means]
        yield report.markdown(header, lines)
        yield "\n".join(f"* {remark}" for remark in table.remarks)


def cell(row: dict[str, str], column: Column) -> str:
    value = row.get(column.name)
    return f"{float(value):.{column.decimals}f}{column.unit}" if value else "-"


def speed_section(table: Stored) -> Iterator[str]:
    yield "## Speed"
    lines = [
        (
            row["what"],
            f"{float(row['seconds']):.3f} s",
            f"{float(row['slowest']):.3f} s",
            f"{float(row['peak_mb']):.0f} MB" if row["peak_mb"] else "",
        )
        for row in table.rows
    ]
    yield report.markdown(("what", "median", "slowest", "peak memory"), lines)
    yield "\n".join(f"* {remark}" for remark in table.remarks)


def limits_section(tables: list[Stored], stages: list[Stage], observations: str) -> Iterator[str]:
    yield "## Limits"
    yield "\n".join([*defeats(tables), *taught(stages), LIMITS])
    if observations:
        yield "### Seen by eye"
        yield observations.strip()


def defeats(tables: list[Stored]) -> Iterator[str]:
    """Where a conventional codec measures better at the same bytes."""
    means = [row for table in tables for row in table.rows if row["image"] == "mean"]
    ours = {row["setting"]: row for row in means if row["codec"] == "rdeic"}
    for codec in dict.fromkeys(row["codec"] for row in means if row["codec"] != "rdeic"):
        theirs = [row for row in means if row["codec"] == codec]
        counts = []
        for name, title, sign in (
            ("psnr", "PSNR", 1),
            ("ms_ssim", "MS-SSIM", 1),
            ("perceptual", "perceptual", -1),
            ("ssimulacra2", "SSIMULACRA2", 1),
        ):
            pairs = [(row[name], ours[row["setting"]][name]) for row in theirs if row.get(name)]
            if name == "ssimulacra2" and not pairs:  # of an older file
                continue
            better = sum(sign * (float(a) - float(b)) > 0 for a, b in pairs)
            counts.append(f"{title} at {better} of {len(pairs)}")
        yield f"* At rdeic's file sizes, {codec} measures better in {', '.join(counts)} settings (means, table above)."


def taught(stages: list[Stage]) -> Iterator[str]:
    judges = {
        Path(s.config.perceptual).stem for s in stages if s.config.perceptual and s.config.loss.perceptual
    }
    if judges:
        yield (
            f"* The perceptual distance above is no independent judge where it is the one training minimised "
            f"({', '.join(sorted(judges))})."
        )


def introduction(model: str) -> Iterator[str]:
    described = registry.describe(registry.find(model))
    config = described.config
    levels = config.compression.quality_levels
    yield f"# Model card: {config.name}"
    yield (
        f"The weights that come with the package: fingerprint `{registry.fingerprint(described.folder).hex()}`, "
        f"{described.weight_bytes / 1e6:.1f} MB. {'One network for all qualities' if levels else 'One fixed rate'}, "
        f"denoising steps: {config.diffusion.default_steps}, from a relay start at {config.diffusion.relay_start} of "
        f"{config.diffusion.train_steps}. What the parts are: [architecture.md](architecture.md)."
    )
    yield "Made, every figure of it, by"
    yield f"```\n{report.command()}\n```"


def card(options: argparse.Namespace) -> str:
    stages = [read_stage(name, Path(config), Path(log)) for name, config, log in options.stage]
    rates = [report.read_csv(path) for path in options.rates]
    blocks = [*introduction(options.model), *data_section(report.read_csv(options.manifest))]
    blocks += training_section(stages, options.hardware, options.start)
    blocks += results_section(rates)
    blocks += speed_section(report.read_csv(options.speed)) if options.speed else ()
    observations = options.observations.read_text(encoding="utf-8") if options.observations else ""
    blocks += limits_section(rates, stages, observations)
    return "\n\n".join(blocks) + "\n"


def parser() -> argparse.ArgumentParser:
    options = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    options.add_argument("--model", default="mini", metavar="NAME|DIR")
    options.add_argument("--manifest", type=Path, required=True, metavar="CSV")
    options.add_argument("--hardware", required=True, help="what the training ran on")
    options.add_argument(
        "--stage", nargs=3, action="append", required=True, metavar=("NAME", "CONFIG", "LOG"), help="in order"
    )
    options.add_argument("--start", default="", help="what the first stage began with: a sentence")
    options.add_argument("--rates", type=Path, action="append", required=True, metavar="CSV")
    options.add_argument("--speed", type=Path, metavar="CSV")
    options.add_argument("--observations", type=Path, metavar="MD")
    options.add_argument("-o", "--output", type=Path, default=Path("docs/model_card.md"))
    return options


if __name__ == "__main__":
    arguments = parser().parse_args()
    try:
        files.atomic_write(arguments.output, card(arguments).encode())
    except (rdeic.RdeicError, OSError) as error:
        sys.exit(f"model_card: {error}")

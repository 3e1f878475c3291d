"""Seconds, memory and errors of every part of a model at several picture sizes, on a CPU or a GPU.

    python benchmarks/full_size.py [MODEL | --config sd21] [--device cuda] [--precision fp16|bf16|fp32]
        [--encoder-precision ...] [--sizes 768x512,1920x1080] [--parts encode,bits,latent,step,decode,whole]
        [--ways library,eager,graphs,compile] [--runs 3] [--threads 2] [--profile FILE] [-o full_size.csv]

MODEL is an installed one or a folder; --config makes one with random weights. Networks run in several ways:

    library   as they are, with the library's group norm, which leaves channels-last
    eager     as they are (nn/norm.py); without a GPU the same
    graphs    recorded as CUDA graphs (nn/graphs.py); without a GPU the same, by way of the cache
    compile   by torch.compile, with the library's group norm

Each way's result is compared with that of the library in float32 before it is timed; one too far away is not timed, and
the exit status is 1. Printed is a Markdown table for each size: seconds are medians, on a GPU between two events; CPU
seconds, what the process used in the meantime; memory, what a part takes beyond the loaded model, whose own size is
printed below (of a graph, its inputs and result). Operations are counted on the networks' shapes, a multiplication and
an addition being two; the entropy coder has none worth counting.
"""

from __future__ import annotations

import argparse
import dataclasses
import math
from collections.abc import Sequence
from pathlib import Path

import torch

import program
import rdeic
from full_size_parts import PARTS, WAYS, Meter, Row, Size, Subject, measure, profile
from rdeic.checkpoints import checkpoints, registry
from rdeic.config import PRESETS, SD21, ModelConfig
from rdeic.evaluation import report
from rdeic.model.model import Rdeic

PRECISIONS = {"fp16": torch.float16, "bf16": torch.bfloat16, "fp32": torch.float32}
SIZES = "512x512,768x512,1920x1080"
TINY = dataclasses.replace(  # sd21 in small, to try the program with
    SD21,
    name="tiny",
    autoencoder=dataclasses.replace(SD21.autoencoder, widths=(16, 16, 32, 32), blocks_per_level=1),  # type: ignore[arg-type]
    compression=dataclasses.replace(
        SD21.compression,
        width=32,
        y_channels=32,
        slices=(8, 24),
        blocks=1,
        context_widths=(16, 16),
        codebook_size=64,
    ),
    unet=dataclasses.replace(SD21.unet, widths=(32, 64, 64, 64), blocks_per_level=1, head_channels=16),
    control=dataclasses.replace(SD21.control, ratio=0.5, head_channels=8),
)
CONFIGS = {**PRESETS, "tiny": TINY}


def weight_bytes(model: Rdeic) -> int:
    return sum(value.nbytes for value in model.state_dict().values())


def table(rows: list[Row]) -> str:
    header = ("part", "way", "seconds", "CPU seconds", "TFLOP", "TFLOP/s", "memory", "error")
    lines = [
        (
            row.part,
            row.way,
            "wrong" if math.isnan(row.seconds) else f"{row.seconds:.4f}",
            "" if math.isnan(row.cpu_seconds) else f"{row.cpu_seconds:.2f}",
            f"{row.operations / 1e12:.2f}" if row.operations else "",
            f"{row.operations / row.seconds / 1e12:.3f}" if row.operations else "",
            "" if row.memory is None else f"{row.memory / 2**30:.2f} GiB",
            "" if row.error is None else f"{row.error:.1e}",
        )
        for row in rows
    ]
    return report.markdown(header, lines)


def random_model(config: ModelConfig, device: torch.device) -> Rdeic:
    """In float32, ready to code."""
    torch.manual_seed(0)
    with device:
        model = Rdeic(config)
    model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return model.prepare()


def load(options: argparse.Namespace, device: torch.device) -> tuple[Rdeic, torch.dtype]:
    """The model in float32, and the precision to measure."""
    asked = PRECISIONS.get(options.precision)
    if options.config:
        model = random_model(CONFIGS[options.config], device)
        return model, asked or (torch.bfloat16 if device.type == "cuda" else torch.float32)
    model, _ = checkpoints.load_model(registry.find(options.model), device, precision=asked)
    precision = model.precision
    return model.set_precision(torch.float32).prepare(), precision


def run(options: argparse.Namespace) -> list[Row]:
    """Prints and writes the tables -> their rows."""
    program.use_threads(options.threads)
    device = torch.device(options.device)
    blank = Row("", "load", "", math.nan, math.nan, None, 0.0, None)
    loading, (model, precision) = Meter(device, 1).measure(lambda: load(options, device), blank)
    meter, rows, profiles = Meter(device, options.runs), [loading], []
    for size in options.sizes:
        with torch.inference_mode():
            model.set_precision(torch.float32).prepare()
            subject = Subject.of(model, size, device)
            model.set_precision(precision, PRECISIONS[options.encoder_precision]).prepare()
            found = measure(model, subject, options.parts, options.ways, meter)
            if options.profile:
                profiles.append(f"{size.width}x{size.height} {profile(model, subject, device)}")
        print(f"{size.width}x{size.height}\n\n{table(found)}\n", flush=True)
        rows += found
    remarks = program.remarks(
        f"{device}, {precision}, E {options.encoder_precision}, runs: {options.runs}",
        f"the loaded weights: {weight_bytes(model) / 2**30:.2f} GiB",
    )
    if options.profile:
        options.profile.write_text("\n".join(profiles), encoding="utf-8")
    program.tell(table([loading]), remarks, options.output, Row._fields, rows)
    return rows


def main(argv: Sequence[str] | None = None) -> int:
    """-> exit status: 1 if a result was wrong. Raises RdeicError."""
    options = parser().parse_args(argv)
    if (options.model is None) == (options.config is None):
        raise rdeic.ConfigError("give a model or --config")
    return int(any(math.isnan(row.seconds) for row in run(options)))


def sizes(text: str) -> list[Size]:
    return [Size(*map(int, one.split("x"))) for one in text.split(",")]


def parser() -> argparse.ArgumentParser:
    options = program.parser(__doc__, "--device", "--threads", "--runs", "-o --output")
    options.set_defaults(runs=1, device="cuda" if torch.cuda.is_available() else "cpu")
    options.add_argument(
        "model", metavar="MODEL", nargs="?", help="an installed model's name, or a model folder"
    )
    options.add_argument("--config", choices=CONFIGS, help="random weights instead of a model's")
    options.add_argument("--precision", choices=PRECISIONS, help="default: as `rdeic` would choose")
    options.add_argument("--encoder-precision", choices=PRECISIONS, default="fp32")
    options.add_argument("--sizes", type=sizes, default=sizes(SIZES), metavar="WxH,...")
    options.add_argument("--parts", type=program.among(list(PARTS)), default=list(PARTS), metavar="PART,...")
    options.add_argument(
        "--ways", type=program.among(WAYS), default=["library", "eager", "graphs"], metavar="WAY,..."
    )
    options.add_argument("--profile", type=Path, metavar="FILE", help="kernels of the networks, by time")
    return options


if __name__ == "__main__":
    program.leave(main)

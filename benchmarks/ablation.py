"""The paper's Table II (and Figs. 8, 9) on mini: trained from one start, measured on real files.

    python benchmarks/ablation.py --data PHOTOGRAPHS --eval KODAK --start MODEL --perceptual WEIGHTS -o DIR
        [--sets table2,fig8,fig9,steps,start,codebook] [--steps-scale 1.0] [--pictures 24] [--crop 384x256]

All start from MODEL, with a noise estimator trained on at the levels where the Baseline begins, and a control network
that has learned nothing yet. (The compression module is kept: a fresh one takes more steps than all of these before it
is worth comparing.) What each run is, configs/ablation says; --steps-scale shortens or lengthens all of them. Every
method trains about as long in all: "Baseline" and "+RRD" go on with independent training while "+RRD+FSFT" fine-tunes.

Each picture's centre is compressed at every quality and restored from its bits: bpp is that of the whole file. Written
are DIR/ablation.csv with the means, DIR/ablation.md with BD-rates against the Baseline and +RRD, and for each run a
folder, which has the figures of every picture too. What is there already is not done again: the same command goes on
after an interruption.
"""

from __future__ import annotations

import argparse
import dataclasses
import hashlib
import importlib.util
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import torch

import program
from ablation_measure import METRICS, Judge, Restoring, Row, means, measure, read, write
from analyses import ablation
from rdeic.checkpoints import registry
from rdeic.checkpoints.checkpoints import load_model, save_model
from rdeic.errors import ConfigError, TrainingError
from rdeic.evaluation import metrics, report
from rdeic.model.model import Rdeic
from rdeic.system import files
from rdeic.training import config as settings
from rdeic.training import run as train

CONFIGS = Path(__file__).resolve().parents[1] / "configs" / "ablation"
START = "start"  # the run that is none: what all others begin with
PRIOR = "prior"  # the run before it, from --start
FINE_TUNED = "-fsft"  # ends the names of runs of the fixed-step stage
FRESH = "control."
SEED = 0


class Method(NamedTuple):
    """A trained run, and how its files are restored."""

    name: str
    run: str  # configs/ablation/<run>.toml
    steps: int = 0  # 0: the run's own L
    bypass: bool = False  # D sees z_c, whatever was trained


INDEPENDENT = "+RRD, 2 steps"  # all that fixed-step fine-tuning adds is against it
BASELINE = Method("Baseline, 50 steps", "baseline-longer")
SETS = {
    "table2": (
        BASELINE,
        Method(INDEPENDENT, "rrd-longer", 2),
        Method("+RRD, 5 steps", "rrd-longer", 5),
        Method("+RRD+FSFT, 2 steps", "rrd-fsft"),
    ),
    "fig8": (
        Method("+RRD, 1 step", "rrd-longer", 1),
        *(Method(f"+RRD, {steps} steps", "rrd-longer", steps) for steps in (2, 5, 10)),
    ),
    "fig9": (
        Method("W/o denoising process", "rrd-fsft", bypass=True),
        Method("W/o diffusion mechanism", "no-diffusion-longer"),
    ),
    "steps": (
        Method("+RRD+FSFT, 1 step", "steps-1-fsft"),
        *(Method(f"+RRD+FSFT, {steps} steps", f"steps-{steps}-fsft") for steps in (5, 10)),
    ),
    "start": tuple(Method(f"+RRD+FSFT, N = {n}", f"start-{n}-fsft") for n in (100, 600)),
    "codebook": tuple(Method(f"+RRD+FSFT, {k} entries", f"codebook-{k}-fsft") for k in (256, 4096)),
}


# Training


def require_same_runs(arguments: argparse.Namespace) -> None:
    """Raises ConfigError if the output folder holds runs of another start or another length."""
    start = registry.fingerprint(registry.rates(registry.find(arguments.start))[0]).hex()
    made_of = json.dumps({"start": start, "steps_scale": arguments.steps_scale})
    note: Path = arguments.output / "made_of.json"
    if note.is_file() and note.read_text(encoding="utf-8") != made_of:
        raise ConfigError(
            f"{arguments.output} holds runs of another --start or --steps-scale; choose another folder"
        )
    arguments.output.mkdir(parents=True, exist_ok=True)
    files.atomic_write(note, made_of.encode())


def fresh_start(source: Path, folder: Path) -> None:
    """`source` with a control network that has learned nothing yet, into `folder`."""
    given, _ = load_model(source, "cpu")
    torch.manual_seed(SEED)
    model = Rdeic(given.config)
    kept = {key: value for key, value in given.state_dict().items() if not key.startswith(FRESH)}
    model.load_state_dict(model.state_dict() | kept)
    save_model(model, folder)


def trained(name: str, arguments: argparse.Namespace) -> Path:
    """The model folder of a run, trained now unless it is there; first the run that it goes on from."""
    model: Path = arguments.output / name / "model"
    if (model / registry.CONFIG_FILE).is_file():
        return model
    if name == START:
        fresh_start(trained(PRIOR, arguments), model)
        return model
    config = settings.read(CONFIGS / f"{name}.toml")
    if name == PRIOR:
        stage, before = PRIOR, registry.find(arguments.start)
    else:
        stage = "fixed-step" if name.endswith(FINE_TUNED) else "independent"
        before = trained(Path(config.model).parent.name, arguments)
    print(f"training {name}", file=sys.stderr)
    scaled = _scaled(config, arguments.steps_scale)
    config = dataclasses.replace(
        scaled,
        model=str(before),
        threads=arguments.threads,
        perceptual=arguments.perceptual if config.perceptual else "",
    )
    done = train(stage, config, arguments.data, resume=True, dry_run=False, out=model.parent)
    if done is None:
        raise TrainingError(f"{name} was interrupted; the same command goes on from there")
    return done


def _scaled(config: settings.TrainConfig, scale: float) -> settings.TrainConfig:
    steps = max(1, round(config.steps * scale))
    warmup = min(config.warmup_steps, steps // 10)
    return dataclasses.replace(config, steps=steps, warmup_steps=warmup, validate_every=steps)


# Measuring


def restoring(method: Method) -> Restoring:
    """As its run was trained for, where the method does not say otherwise."""
    chosen = settings.read(CONFIGS / f"{method.run}.toml").method
    sampler = None if method.bypass else chosen.sampler
    return Restoring(method.name, sampler, 0 if sampler is None else method.steps or chosen.steps)


def fingerprint_of(judge: Judge) -> str:
    """Equal for measurements that may stand in for each other: pictures, crop, qualities and metrics."""
    about = [json.dumps([judge.crop, judge.qualities, judge.judges.labels]).encode()]
    digests = [hashlib.sha256(part).digest() for part in (*about, *map(Path.read_bytes, judge.pictures))]
    return hashlib.sha256(b"".join(digests)).hexdigest()[:8]


def measured(method: Method, arguments: argparse.Namespace, judge: Judge) -> list[Row]:
    """The rows of a method, from its file if it was measured on the same pictures before."""
    how = "-bypass" if method.bypass else f"-{method.steps}" if method.steps else ""
    file: Path = arguments.output / method.run / f"measured{how}-{fingerprint_of(judge)}.csv"
    if file.is_file():
        return read(file)
    model, fingerprint = load_model(trained(method.run, arguments), "cpu")
    torch.set_num_threads(arguments.threads)
    print(f"measuring {method.name} ({method.run}{how})", file=sys.stderr)
    rows = list(measure(model, fingerprint, restoring(method), judge))
    write(file, rows, [report.command(), report.machine()])
    return rows


# The tables


def tables(file: Path) -> str:
    """Markdown, of the means in `file`: BD-rates against the first variant and, where it is there, against +RRD; gains
    at equal rates over the first; the means.

    A BD-rate needs qualities that both variants reach. Where one is far behind there are none, but always equal rates.
    """
    rows = ablation.read(file)
    found = ablation.metrics(rows)
    titles = [f"{metric.title}, {metric.unit}".removesuffix(", ") for metric in found]
    groups = ablation.variants(rows)
    anchor = next(iter(groups.values()))
    gains = [(name, *(_gain(anchor, group, m.name) for m in found)) for name, group in groups.items()]
    lines = [
        (r.variant, f"{r.quality:g}", f"{r.bpp:.4f}", *(f"{dict(r.scores)[m.name]:.4f}" for m in found))
        for r in rows
    ]
    anchors = [None, INDEPENDENT] if INDEPENDENT in groups else [None]
    return "\n\n".join(
        [
            *(report.markdown(*ablation.table(rows, anchor)) for anchor in anchors),
            report.markdown(("at equal rates", *titles), gains),
            report.markdown(("variant", "quality", "bpp", *titles), lines),
        ]
    )


def _gain(anchor: Sequence[ablation.Row], test: Sequence[ablation.Row], metric: str) -> str:
    """Mean difference of a metric over the rates that both have, on a logarithmic axis; "-" if there are none."""
    import bjontegaard

    curves = [column for rows in (anchor, test) for column in _curve(rows, metric)]
    try:
        return f"{bjontegaard.bd_psnr(*curves, 'pchip', require_matching_points=False, min_overlap=0):+.4f}"
    except ValueError:  # two files of the same size, or no common rate
        return "-"


def _curve(rows: Sequence[ablation.Row], metric: str) -> tuple[list[float], list[float]]:
    return [row.bpp for row in rows], [dict(row.scores)[metric] for row in rows]


def main(argv: Sequence[str] | None = None) -> None:
    """See the module's docstring. Raises RdeicError."""
    arguments = parser().parse_args(argv)
    if importlib.util.find_spec("bjontegaard") is None:  # now, not after half an hour
        raise ConfigError("BD-rates need bjontegaard: pip install 'rdeic[eval]'")
    paths = [entry.path for entry in program.scan(arguments.eval, arguments.pictures)]
    require_same_runs(arguments)
    judges = metrics.load(METRICS, arguments.perceptual, "cpu")
    judge = Judge(paths, arguments.crop, arguments.qualities, judges)
    methods = {m.name: m for m in (BASELINE, *(m for name in arguments.sets for m in SETS[name]))}
    averages = [row for method in methods.values() for row in means(measured(method, arguments, judge))]
    remarks = [f"`{report.command()}`", report.machine()]
    remarks += [f"{missing.metric}: not measured, {missing.reason}" for missing in judges.unavailable]
    file = arguments.output / "ablation.csv"
    write(file, averages, remarks)
    text = "\n\n".join([tables(file), *remarks])
    files.atomic_write(arguments.output / "ablation.md", (text + "\n").encode())
    print(text)


def parser() -> argparse.ArgumentParser:
    options = program.parser(__doc__, "--pictures", "--qualities", "--threads")
    options.set_defaults(pictures=24, qualities="0,33,67,100", threads=2)
    options.add_argument(
        "--data", type=Path, action="append", required=True, help="photographs; again for more"
    )
    options.add_argument("--eval", type=Path, required=True, metavar="DIR", help="pictures to measure on")
    options.add_argument("--start", required=True, metavar="NAME|DIR", help="model with a trained prior")
    options.add_argument(
        "--perceptual",
        required=True,
        metavar="FILE",
        help='weights of SqueezeNet 1.0 (safetensors), or "lpips"',
    )
    options.add_argument("-o", "--output", type=Path, required=True, metavar="DIR")
    options.add_argument(
        "--sets", type=program.among(SETS), default="table2", metavar="SET,...", help=", ".join(SETS)
    )
    options.add_argument("--steps-scale", type=float, default=1.0, help="of the training steps")
    options.add_argument(
        "--crop", type=program.size, default="384x256", metavar="WxH", help="of each picture's centre"
    )
    return options


if __name__ == "__main__":
    program.leave(main)

"""What waits for a GPU, in calls of limited time: trains mini, times sd21 at full size, compares devices.

    python scripts/gpu_agenda.py --data PHOTOGRAPHS --eval KODAK --perceptual WEIGHTS -o DIR
        [--seconds 570] [--training-minutes 20] [--only train,time,devices] [--deliver FOLDER]

Exit status 0: all is done; 75: the time is up, the same command goes on; 1: a named failure.

    train     the four stages of configs/mini-gpu, one after the other. At its start each stage is timed; it gets the
              steps that fit its share of --training-minutes, and half the batch for as long as memory runs out. When
              the call's time is up it stops with a checkpoint.
    time      benchmarks/full_size.py with random weights of sd21, in float32, bfloat16 and float16
    devices   files of the --eval pictures made on the CPU and on the device, each decoded on both

--deliver packs what came of it (tables, plans, the last finished model in half precision) into pieces of 15 MiB that a
narrow way back can carry: cat agenda.tar.* | tar x. A PyTorch image lacks constriction and pytorch-msssim at least.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import io
import itertools
import json
import re
import signal
import subprocess
import sys
import tarfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import FrameType

import numpy as np
import torch

import rdeic
from rdeic import files, images, registry
from rdeic.checkpoints import load_model, save_model
from rdeic.config import PRESETS
from rdeic.errors import ConfigError, RdeicError, TrainingError
from rdeic.evaluation import report
from rdeic.model import Rdeic
from rdeic.training import config as settings
from rdeic.training import run as train
from rdeic.training.config import TrainConfig

ROOT = Path(__file__).resolve().parents[1]
SHARES = {"autoencoder": 0.3, "prior": 0.2, "independent": 0.25, "fixed-step": 0.25}  # of the training time
USED = 0.9  # of a stage's time, for steps; the rest loads pictures, validates and saves
SMALLEST_BATCH = 8
SPARE = 25.0  # seconds to end a step, save and deliver before a call is over
WORTHWHILE = 45.0  # seconds left without which nothing new is begun
SIZES = "512x512,768x512,1920x1080"
QUALITIES = (0.0, 50.0, 100.0)
PIECE = 15 << 20  # bytes
MORE_TO_DO = 75  # exit status


class OutOfTimeError(Exception):
    """The call is over, the agenda is not."""


class Clock:
    """The time of one call."""

    def __init__(self, seconds: float) -> None:
        self._end = time.monotonic() + seconds - SPARE

    @property
    def left(self) -> float:
        return self._end - time.monotonic()

    def require(self, seconds: float) -> None:
        """Raises OutOfTimeError unless so much is left."""
        if self.left < seconds:
            raise OutOfTimeError


# Training


def train_all(arguments: argparse.Namespace, clock: Clock) -> None:
    """The stages that are not finished, up to the end of the call."""
    before: Path | str = arguments.start or ""
    for stage, share in SHARES.items():
        out: Path = arguments.output / stage
        if not _finished(out):
            clock.require(arguments.worthwhile)
            config = settings.read(arguments.configs / f"{stage}.toml")
            distance = arguments.perceptual if config.perceptual else ""
            config = dataclasses.replace(config, model=str(before or config.model), perceptual=distance)
            config = planned(stage, config, share * 60 * arguments.training_minutes, arguments)
            with ending_after(clock.left):
                train(stage, config, arguments.data, resume=True, dry_run=False, out=out)
            if torch.cuda.is_available():
                torch.cuda.empty_cache()
            if not _finished(out):
                raise OutOfTimeError
        before = out / "model"


def _finished(out: Path) -> bool:
    return (out / "model" / registry.CONFIG_FILE).is_file()


def _finished_stages(output: Path) -> list[str]:
    return [stage for stage in SHARES if _finished(output / stage)]


def planned(stage: str, config: TrainConfig, seconds: float, arguments: argparse.Namespace) -> TrainConfig:
    """`config` with the batch that fits the memory and the steps that fit the time; decided once, then kept."""
    plan: Path = arguments.output / stage / "plan.json"
    if not plan.is_file():
        batch, pace = _paced(stage, config, arguments)
        steps = max(1, min(config.steps, int(USED * seconds / pace)))
        plan.parent.mkdir(parents=True, exist_ok=True)
        decided = {"batch": batch, "steps": steps, "seconds_per_step": pace}
        files.atomic_write(plan, json.dumps(decided).encode())
        print(f"{stage}: {steps} steps of {batch} crops, {pace:.4f} s each", flush=True)
    decided = json.loads(plan.read_text(encoding="utf-8"))
    warmup = min(config.warmup_steps, decided["steps"] // 10)
    return dataclasses.replace(config, batch=decided["batch"], steps=decided["steps"], warmup_steps=warmup)


def _paced(stage: str, config: TrainConfig, arguments: argparse.Namespace) -> tuple[int, float]:
    """The largest batch of `config.batch`, half of it, ... that memory can hold, and its seconds per step."""
    while True:
        said = io.StringIO()
        try:
            with contextlib.redirect_stdout(said):
                train(stage, config, arguments.data, resume=False, dry_run=True, out=arguments.output / stage)
        except TrainingError as error:
            if "out of memory" not in str(error) or config.batch <= SMALLEST_BATCH:
                raise
            config = dataclasses.replace(config, batch=config.batch // 2)
            continue
        print(said.getvalue(), end="", flush=True)
        found = re.search(r"^seconds per step +([\d.]+)", said.getvalue(), re.MULTILINE)
        if found is None:
            raise TrainingError(f"the dry run of {stage} did not say how long a step takes")
        return config.batch, max(float(found[1]), 1e-3)


@contextlib.contextmanager
def ending_after(seconds: float) -> Iterator[None]:
    """Training inside the block that is not over after `seconds` ends as on SIGTERM: with a checkpoint."""

    def end(number: int, frame: FrameType | None) -> None:
        if signal.getsignal(signal.SIGTERM) is signal.SIG_DFL:  # not in its loop yet, or no longer
            signal.setitimer(signal.ITIMER_REAL, 0.2)
        else:
            signal.raise_signal(signal.SIGTERM)

    before = signal.signal(signal.SIGALRM, end)
    signal.setitimer(signal.ITIMER_REAL, max(seconds, 1e-3))
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


# Full size


def time_full_size(arguments: argparse.Namespace, clock: Clock) -> None:
    """A table for each precision, of a model with random weights."""
    folder: Path = arguments.output / "random" / arguments.full_size
    if not (folder / registry.CONFIG_FILE).is_file():
        clock.require(arguments.worthwhile)
        torch.manual_seed(0)
        with torch.device(arguments.device):
            model = Rdeic(PRESETS[arguments.full_size])
        save_model(model, folder)
    for precision in ("fp32", "bf16", "fp16"):
        table: Path = arguments.output / f"full_size-{precision}.csv"
        if table.is_file():
            continue
        clock.require(arguments.worthwhile)
        program = [sys.executable, str(ROOT / "benchmarks" / "full_size.py"), str(folder)]
        program += ["--precision", precision, "--device", arguments.device, "--sizes", arguments.sizes]
        program += ["--runs", "5", "-o", str(table)]
        try:
            subprocess.run(program, check=True, timeout=clock.left)
        except subprocess.TimeoutExpired as error:
            raise OutOfTimeError from error
        except subprocess.CalledProcessError as error:
            raise ConfigError(f"{' '.join(program)} failed; its message is above") from error


# Devices


def compare_devices(arguments: argparse.Namespace, clock: Clock) -> None:
    """How pictures differ between devices, whichever made the file; DIR/devices.csv."""
    table: Path = arguments.output / "devices.csv"
    if table.is_file():
        return
    clock.require(arguments.worthwhile)
    done = _finished_stages(arguments.output)[-1:]
    model = str(arguments.output / done[0] / "model") if done else "mini"
    codecs = [(name, rdeic.load(model, name)) for name in ("cpu", arguments.device)]
    rows, gaps = list[tuple[object, ...]](), [0.0]
    paths = sorted(
        path for path in arguments.eval.rglob("*") if path.suffix.lower() in images.readable_suffixes()
    )
    for path, quality, (made_on, codec) in itertools.product(paths, QUALITIES, codecs):
        clock.require(0.0)
        blob = codec.compress(path, quality)
        try:
            one, other = (np.asarray(each.decompress(blob)).astype(float) for _, each in codecs)
        except RdeicError as error:
            rows.append((path.name, quality, made_on, len(blob), "", "", str(error)))
            continue
        gap = np.abs(one - other)
        gaps.append(float(gap.max()))
        rows.append((path.name, quality, made_on, len(blob), gap.mean(), gap.max(), ""))
    header = ("image", "quality", "made_on", "bytes", "mean_difference", "max_difference", "error")
    report.write_csv(table, header, rows, [report.command(), report.machine(), f"cpu and {arguments.device}"])
    failed = sum(bool(row[-1]) for row in rows)
    print(f"devices: {len(rows)} files, {failed} failed, largest difference {max(gaps):g} of 255", flush=True)


# The way back


def deliver(output: Path, folder: Path) -> None:
    """Tables, plans, and the last finished model in half precision, as pieces of one tar file in `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    kept = [*output.glob("*.csv"), *output.glob("*/plan.json")]
    for stage in _finished_stages(output)[-1:]:
        model, _ = load_model(output / stage / "model", "cpu")
        save_model(model, output / "half" / stage, torch.float16)
        kept += (output / "half" / stage).iterdir()
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as archive:
        for path in kept:
            archive.add(path, str(path.relative_to(output)))
    data = stream.getvalue()
    for number, first in enumerate(range(0, len(data), PIECE)):
        files.atomic_write(folder / f"agenda.tar.{number:02}", data[first : first + PIECE])


TASKS = {"train": train_all, "time": time_full_size, "devices": compare_devices}


def main(argv: Sequence[str] | None = None) -> int:
    """See the module's docstring -> exit status. Raises RdeicError."""
    arguments = parser().parse_args(argv)
    arguments.output.mkdir(parents=True, exist_ok=True)
    clock, status = Clock(arguments.seconds), 0
    try:
        for name in arguments.only:
            TASKS[name](arguments, clock)
    except OutOfTimeError:
        print("the time is up: the same command goes on", file=sys.stderr)
        status = MORE_TO_DO
    finally:
        if arguments.deliver:
            deliver(arguments.output, arguments.deliver)
    return status


def _names(text: str) -> list[str]:
    names = text.split(",")
    if unknown := sorted(set(names) - set(TASKS)):
        raise argparse.ArgumentTypeError(f"{', '.join(unknown)}: choose from {', '.join(TASKS)}")
    return names


def parser() -> argparse.ArgumentParser:
    options = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    options.add_argument("--data", type=Path, action="append", default=[], help="photographs; again for more")
    options.add_argument("--eval", type=Path, default=Path("."), metavar="DIR", help="pictures for devices")
    options.add_argument("--perceptual", default="lpips", metavar="FILE", help='weights, or "lpips"')
    options.add_argument("-o", "--output", type=Path, required=True, metavar="DIR")
    options.add_argument("--seconds", type=float, default=570.0, help="of this call")
    options.add_argument("--training-minutes", type=float, default=20.0, help="of all calls together")
    options.add_argument("--only", type=_names, default="train,time,devices", metavar="TASK,...")
    options.add_argument("--start", metavar="DIR", help="model that the first stage goes on from")
    options.add_argument("--configs", type=Path, default=ROOT / "configs" / "mini-gpu", metavar="DIR")
    options.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    options.add_argument("--full-size", choices=PRESETS, default="sd21", metavar="PRESET", help="for time")
    options.add_argument("--sizes", default=SIZES, metavar="WxH,...", help="for time")
    options.add_argument(
        "--worthwhile", type=float, default=WORTHWHILE, help="seconds to begin anything with"
    )
    options.add_argument("--deliver", type=Path, metavar="FOLDER")
    return options


if __name__ == "__main__":
    try:
        sys.exit(main())
    except RdeicError as error:
        sys.exit(f"gpu_agenda: {error}")

"""What waits for a GPU, for one that is borrowed by the minute: devices, times of sd21, training.

    python scripts/gpu_agenda.py --only pack --data PHOTOGRAPHS [--eval KODAK] [--run RUN] [--start MODEL]
        [--perceptual FILE] --output LOADS                                                               (here, first)
    python scripts/gpu_agenda.py [--only devices,time,train] --loads LOADS [--train STAGE CONFIG SHARE]...
        [--seconds 570] [--work FOLDER] [--output FOLDER]                                     (there; again to go on)
    python scripts/gpu_agenda.py --only join --pieces FOLDER... --output FOLDER                            (here, last)

Exit status 0: all is done; 75: the time is up, the same command goes on; 1: a named failure.

    pack      folders of at most 60 MB: the photographs as WebP, and whatever else the parts need, in pieces
    devices   24 pictures at 3 qualities made on the CPU and on the device, each decoded on the other
    time      benchmarks/full_size.py with random weights of sd21: eager, graphs and compile, each checked against
              float32 before it is timed
    train     stages, each for its share of all the time that is left, with the learning rate falling by the clock;
              the first goes on from the newest checkpoint of --run. Default: the five of configs/mini-gpu
    send      nothing new, only what earlier calls had no room for; --again: everything once more. It also fetches
              from a call that trains in the background, of which it shares --work
    join      what came back, put together and verified

What came of a part is in --output as soon as it ends: at most 8 flat files of at most 15 MB, 60 MB together and one of
them a manifest; what has no room waits in --work for the next call, before which --output is to be emptied. A part
that fails does not keep the others from running. A bare machine needs torch, constriction and the package's other
dependencies (pip install -e .). --tiny, the default without a GPU, tries the same commands on something small.
"""

from __future__ import annotations

import argparse
import os
import sys
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path

import torch

from agenda_clock import Clock, OutOfTimeError
from agenda_freight import Dispatch, join, pack
from agenda_measure import compare_devices, time_full_size
from agenda_tiny import make_tiny
from agenda_train import freight, train_all
from rdeic.errors import CheckpointError, ConfigError, RdeicError
from rdeic.training import checkpoint, sources

ROOT = Path(__file__).resolve().parents[1]
MINI_GPU = ROOT / "configs" / "mini-gpu"
LEGS = (  # stage, file of MINI_GPU, share of the time
    ("autoencoder", "autoencoder", "0.27"),
    ("prior", "prior", "0.08"),
    ("independent", "independent", "0.19"),
    ("fixed-step", "fixed-step", "0.23"),
    ("fixed-step", "finish", "0.23"),
)
TABLES: dict[str, Callable[[argparse.Namespace, Clock], list[Path]]] = {
    "devices": compare_devices,
    "time": time_full_size,
}
ON_THE_MACHINE = ("devices", "time", "train", "send")
PARTS = ("pack", *ON_THE_MACHINE, "join")
MORE_TO_DO = 75  # exit status
WEBP_QUALITY = 86
LOAD_MB = 59.9  # what comes in at a time, and a little less: a tar file's last block has to fit


def pack_loads(arguments: argparse.Namespace) -> None:
    entries = list[tuple[str, Path]]()
    if arguments.run:
        if not (steps := checkpoint.steps(arguments.run)):
            raise ConfigError(f"{arguments.run} holds no checkpoint to go on from")
        newest = checkpoint.path_of(steps[-1], arguments.run)
        entries.append((f"run/{newest.name}", newest))
    if arguments.start:
        entries += [(f"start/{path.name}", path) for path in sorted(Path(arguments.start).iterdir())]
    if arguments.perceptual:
        entries.append(("perceptual.safetensors", arguments.perceptual))
    if arguments.eval:
        entries += [(f"eval/{path.name}", path) for path in sorted(arguments.eval.iterdir())]
    found = sources.find(arguments.data)
    limit = int(arguments.load_mb * 1e6)
    for folder in pack(found, arguments.webp_quality, entries, limit, arguments.output):
        size = sum(path.stat().st_size for path in folder.iterdir())
        print(f"{folder}: {size / 1e6:.1f} MB", flush=True)


def unpack_loads(arguments: argparse.Namespace) -> None:
    """Finds in --loads what was not given otherwise. Raises CheckpointError while pieces are missing."""
    arrived: Path = arguments.work / "arrived"
    if missing := join([arguments.loads], arrived):
        raise CheckpointError(f"{arguments.loads} lacks {', '.join(missing)}; bring the other loads first")
    arguments.data += sorted(arguments.loads.rglob("pictures.tar"))
    for name, inside in (("run", "run"), ("start", "start"), ("eval", "eval")):
        if getattr(arguments, name) is None and (arrived / inside).is_dir():
            setattr(arguments, name, arrived / inside)
    if arguments.perceptual is None and (arrived / "perceptual.safetensors").is_file():
        arguments.perceptual = arrived / "perceptual.safetensors"


def work_off(arguments: argparse.Namespace) -> int:
    """The parts for the borrowed machine, each delivered as it ends => exit status."""
    clock = Clock(arguments.seconds, arguments.spare)
    dispatch = Dispatch(arguments.work / "waiting", arguments.output)
    if arguments.again:
        dispatch.send_again()
    statuses = [work_off_part(name, arguments, clock, dispatch) for name in arguments.only]
    waiting = dispatch.send()
    print(f"{waiting} pieces wait for the next call" if waiting else "all pieces are sent", flush=True)
    return 1 if 1 in statuses else MORE_TO_DO if waiting or MORE_TO_DO in statuses else 0


def work_off_part(name: str, arguments: argparse.Namespace, clock: Clock, dispatch: Dispatch) -> int:
    """One part, delivered whatever comes of it => exit status."""
    status = 0
    try:
        if name in TABLES:
            found = TABLES[name](arguments, clock)
            dispatch.add(name, [(path.name, path) for path in found])
        elif name == "train":
            train_all(arguments, clock, lambda out: dispatch.add(*freight(out)))
    except OutOfTimeError:
        print(f"{name}: the time is up, the same command goes on", file=sys.stderr)
        status = MORE_TO_DO
    except RdeicError as error:
        print(f"gpu_agenda: {name}: {error}", file=sys.stderr)
        status = 1
    except Exception:  # of whatever kind: the machine is lent once, and the other parts may work
        traceback.print_exc()
        status = 1
    dispatch.send()
    return status


def main(argv: Sequence[str] | None = None) -> int:
    """See the module's docstring -> exit status. Raises RdeicError."""
    arguments = parser().parse_args(argv)
    if arguments.only == ["pack"]:
        pack_loads(arguments)
        return 0
    if arguments.only == ["join"]:
        missing = join(arguments.pieces, arguments.output)
        if missing:
            raise CheckpointError(f"still to be fetched: {', '.join(missing)}")
        return 0
    arguments.train = arguments.train or [
        [stage, MINI_GPU / f"{name}.toml", share] for stage, name, share in LEGS
    ]
    if arguments.tiny is None:
        arguments.tiny = arguments.device == "cpu"
    arguments.work.mkdir(parents=True, exist_ok=True)
    if arguments.loads:
        unpack_loads(arguments)
    if arguments.tiny:
        make_tiny(arguments)
    return work_off(arguments)


def _names(text: str) -> list[str]:
    names = text.split(",")
    if unknown := sorted(set(names) - set(PARTS)):
        raise argparse.ArgumentTypeError(f"{', '.join(unknown)}: choose from {', '.join(PARTS)}")
    if len(names) > 1 and (alone := set(names) - set(ON_THE_MACHINE)):
        raise argparse.ArgumentTypeError(f"{', '.join(sorted(alone))} goes alone")
    return names


def parser() -> argparse.ArgumentParser:
    options = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = options.add_argument
    add("--only", type=_names, default="devices,time,train", metavar="PART,...")
    add("--loads", type=Path, metavar="DIR", help="what `pack` made, as far as it has arrived")
    add("--data", type=Path, action="append", default=[], help="photographs; again for more")
    add("--eval", type=Path, metavar="DIR", help="pictures for devices; default: some of --data")
    add("--run", type=Path, metavar="DIR", help="a run under way, as `rdeic train` writes it")
    add(
        "--start",
        type=Path,
        metavar="MODEL",
        help="what the first stage starts from; default: as its file says",
    )
    add("--perceptual", type=Path, metavar="FILE", help="weights of the distance; default: as its file says")
    add("--train", nargs=3, action="append", metavar=("STAGE", "CONFIG", "SHARE"), help="in this order")
    default = Path(os.environ.get("OUT") or "agenda-out")
    add("-o", "--output", type=Path, default=default, metavar="DIR", help="default: $OUT")
    add("--work", type=Path, default=Path("agenda-work"), metavar="DIR", help="kept between calls")
    add("--seconds", type=float, default=570.0, help="of this call")
    add("--spare", type=float, default=20.0, help="seconds of it to save and deliver in")
    add("--time-seconds", type=float, default=60.0, help="for time")
    add("--training-minutes", type=float, default=0.0, help="of all calls together; 0: the rest of this one")
    add("--finish-seconds", type=float, default=20.0, help="that a stage takes after its last step")
    add("--worthwhile", type=float, default=30.0, help="seconds without which nothing new is begun")
    add("--cache-mb", type=int, default=40_000, help="for pictures, on a GPU")
    add("--model", default="mini", help="for devices")
    add("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    add("--full-size", default="sd21", metavar="CONFIG", help="for time")
    add("--sizes", default="768x512", metavar="WxH,...", help="for time")
    add("--precision", default="bf16", help="for time")
    add("--runs", type=int, default=5, help="for time")
    add("--tiny", action=argparse.BooleanOptionalAction, help="default: without a GPU")
    add("--webp-quality", type=int, default=WEBP_QUALITY, help="for pack")
    add("--load-mb", type=float, default=LOAD_MB, help="for pack: less where the working tree travels along")
    add("--pieces", type=Path, nargs="+", default=[], metavar="DIR", help="for join")
    add("--again", action="store_true", help="send everything once more")
    return options


if __name__ == "__main__":
    try:
        sys.exit(main())
    except RdeicError as error:
        sys.exit(f"gpu_agenda: {error}")

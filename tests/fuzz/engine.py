"""Runs a target over mutated files, guided by coverage (atheris) or by chance (a loop) where atheris is missing.

    PYTHONPATH=tests python -m fuzz.fuzz_container [--seconds 20] [--runs N] [--seed 1] [--engine auto|atheris|loop]
    PYTHONPATH=tests python -m fuzz.fuzz_container --replay failed.rdeic

A target takes the bytes of a file and says whether they were accepted; what it raises is a defect. So is more CPU time
than HANG_SECONDS for one file, which ends the process with a traceback, and more memory than the harness allows, which
raises MemoryError. The file at fault is left in `failed.rdeic`, in the current folder.
"""

from __future__ import annotations

import argparse
import contextlib
import faulthandler
import importlib.util
import mmap
import os
import resource
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from random import Random
from typing import NamedTuple

from fuzz.mutations import LONGEST, SEALED, mutated, resealed

HANG_SECONDS = 10  # of CPU time, so that a busy machine raises no false alarm
CORPUS = Path(__file__).with_name("corpus")
FAILED = Path("failed.rdeic")
_RUNNING_BYTES = (
    4 + 2 * LONGEST
)  # of FAILED while nothing has failed: the length of the current file, itself, padding
_ENDLESS = 10**9  # seconds or runs

Target = Callable[[bytes], bool]


class Harness(NamedTuple):
    """What is fuzzed."""

    target: Target
    corpus: Sequence[bytes]
    memory: int  # bytes of address space that one file may make the process grow by


class Budget(NamedTuple):
    """When to stop; whatever comes first."""

    seconds: float
    runs: int


class Outcome(NamedTuple):
    runs: int
    accepted: int
    seconds: float
    slowest: float  # CPU seconds of one file

    def __str__(self) -> str:
        return (
            f"{self.runs} files, {self.accepted} accepted, {self.runs - self.accepted} refused; {self.seconds:.1f} s, "
            f"slowest {self.slowest * 1000:.1f} ms of CPU time; peak memory of the process "
            f"{resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024} MiB"
        )


class Watch:
    """Calls the target under its limits; keeps count, and the current file where it survives a crash."""

    def __init__(self, harness: Harness) -> None:
        self.runs = self.accepted = 0
        self.slowest = 0.0
        self.started = time.monotonic()
        self._target = harness.target
        with FAILED.open("wb+") as file:
            file.truncate(_RUNNING_BYTES)
            self._current = mmap.mmap(file.fileno(), 0)

    def __call__(self, data: bytes) -> None:
        self._current[: 4 + len(data)] = len(data).to_bytes(4, "little") + data
        signal.setitimer(signal.ITIMER_PROF, HANG_SECONDS)
        before = time.process_time()
        try:
            self.accepted += self._target(data)
        except BaseException:
            FAILED.write_bytes(data)
            raise
        self.slowest = max(self.slowest, time.process_time() - before)
        self.runs += 1

    @property
    def outcome(self) -> Outcome:
        return Outcome(self.runs, self.accepted, time.monotonic() - self.started, self.slowest)


def loop(harness: Harness, budget: Budget, seed: int) -> Outcome:
    """Mutations by chance, the same for the same seed. Raises what the target raises."""
    random = Random(seed)
    with _limits(harness) as watch:
        end = watch.started + budget.seconds
        while watch.runs < budget.runs and time.monotonic() < end:
            watch(mutated(harness.corpus, random))
        return watch.outcome


def guided(load: Callable[[], Harness], budget: Budget, seed: int) -> None:
    """Mutations guided by the coverage of the package; ends the process, as libFuzzer does."""
    import atheris

    with atheris.instrument_imports(include=["rdeic"], enable_loader_override=False):
        harness = load()

    def change(data: bytes, longest: int, number: int) -> bytes:
        random = Random(number)
        if random.random() < 0.3:
            return mutated([data], random)[:longest]
        changed: bytes = atheris.Mutate(data, longest)
        return resealed(changed) if random.random() < SEALED else changed

    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        watch = stack.enter_context(_limits(harness))
        for number, data in enumerate(harness.corpus):
            (folder / str(number)).write_bytes(data)

        def one(data: bytes) -> None:
            watch(data)
            if watch.runs >= budget.runs or time.monotonic() - watch.started >= budget.seconds:
                print(f"atheris, seed {seed}: {watch.outcome}", flush=True)
                stack.close()
                os._exit(0)

        # The limits are those of `_limits`; a timeout of 0 would not mean that there is none.
        limits = ["-timeout=1000000", "-report_slow_units=1000000", "-rss_limit_mb=0"]
        options = [f"-seed={seed}", f"-max_len={LONGEST}", f"-artifact_prefix={folder}/", "-verbosity=0"]
        atheris.Setup([sys.argv[0], *options, *limits, str(folder)], one, custom_mutator=change)
        atheris.Fuzz()


def main(load: Callable[[], Harness], description: str) -> None:
    """The command line of a harness."""
    options = argparse.ArgumentParser(description=description)
    options.add_argument("--seconds", type=float, default=_ENDLESS)
    options.add_argument("--runs", type=int, default=_ENDLESS)
    options.add_argument("--seed", type=int, default=1)
    options.add_argument("--engine", choices=("auto", "atheris", "loop"), default="auto")
    options.add_argument("--replay", type=Path, metavar="FILE", help="give the target this file only")
    chosen = options.parse_args()
    budget = Budget(chosen.seconds, chosen.runs)
    if chosen.replay:
        print("accepted" if load().target(replayed(chosen.replay)) else "refused")
    elif chosen.engine == "atheris" or (chosen.engine == "auto" and importlib.util.find_spec("atheris")):
        guided(load, budget, chosen.seed)
    else:
        print(f"loop, seed {chosen.seed}: {loop(load(), budget, chosen.seed)}")


def replayed(path: Path) -> bytes:
    """A file that failed, also as a process that died at once leaves it."""
    data = path.read_bytes()
    return data[4:][: int.from_bytes(data[:4], "little")] if len(data) == _RUNNING_BYTES else data


def stored(name: str) -> list[bytes]:
    """The committed files of one corpus."""
    return [path.read_bytes() for path in sorted((CORPUS / name).glob("*.rdeic"))]


@contextlib.contextmanager
def _limits(harness: Harness) -> Iterator[Watch]:
    """Within: no file may hang or take much memory. Keeps the file at fault."""
    faulthandler.register(
        signal.SIGPROF, chain=True
    )  # a traceback, then the end: also inside of compiled code
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    if (taken := _address_space()) is not None:
        resource.setrlimit(resource.RLIMIT_AS, (taken + harness.memory, hard))
    watch = Watch(harness)
    try:
        yield watch
        FAILED.unlink()
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))
        faulthandler.unregister(signal.SIGPROF)


def _address_space() -> int | None:
    """Bytes that this process has reserved; None where that cannot be told."""
    try:
        pages = int(Path("/proc/self/statm").read_text().split()[0])
    except OSError:
        return None
    return pages * resource.getpagesize()

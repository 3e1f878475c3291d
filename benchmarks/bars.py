"""What a model for Kodak has to reach, and whether it does: exit status 0 if every bar is met, 1 if one is missed.

    python benchmarks/bars.py KODAK --perceptual squeezenet.safetensors [--model NAME|DIR] [-o bars.csv]

The relay, at --qualities: D restores E's own latent (the posterior's mean, nothing compressed) at 28.5 dB or more, and
the steps lead nearer to it than z_c is. Real files, at --bpps, beside AVIF of the same bytes, picture by picture, at
the better (by mean square error) of full and half size: MS-SSIM and SSIMULACRA2 at least AVIF's, PSNR within 1.5 dB of
it, gradients at least 0.7 of the original's, and the SqueezeNet distance at most 0.46, 0.40 and 0.35 at 0.05, 0.08 and
0.12 bpp. Means over the pictures; a bar that cannot be measured here counts as missed. `--bpps ""` is the relay alone.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Sequence
from statistics import fmean
from typing import NamedTuple

import numpy as np

import program
import rdeic
from analyses import relay
from analyses.relay import Relay
from rdeic.evaluation import metrics, report
from rdeic.evaluation.bench.subject import Named, Subject
from rdeic.evaluation.conventional import Conventional
from rdeic.evaluation.metrics import Judges
from rdeic.pictures import images

CEILING = 28.5  # dB, of D(z0)
BEHIND_AVIF = 1.5  # dB of PSNR
GRADIENTS = 0.7  # of the original's
PERCEPTUAL = {0.05: 0.46, 0.08: 0.40, 0.12: 0.35}  # by bits per pixel
METRICS = ("psnr", "ms_ssim", "perceptual", "gradients", "ssimulacra2")
TITLES = {
    "psnr": "PSNR, dB",
    "ms_ssim": "MS-SSIM",
    "perceptual": "SqueezeNet distance",
    "gradients": "gradients",
    "ssimulacra2": "SSIMULACRA2",
}
SCALES = (1, 2)  # of AVIF


class Bar(NamedTuple):
    """One number and what it has to be."""

    where: str
    what: str
    value: float | None  # None: it cannot be measured here
    rival: float | None  # what it is compared with; None: nothing
    bound: float | None  # None: there is no bar, or its rival cannot be measured
    rule: str  # "at least", "at most", "below"; "" for a number without a bar

    @property
    def met(self) -> bool:
        if not self.rule:
            return True
        if self.value is None or self.bound is None:
            return False
        if self.rule == "below":
            return self.value < self.bound
        return self.value >= self.bound if self.rule == "at least" else self.value <= self.bound

    @property
    def verdict(self) -> str:
        if not self.rule:
            return ""
        return "met" if self.met else "not measured" if self.value is None or self.bound is None else "missed"


class Pair(NamedTuple):
    """One picture at one rate: our file and AVIF's."""

    bpps: tuple[float, float]
    ours: dict[str, float]  # by metric
    avif: dict[str, float]


def relay_bars(mean: Relay) -> Iterator[Bar]:
    yield Bar("nothing compressed", "D(z0), PSNR, dB", mean.ceiling, None, CEILING, "at least")
    for one in mean.landings:
        where = f"quality {one.quality:g}, {one.bpp:.4f} bpp"
        yield Bar(where, "mean square of z0_hat - z0, beside z_c - z0", one.z0_hat, one.z_c, one.z_c, "below")


def compare(
    subject: Subject, judges: Judges, one: Named, bpps: Sequence[float]
) -> Iterator[tuple[float, Pair]]:
    """At every rate that the picture can get to; the others are reported on stderr."""
    pixels = one.picture.shape[0] * one.picture.shape[1]
    avif = Conventional("avif", one.picture, SCALES)
    for bpp in bpps:
        try:
            blob = subject.compress(one.picture, bpp=bpp)
        except rdeic.RateError as error:
            print(f"{one.name}: {error}", file=sys.stderr)
            continue
        attempt = avif.closest(len(blob))
        yield (
            bpp,
            Pair(
                (8 * len(blob) / pixels, 8 * len(attempt.data) / pixels),
                dict(metrics.scores(judges, np.asarray(subject.decompress(blob)), one.picture)),
                dict(metrics.scores(judges, attempt.restored, one.picture)),
            ),
        )


def file_bars(bpp: float, pairs: Sequence[Pair]) -> Iterator[Bar]:
    where = f"{bpp:g} bpp, {len(pairs)} pictures"
    yield Bar(where, "bpp", fmean(p.bpps[0] for p in pairs), fmean(p.bpps[1] for p in pairs), None, "")
    for name in METRICS:
        ours, avif = mean([pair.ours for pair in pairs], name), mean([pair.avif for pair in pairs], name)
        yield Bar(where, TITLES[name], ours, avif, *bar(name, bpp, avif))


def bar(name: str, bpp: float, avif: float | None) -> tuple[float | None, str]:
    """Bound and rule of a metric."""
    if name == "perceptual":
        return (PERCEPTUAL[bpp], "at most") if bpp in PERCEPTUAL else (None, "")
    if name == "gradients":
        return GRADIENTS, "at least"
    return (None if avif is None else avif - BEHIND_AVIF if name == "psnr" else avif), "at least"


def mean(scores: Sequence[dict[str, float]], name: str) -> float | None:
    """None unless all pictures have it."""
    values = [one[name] for one in scores if name in one]
    return fmean(values) if values and len(values) == len(scores) else None


def measure(options: argparse.Namespace, judges: Judges) -> Iterator[Bar]:
    """Raises what reading, compressing and restoring raise, and ConfigError for no pictures."""
    subject = Subject(options.model, options.device)
    pictures = [Named(e.name, images.read(e.path)) for e in program.scan(options.folder, options.pictures)]
    relays: list[Relay] = []
    pairs: dict[float, list[Pair]] = {bpp: [] for bpp in options.bpps}
    for done, one in enumerate(pictures, start=1):
        relays.append(relay.measure(subject, one, options.qualities))
        for bpp, pair in compare(subject, judges, one, options.bpps):
            pairs[bpp].append(pair)
        print(f"{done}/{len(pictures)} {one.name}", file=sys.stderr)
    yield from relay_bars(relay.mean(relays))
    for bpp, found in pairs.items():
        reached = len(found) / len(pictures)
        yield Bar(f"{bpp:g} bpp", "share of pictures that get there", reached, None, 1.0, "at least")
        yield from file_bars(bpp, found) if found else ()


def table(bars: Sequence[Bar]) -> str:
    header = ("where", "what", "rdeic", "beside", "bar", "")
    lines = [
        (
            one.where,
            one.what,
            number(one.value),
            number(one.rival),
            f"{one.rule} {number(one.bound)}" if one.rule else "",
            one.verdict,
        )
        for one in bars
    ]
    return report.markdown(header, lines)


def number(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}" if abs(value) >= 10 else f"{value:.4f}"


def run(options: argparse.Namespace) -> int:
    """The exit status."""
    program.use_threads(options.threads)
    judges = metrics.load(METRICS, options.perceptual, options.device)
    bars = list(measure(options, judges))
    missed = [one for one in bars if not one.met]
    remarks = program.remarks(
        *judges.versions,
        *(f"not measured: {one.metric} ({one.reason})" for one in judges.unavailable),
        f"{sum(bool(one.rule) for one in bars) - len(missed)} bars met, {len(missed)} missed",
    )
    cells = [["" if cell is None else cell for cell in (*one, one.verdict)] for one in bars]
    program.tell(table(bars), remarks, options.output, (*Bar._fields, "verdict"), cells)
    return 1 if missed else 0


def parser() -> argparse.ArgumentParser:
    shared = ("folder", "--pictures", "--model", "--device", "--threads", "--qualities", "--perceptual")
    options = program.parser(__doc__, *shared, "-o --output")
    options.add_argument("--bpps", type=program.numbers, default="0.05,0.08,0.12", metavar="B,B,...")
    return options


if __name__ == "__main__":
    program.leave(lambda: run(parser().parse_args()), OSError)

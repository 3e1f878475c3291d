"""`rdeic evaluate`."""

from __future__ import annotations

import sys
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from rdeic.cli.console import fail, progress, say
from rdeic.errors import ConfigError

if TYPE_CHECKING:
    from rdeic.evaluation.types import Codec, UnavailableCodec


_PARTS = 4  # of --command


class EvaluateOptions(NamedTuple):
    """The options of `rdeic evaluate`."""

    codecs: list[str]
    models: list[str]
    qualities: str  # numbers with commas; "" for the default ones
    bpps: str
    commands: list[str]  # name | settings | encode | decode
    metrics: str  # names with commas; "" for all
    perceptual: str | None
    protocol: str
    published: str | None
    anchor: str | None
    jobs: int | None
    show: int
    timeout: float
    device: str | None


def evaluate(dataset: Path, out: Path, options: EvaluateOptions) -> None:
    """Measures and writes the report into `out`. Raises ConfigError for what makes no sense, OSError for the disk."""
    try:
        from rdeic.evaluation import metrics, report, report_page, runner
        from rdeic.evaluation.types import UnavailableCodec as Missing
        from rdeic.system import devices
    except ModuleNotFoundError as error:
        raise ConfigError(f"{error}; pip install 'rdeic[eval]'") from error

    if options.device is not None:
        devices.choose(options.device)
    found = _codecs(options)
    names = tuple(filter(None, options.metrics.split(","))) or metrics.NAMES
    if not options.metrics and options.perceptual is None:
        # It needs a file that few have: only if asked for.
        names = tuple(name for name in names if name != "perceptual")
    plan = runner.Plan(
        dataset=dataset,
        protocol=options.protocol,
        codecs=tuple(one for one in found if not isinstance(one, Missing)),
        unavailable=tuple(one for one in found if isinstance(one, Missing)),
        metrics=names,
        weights=options.perceptual,
        device=options.device,
        jobs=options.jobs or runner.default_jobs(dataset, options.protocol),
        show=options.show,
        command=report.command(),
    )
    _check_report(options, [codec.name for codec in plan.codecs])
    with progress(runner.count(plan)) as tick:
        results = runner.run(plan, out, tick)
    page = report_page.write(results, out, anchor=options.anchor, published_on=options.published)
    for codec in results.unavailable_codecs:
        fail(f"{codec.codec} is not available: {codec.reason}")
    for metric in results.unavailable:
        fail(f"{metric.metric} is not available: {metric.reason}")
    failures = Counter((one.codec, one.error) for one in results.measurements if one.error)
    for (name, reason), count in failures.items():
        fail(f"{name} failed {count} times: {reason}")
    say(str(page), sys.stdout)


def _codecs(options: EvaluateOptions) -> list[Codec | UnavailableCodec]:
    from rdeic.evaluation.codecs import catalogue, commands

    own = [f"q{value}" for value in _numbers("--qualities", options.qualities)]
    own += [f"{value}bpp" for value in _numbers("--bpps", options.bpps)]
    shared = catalogue.Options(tuple(options.models), tuple(own), options.device, options.timeout)
    found = [codec for name in options.codecs for codec in catalogue.create(name, shared)]
    for text in options.commands:
        parts = [part.strip() for part in text.split("|")]
        if len(parts) != _PARTS:
            raise ConfigError(f"--command {text!r}: write NAME | SETTING,... | ENCODE | DECODE")
        name, settings, encode, decode = parts
        template = commands.Template(
            name, encode, decode, tuple(filter(None, settings.split(","))), options.timeout, "", "", None
        )
        found.append(commands.create(template))
    return found


def _numbers(option: str, text: str) -> list[str]:
    """Numbers as the settings of codecs spell them. Raises ConfigError for anything else."""
    try:
        return [f"{float(part):g}" for part in text.split(",") if part]
    except ValueError as error:
        raise ConfigError(
            f"{option} {text}: write numbers with commas between them, such as 0,25,50"
        ) from error


def _check_report(options: EvaluateOptions, codecs: list[str]) -> None:
    """Before an hour of work rather than after it. Raises ConfigError."""
    from rdeic.evaluation import published

    if options.published is not None and options.published not in published.datasets():
        names = ", ".join(published.datasets())
        raise ConfigError(f"nothing published on {options.published!r}: choose from {names}")
    if options.anchor is not None and options.anchor not in codecs:
        raise ConfigError(f"--anchor {options.anchor} is none of the codecs measured: {', '.join(codecs)}")

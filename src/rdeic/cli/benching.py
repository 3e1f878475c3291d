"""`rdeic bench`."""

from __future__ import annotations

import importlib.util
import json
import os
import re
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from rdeic.cli.console import Advance, fail, progress, remarks
from rdeic.cli.inputs import STREAM, gather
from rdeic.container.container import MAX_PIXELS
from rdeic.errors import ConfigError, ImageError
from rdeic.system import files

if TYPE_CHECKING:
    from rdeic.evaluation.bench.sizes import CoderSpeed, ColdStart, SizeCosts
    from rdeic.evaluation.bench.subject import Named
    from rdeic.evaluation.bench.times import StageTimes

_LARGEST_SIDE = 65_535
_SIZE = "768x512"
_MEGAPIXELS = "0.1,0.4,1,4"
_MOST_MEGAPIXELS = MAX_PIXELS / 1e6
_PLOTS = (".svg", ".png", ".jpg")


class BenchOptions(NamedTuple):
    """The options of `rdeic bench`."""

    models: list[str]
    quality: float
    steps: list[int]
    runs: int
    size: str | None  # WIDTHxHEIGHT of generated pictures
    megapixels: str | None  # "0.1,1,12"
    device: str | None
    json: str | None  # name of a file, or STREAM
    plot: Path | None


class _Costs(NamedTuple):
    """What is measured beside the stages."""

    sizes: list[SizeCosts]
    cold: ColdStart
    coder: CoderSpeed


def bench(arguments: list[str], options: BenchOptions) -> None:
    """Prints the tables: stages on `arguments`' pictures or generated ones; then what sizes cost, if that is wanted.

    It is unless pictures, their size or several models are named. Raises ConfigError for what makes no sense,
    ImageError for a picture that cannot be read or that is not there, and where a result cannot be written.
    """
    from rdeic.evaluation import report
    from rdeic.evaluation.bench import times
    from rdeic.evaluation.bench.subject import Subject, check_names

    megapixels = _megapixels(arguments, options)
    _check_plot(options.plot, megapixels)
    check_names(options.models)
    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else None
    pictures = _read(arguments) if arguments else times.synthetic(*_size(options.size or _SIZE))
    rows: list[StageTimes] = []
    remark = remarks()
    with progress(len(options.models) * len(pictures) * options.runs + len(megapixels)) as advance:
        for name in options.models:
            subject = Subject(name, options.device)
            remark(subject.remark)
            rows += times.measure(subject, pictures, options.quality, options.steps, options.runs, advance)
        costs = _costs(options, megapixels, advance) if megapixels else None
    found = {
        "machine": report.machine(),
        "load_average": load,
        "quality": options.quality,
        "generated_pictures": not arguments,
        "rows": [_as_dict(row) for row in rows],
    } | _costs_as_dict(costs)
    if options.json is not None:
        _write(options.json, json.dumps(found))
    if options.plot is not None and costs is not None:
        from rdeic.evaluation.bench import sizes

        sizes.plot(options.plot, costs.sizes)
    if options.json == STREAM:
        return
    print(report.markdown(*times.table(rows)), end="\n\n")
    print(report.machine(), end="\n\n")
    size = f" of {rows[0].width}x{rows[0].height} pixels" if rows[0].width else ""
    print(
        f"{len(pictures)} {'' if arguments else 'generated '}pictures{size}, quality {options.quality:g}, runs: "
        f"{options.runs}" + ("" if load is None else f"; load average before: {load:.1f}")
    )
    if costs is not None:
        _print_costs(costs)


def _costs(options: BenchOptions, megapixels: list[float], advance: Advance) -> _Costs:
    from rdeic.evaluation.bench import sizes

    bench = sizes.Bench(options.models[0], options.device, options.quality, options.runs, advance, fail)
    size = _size(_SIZE)
    coder = sizes.coder_speed(bench, *size)
    return _Costs(sizes.measure(bench, megapixels), sizes.cold_start(bench, *size), coder)


def _print_costs(costs: _Costs) -> None:
    from rdeic.evaluation import report
    from rdeic.evaluation.bench import sizes

    print("\n" + report.markdown(*sizes.table(costs.sizes)), end="\n\n")
    print(
        "Generated pictures; each size and direction in a process of its own, whose peak of memory it is, or the GPU's."
    )
    cold, coder = costs.cold, costs.coder
    print(
        f"From the shell, {_SIZE} pixels: compress {cold.compress:.2f} s, decompress {cold.decompress:.2f} s."
    )
    print(
        f"Range coder alone: {coder.encode:.1f} million symbols a second to encode, {coder.decode:.1f} to decode "
        f"({coder.symbols:,} symbols, {coder.stream_bytes:,} bytes)."
    )


def _megapixels(arguments: list[str], options: BenchOptions) -> list[float]:
    """The sizes to measure, smallest first; none where only stages are asked for. Raises ConfigError."""
    text = options.megapixels
    if text is None:
        if arguments or options.size or len(options.models) > 1:
            return []
        text = _MEGAPIXELS
    elif len(options.models) > 1:
        raise ConfigError("--megapixels takes one --model")
    try:
        found = sorted({float(part) for part in text.split(",")})
    except ValueError:
        found = []
    if not found or not all(0 < one <= _MOST_MEGAPIXELS for one in found):
        raise ConfigError(f"--megapixels {text}: give numbers up to {_MOST_MEGAPIXELS:g}, such as 0.1,1,12")
    return found


def _check_plot(plot: Path | None, megapixels: list[float]) -> None:
    """Before anything is measured. Raises ConfigError."""
    if plot is None:
        return
    if not megapixels:
        raise ConfigError(f"--plot {plot}: draws what sizes cost; name some with --megapixels")
    if plot.suffix.lower() not in _PLOTS:
        raise ConfigError(f"--plot {plot}: use a name with {', '.join(_PLOTS)}")
    if importlib.util.find_spec("matplotlib") is None:
        raise ConfigError("--plot needs matplotlib: pip install 'rdeic[eval]'")


def _write(name: str, text: str) -> None:
    """Raises ImageError."""
    if name == STREAM:
        print(text)
        return
    try:
        files.atomic_write(Path(name), f"{text}\n".encode())
    except OSError as error:
        raise ImageError(f"{name}: cannot be written: {error.strerror or error}") from error


def _costs_as_dict(costs: _Costs | None) -> dict[str, object]:
    if costs is None:
        return {}
    sizes = [
        row._asdict() | {"compress": row.compress._asdict(), "restore": row.restore._asdict()}
        for row in costs.sizes
    ]
    return {"sizes": sizes, "cold_start": costs.cold._asdict(), "range_coder": costs.coder._asdict()}


def _read(arguments: list[str]) -> list[Named]:
    from rdeic.cli import pictures
    from rdeic.evaluation.bench.subject import Named
    from rdeic.pictures import images

    inputs = gather(arguments, pictures.kind())
    for line in inputs.left_out:
        fail(line)
    if inputs.missing:
        raise ImageError(inputs.missing[0])
    return [Named(item.name, images.read(item.path or item.read().data)) for item in inputs.items]


def _size(text: str) -> tuple[int, int]:
    found = re.fullmatch(r"(\d{1,5})x(\d{1,5})", text)
    sides = tuple(map(int, found.groups())) if found else ()
    if len(sides) != 2 or not all(1 <= side <= _LARGEST_SIDE for side in sides):
        raise ConfigError(f"--size {text}: give WIDTHxHEIGHT in pixels, such as 768x512")
    return sides


def _as_dict(row: StageTimes) -> dict[str, object]:
    stages = {name: getattr(row, name)._asdict() for name in ("encoding", "denoising", "remaining")}
    return row._asdict() | stages

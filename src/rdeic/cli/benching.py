"""`rdeic bench`."""

from __future__ import annotations

import json
import os
import re
from typing import TYPE_CHECKING, NamedTuple

from rdeic.cli.console import fail, progress, remarks
from rdeic.cli.inputs import gather
from rdeic.errors import ConfigError, ImageError

if TYPE_CHECKING:
    from rdeic.evaluation.analyses.subject import Named
    from rdeic.evaluation.analyses.times import StageTimes

_LARGEST_SIDE = 65_535


class BenchOptions(NamedTuple):
    """The options of `rdeic bench`."""

    models: list[str]
    quality: float
    steps: list[int]
    runs: int
    size: str  # WIDTHxHEIGHT of generated pictures
    device: str | None
    as_json: bool


def bench(arguments: list[str], options: BenchOptions) -> None:
    """Prints the table of times, on `arguments`' pictures or generated ones.

    Raises ConfigError for what makes no sense, ImageError for a picture that cannot be read or that is not there.
    """
    from rdeic.evaluation import report
    from rdeic.evaluation.analyses import times
    from rdeic.evaluation.analyses.subject import Subject, check_names

    check_names(options.models)
    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else None
    pictures = _read(arguments) if arguments else times.synthetic(*_size(options.size))
    rows: list[StageTimes] = []
    remark = remarks()
    with progress(len(options.models) * len(pictures) * options.runs) as advance:
        for name in options.models:
            subject = Subject(name, options.device)
            remark(subject.remark)
            rows += times.measure(subject, pictures, options.quality, options.steps, options.runs, advance)
    if options.as_json:
        print(
            json.dumps(
                {
                    "machine": report.machine(),
                    "load_average": load,
                    "quality": options.quality,
                    "generated_pictures": not arguments,
                    "rows": [_as_dict(row) for row in rows],
                }
            )
        )
        return
    print(report.markdown(*times.table(rows)), end="\n\n")
    print(report.machine(), end="\n\n")
    size = f" of {rows[0].width}x{rows[0].height} pixels" if rows[0].width else ""
    print(
        f"{len(pictures)} {'' if arguments else 'generated '}pictures{size}, quality {options.quality:g}, runs: "
        f"{options.runs}" + ("" if load is None else f"; load average before: {load:.1f}")
    )


def _read(arguments: list[str]) -> list[Named]:
    from rdeic import images
    from rdeic.cli import pictures
    from rdeic.evaluation.analyses.subject import Named

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

"""`rdeic info` and `rdeic models`: nothing here needs torch or numpy."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import typer

import rdeic
from rdeic.checkpoints import registry
from rdeic.cli.console import explain, fail, say
from rdeic.cli.inputs import RDEIC_FILES, gather
from rdeic.container.info import Info
from rdeic.errors import RdeicError


def info(arguments: list[str], as_json: bool) -> None:
    """One line on stdout for each file and each of its metadata.

    Raises typer.Exit(1) if one of the files is not a sound .rdeic file.
    """
    inputs = gather(arguments, RDEIC_FILES)
    failures = list(inputs.missing)
    for line in [*inputs.missing, *inputs.left_out]:
        fail(line)
    for item in inputs.items:
        try:
            found = rdeic.inspect(item.read().data)
        except RdeicError as error:
            text = explain(error)
            failures.append(text)
            fail(text if item.name in text else f"{item.name}: {text}")
            continue
        for line in [_as_json(item.name, found)] if as_json else _in_words(item.name, found):
            say(line, sys.stdout)
    if failures:
        raise typer.Exit(1)


def _as_json(name: str, found: Info) -> str:
    described = found.metadata and found.metadata.as_dict()
    return json.dumps({"file": name, **found._asdict(), "metadata": described, "bpp": found.bpp})


def _in_words(name: str, found: Info) -> list[str]:
    smaller = (found.stored_width, found.stored_height) != (found.width, found.height)
    stored = f"stored as {found.stored_width}x{found.stored_height}, " if smaller else ""
    head = (
        f"{name}: {found.width}x{found.height}, {stored}{found.file_bytes} bytes, {found.bpp:.4f} bpp, "
        f"quality {found.quality:g}, steps {found.steps}, seed {found.seed}, model {found.fingerprint}"
    )
    described = found.metadata.as_dict() if found.metadata else {}
    return [head, *(f"  {key}: {value}" for key, value in described.items())]


def models(arguments: list[Path]) -> None:
    """What is known of each installed model and each given folder, on stdout. Raises typer.Exit(1) for a broken one."""
    folders = [*registry.folders(), *arguments]
    broken = False
    for folder in folders:
        try:
            lines = _describe(folder)
        except RdeicError as error:
            broken = True
            fail(explain(error))
            continue
        for line in lines:
            say(line, sys.stdout)
    for wheel in registry.hollow():
        broken = True
        mend = f"pip install --force-reinstall {wheel.distribution}, or uninstall it"
        fail(f"{wheel.distribution} {wheel.version} holds no model: {mend}")
    if not folders:
        say(f"no model is installed; set {registry.MODELS_VARIABLE} to a folder of model folders", sys.stdout)
    if broken:
        raise typer.Exit(1)


def _describe(folder: Path) -> list[str]:
    """One line, and one more for each rate of several; --quality takes the nearest."""
    model, rates = registry.describe(folder), registry.rates(folder)
    size, place = _megabytes(model.weight_bytes), folder.resolve()
    name, origin = place.name, registry.origin(folder)
    where = f"{origin}  {place}" if origin else str(place)
    if len(rates) > 1:
        head = f"{name}  {size}  {len(rates)} fixed rates  {where}"
        return [head] + [
            f"  quality {100 * i / (len(rates) - 1):g}  {registry.fingerprint(rate).hex()}  "
            f"{_megabytes(registry.own_bytes(rate))}  {_steps(rate)}  {rate.name}"
            for i, rate in enumerate(rates)
        ]
    kind = "quality 0 to 100" if model.config.compression.quality_levels else "one fixed rate"
    return [f"{name}  {registry.fingerprint(rates[0]).hex()}  {size}  {kind}  {where}"]


def _steps(rate: Path) -> str:
    return f"{registry.describe(rate).config.diffusion.default_steps} steps"


def _megabytes(count: int) -> str:
    return f"{count / 1e6:.1f} MB"

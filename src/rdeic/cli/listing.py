"""`rdeic info` and `rdeic models`: nothing here needs torch or numpy."""

from __future__ import annotations

import json

import typer

import rdeic
from rdeic import registry
from rdeic.cli import batch
from rdeic.cli.console import explain, fail
from rdeic.errors import RdeicError


def info(arguments: list[str], as_json: bool) -> None:
    """One line on stdout for each file. Raises typer.Exit(1) if one of them is not a sound .rdeic file."""
    inputs = batch.gather(arguments, frozenset({".rdeic"}))
    failures = list(inputs.missing)
    for line in failures:
        fail(line)
    for item in inputs.items:
        try:
            found = rdeic.inspect(item.source())
        except RdeicError as error:
            text = explain(error)
            failures.append(text)
            fail(text if item.name in text else f"{item.name}: {text}")
            continue
        if as_json:
            print(json.dumps({"file": item.name, **found._asdict(), "bpp": found.bpp}))
        else:
            print(
                f"{item.name}: {found.width}x{found.height}, {found.file_bytes} bytes, {found.bpp:.4f} bpp, "
                f"quality {found.quality:g}, steps {found.steps}, seed {found.seed}, model {found.fingerprint}"
            )
    if failures:
        raise typer.Exit(1)


def models() -> None:
    """One line on stdout for each installed model."""
    found = registry.installed()
    for model in found:
        folders = registry.rates(model.folder)
        levels = model.config.compression.quality_levels
        several = f"{len(folders)} fixed rates" if len(folders) > 1 else "one fixed rate"
        size = f"{model.weight_bytes / 1e6:.1f} MB"
        prints = " ".join(registry.fingerprint(folder).hex() for folder in folders)
        print(f"{model.name}  {prints}  {size}  {'quality 0 to 100' if levels else several}  {model.folder}")
    if not found:
        print("no model is installed; pass a model folder with --model DIR")

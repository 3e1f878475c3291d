"""The parts of the agenda that measure: what devices make of each other's files, how long sd21 takes."""

from __future__ import annotations

import argparse
import itertools
import os
import subprocess
import sys
from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from PIL import Image

from agenda_clock import Clock
from rdeic.checkpoints import checkpoints, registry
from rdeic.codec import codec
from rdeic.container import container, payload
from rdeic.errors import ConfigError, RdeicError
from rdeic.evaluation import report
from rdeic.model.model import Rdeic
from rdeic.pictures import images
from rdeic.training import sources

ROOT = Path(__file__).resolve().parents[1]
QUALITIES = (0.0, 50.0, 100.0)
LOOKED_AT = 50.0  # the quality whose pictures are decoded on both devices, to compare them
PICTURES, MADE_PICTURES = 24, 6  # the latter of a dry run
LARGEST = (512, 768)  # height and width, of what is cut out of a picture's middle
WAYS = (("library,eager,graphs", "encode,bits,latent,step,decode,whole"), ("compile", "step,decode,encode"))


# Devices


class Maker(NamedTuple):
    """A device, with the model on it."""

    name: str
    codec: codec.Codec
    model: Rdeic

    def latent(self, blob: bytes) -> bytes:
        """A digest of all that the bits say, as this device reads them. Raises RdeicError."""
        file = container.unpack(blob, max_pixels=None)
        coded = payload.split(file.header, file.payload, self.model.config)
        with torch.inference_mode():
            y_hat = self.model.decode_y_hat(coded, file.header.quality)
        return payload.digest(coded.hyper_indices, y_hat.cpu().numpy())


class Row(NamedTuple):
    image: str
    quality: float
    made_on: str
    decoded_on: str
    bytes: int
    wrong: str  # how, or empty
    largest_difference: float | None  # of pictures decoded on both, in levels of 255; None: not compared


def compare_devices(arguments: argparse.Namespace, clock: Clock) -> list[Path]:
    """Files made on each device and decoded on the other; tables in DIR/devices.csv and on standard output."""
    table: Path = arguments.work / "devices.csv"
    if not table.is_file():
        clock.require(arguments.worthwhile)
        makers = [_maker(name, arguments.model) for name in ("cpu", arguments.device)]
        rows = list[Row]()
        for name, picture in _pictures(arguments):
            for quality, (here, there) in itertools.product(QUALITIES, (makers, makers[::-1])):
                clock.require(0.0)
                rows.append(_crossed(name, picture, quality, here, there))
        remarks = [report.command(), report.machine(), f"cpu and {arguments.device}, model {arguments.model}"]
        report.write_csv(table, Row._fields, rows, remarks)
        print(_summary(rows), flush=True)
    return [table]


def _maker(device: str, model: str) -> Maker:
    folder = registry.find(model)
    return Maker(device, codec.load(folder, device), checkpoints.load_model(folder, device)[0])


def _crossed(name: str, picture: images.Picture, quality: float, here: Maker, there: Maker) -> Row:
    blob = here.codec.compress(picture, quality, verify=True)
    row = Row(name, quality, here.name, there.name, len(blob), "", None)
    try:
        if there.latent(blob) != here.latent(blob):
            return row._replace(wrong="other symbols than were encoded")
        decoded = np.asarray(there.codec.decompress(blob)).astype(float)
    except RdeicError as error:
        return row._replace(wrong=str(error))
    if quality == LOOKED_AT:
        gap = np.abs(decoded - np.asarray(here.codec.decompress(blob)).astype(float))
        row = row._replace(largest_difference=float(gap.max()))
    return row


def _summary(rows: Sequence[Row]) -> str:
    """A table by direction and quality, then the names of the files that came out wrong."""
    groups = defaultdict[tuple[str, str, float], list[Row]](list)
    for place, row in enumerate(rows):
        # Where both devices are one, the two directions still are two.
        groups[f"{row.made_on} -> {row.decoded_on}", str(place % 2), row.quality].append(row)
    lines = []
    for (direction, _, quality), group in groups.items():
        gaps = [row.largest_difference for row in group if row.largest_difference is not None]
        wrong = sum(bool(row.wrong) for row in group)
        lines.append(
            (direction, f"{quality:g}", str(len(group)), str(wrong), f"{max(gaps):g}" if gaps else "")
        )
    header = ("made -> decoded on", "quality", "files", "wrong", "largest difference of 255")
    names = [
        f"wrong: {row.image} at quality {row.quality:g}, {row.made_on} -> {row.decoded_on}: {row.wrong}"
        for row in rows
        if row.wrong
    ]
    total = f"devices: {len(rows)} files, {len(names)} wrong"
    return "\n".join([report.markdown(header, lines), "", *names, total])


def _pictures(arguments: argparse.Namespace) -> Iterator[tuple[str, images.Picture]]:
    """The first pictures of --eval, or else of --data; of a dry run, made ones."""
    if arguments.tiny and arguments.eval is None:
        for number in range(MADE_PICTURES):
            small = np.random.default_rng(number).integers(0, 256, (5, 7, 3), dtype=np.uint8)
            made = Image.fromarray(small).resize((96, 64), Image.Resampling.BICUBIC)
            yield f"made-{number:02}", np.asarray(made)
        return
    given = [arguments.eval] if arguments.eval else arguments.data
    found = sources.find(given)[:PICTURES]
    if not found:
        raise ConfigError("devices needs pictures; give --eval or --data")
    for source in found:
        picture: images.Picture = images.read(source.read())
        top, left = (max(side - most, 0) // 2 for side, most in zip(picture.shape, LARGEST, strict=False))
        yield source.name, picture[top : top + LARGEST[0], left : left + LARGEST[1]].copy()


# Time


def time_full_size(arguments: argparse.Namespace, clock: Clock) -> list[Path]:
    """benchmarks/full_size.py with random weights: every way checked against float32, then timed.

    What has not ended after --time-seconds is given up; translating the networks comes last.
    """
    tables, budget = [], Clock(min(arguments.time_seconds, clock.left), spare=0.0)
    for ways, parts in WAYS:
        table: Path = arguments.work / f"time-{ways.split(',')[-1]}.csv"
        tables.append(table)
        if table.is_file():
            continue
        clock.require(arguments.worthwhile)
        program = [sys.executable, str(ROOT / "benchmarks" / "full_size.py"), "--config", arguments.full_size]
        program += ["--device", arguments.device, "--sizes", arguments.sizes, "--runs", str(arguments.runs)]
        program += ["--precision", arguments.precision, "--ways", ways, "--parts", parts, "-o", str(table)]
        # Translating takes minutes on two CPU cores: a dry run goes the same way, but translates nothing.
        untranslated = {"TORCHDYNAMO_DISABLE": "1"} if arguments.tiny else {}
        environment = {**os.environ, **untranslated}
        try:
            left = max(budget.left, 1.0)
            status = subprocess.run(program, check=False, timeout=left, env=environment).returncode
        except subprocess.TimeoutExpired:
            print(f"time: {ways} did not end in its time", flush=True)
            continue
        if not table.is_file():
            raise ConfigError(f"{' '.join(program)} ended with {status}; its message is above")
    return [table for table in tables if table.is_file()]

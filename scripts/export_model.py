"""A trained model in half precision, as the package carries it.

    python scripts/export_model.py runs/mini/fixed-step/model src/rdeic/weights/mini [--gains -0.08]

--gains moves the range of rates of a model of continuous quality without training: numbers that are added to the log
gains of its knots, lowest quality first; knots without a number stay.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import torch

import rdeic
from rdeic.checkpoints.checkpoints import load_model, save_model
from rdeic.errors import ConfigError
from rdeic.model.model import Rdeic


def shift_gains(model: Rdeic, shifts: list[float]) -> None:
    """Raises ConfigError for a model without gains, and for more numbers than it has knots."""
    table = model.compression.log_gain
    if table is None or len(shifts) > len(table.knots):
        raise ConfigError(f"--gains: {len(shifts)} numbers are more than the model has knots")
    table.knots.data[: len(shifts)] += torch.tensor(shifts)[:, None]


def main() -> None:
    options = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    options.add_argument("source", type=Path, help="folder of the trained model")
    options.add_argument("target", type=Path, help="folder to write")
    options.add_argument("--gains", type=float, nargs="+", default=[], metavar="SHIFT")
    arguments = options.parse_args()
    model, _ = load_model(arguments.source, "cpu")
    if arguments.gains:
        shift_gains(model, arguments.gains)
    save_model(model, arguments.target, torch.float16)
    model, fingerprint = load_model(arguments.target, "cpu")  # as every user will
    parameters = sum(p.numel() for p in model.parameters())
    print(f"{arguments.target}: {parameters:,} parameters, fingerprint {fingerprint.hex()}")


if __name__ == "__main__":
    try:
        main()
    except rdeic.RdeicError as error:
        sys.exit(f"export_model: {error}")

"""Keep on record what a released model consists of, so that a test can tell whether its wheel still fits the networks.

    python scripts/record_model.py mini    # tests/released_models/mini-c0f58063.json

A record is the configuration and a digest of the weights' names and shapes. What is on record is never changed.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
from pathlib import Path

import torch

from rdeic import config
from rdeic.checkpoints import registry
from rdeic.checkpoints.checkpoints import shapes_of
from rdeic.errors import RdeicError
from rdeic.model.model import Rdeic

RECORDS = Path(__file__).resolve().parents[1] / "tests" / "released_models"


def digest(model: config.ModelConfig) -> str:
    """SHA-256 of the names and shapes that today's networks have in this configuration, a line for each tensor."""
    with torch.device("meta"):
        shapes = shapes_of(Rdeic(model).state_dict())
    lines = [f"{name} {' '.join(map(str, shape))}\n" for name, shape in sorted(shapes.items())]
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "model", nargs="?", default="mini", help="name of an installed model, or a model folder"
    )
    try:
        folder = registry.find(parser.parse_args().model)
        model = registry.describe(folder).config
        record = RECORDS / f"{model.name}-{registry.fingerprint(folder).hex()}.json"
    except RdeicError as error:
        sys.exit(f"record_model: {error}")
    if record.exists():
        sys.exit(f"record_model: {record} is there already, and stays")
    content = {"tensors": digest(model), "config": json.loads(config.to_json(model))}
    record.parent.mkdir(exist_ok=True)
    record.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    print(record)


if __name__ == "__main__":
    main()

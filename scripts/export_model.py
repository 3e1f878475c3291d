"""Turn a trained model folder into the half-precision one that the package embeds.

python scripts/export_model.py runs/mini/fixed-step/model src/rdeic/weights/mini
"""

from __future__ import annotations

import sys
from pathlib import Path

import torch

from rdeic.checkpoints import load_model, save_model


def main(source: str, target: str) -> None:
    model, _ = load_model(Path(source), "cpu")
    save_model(model, Path(target), torch.float16)
    model, fingerprint = load_model(Path(target), "cpu")  # as every user will
    parameters = sum(p.numel() for p in model.parameters())
    print(f"{target}: {parameters:,} parameters, fingerprint {fingerprint.hex()}")


if __name__ == "__main__":
    main(*sys.argv[1:])

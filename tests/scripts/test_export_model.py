"""Weights on their way into the package."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

import export_model
from rdeic.errors import ConfigError
from support.tiny import TINY, save_random_model


def test_an_export_can_move_the_range_of_rates(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    start, out = save_random_model(TINY, tmp_path / "start", seed=1), tmp_path / "out"
    monkeypatch.setattr(sys, "argv", ["export_model.py", str(start), str(out), "--gains", "-0.25"])
    export_model.main()
    before, after = (
        load_file(place / "model.safetensors")["compression.log_gain.knots"].float() for place in (start, out)
    )
    assert torch.equal(after[0], (before[0] - 0.25).half().float())
    assert torch.equal(after[1:], before[1:].half().float())
    monkeypatch.setattr(sys, "argv", [*sys.argv[:3], "--gains", *["1"] * (len(before) + 1)])
    with pytest.raises(ConfigError, match="more than the model has knots"):
        export_model.main()

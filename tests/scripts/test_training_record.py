"""What a model card says of a run, from its configuration and its log."""

from __future__ import annotations

from pathlib import Path

import pytest

import training_record

ROOT = Path(__file__).resolve().parents[2]
LOG = "step   50/6700  loss 1.5  0.600 s/step  1:06:30 left\nstep  50/6700  held out: psnr_0.5 22.5\n"


@pytest.mark.parametrize(("stage", "said"), [("refinement", "50 of 6,700"), ("critics", "50")])
def test_a_run_by_the_clock_has_no_planned_steps(stage: str, said: str, tmp_path: Path) -> None:
    log = tmp_path / "run.log"
    log.write_text(LOG)
    run = training_record.read_stage("fixed-step", ROOT / "configs" / "mini" / f"{stage}.toml", log)
    assert training_record.progress(run) == said
    assert run.hours == pytest.approx(50 * 0.6 / 3600)

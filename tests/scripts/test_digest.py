"""The page of documentation that is made of a report."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

import digest
from rdeic.errors import ConfigError
from rdeic.evaluation.results import save
from support.report_results import results


def test_a_digest_has_the_tables_the_curves_and_where_they_come_from(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("matplotlib")
    pytest.importorskip("bjontegaard")
    given = results()
    save(given, tmp_path)
    out = tmp_path / "docs" / "kodak.md"
    out.parent.mkdir()
    monkeypatch.setattr(sys, "argv", ["digest.py", str(tmp_path), "--anchor", "jpeg", "-o", str(out)])
    digest.main()
    page = out.read_text(encoding="utf-8")
    assert (out.parent / "images" / "kodak.svg").is_file() and "(images/kodak.svg)" in page
    # The same quality for 0.5 / 2.2 of the bits, in all metrics but FID, which was made dearer with the bits.
    assert page.count("-77.3% (100%)") == 4
    assert "| 0.030 bpp | PSNR" in page and "smallest: 0.0600 bpp" in page
    for line in (given.command, *given.hardware, *given.versions, "niqe: not measured", "bpg: not measured"):
        assert line in page
    with pytest.raises(ConfigError, match="choose from rdeic, avif"):
        digest.page(given, "heic", "images/kodak.svg")

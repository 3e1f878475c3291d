"""What a report compares: anchors, BD-rates, the headline, and what was published."""

from __future__ import annotations

import math
import sys
from pathlib import Path

import pytest

from rdeic.errors import ConfigError
from rdeic.evaluation import published, report_page
from rdeic.evaluation.types import Score
from support.report_results import (
    DASH,
    Page,
    columns,
    drawings,
    failed,
    results,
)


def test_bd_rates_are_against_the_anchor_asked_for(tmp_path: Path) -> None:
    pytest.importorskip("bjontegaard")
    page = Page(report_page.write(results(), tmp_path, anchor="webp"))
    text = page.text
    # same quality at every setting, so the BD-rate is the ratio of the bits: 0.5 / 1.3
    assert page.row("rdeic", "\N{MINUS SIGN}61.5% 100%")[1:5] == ["\N{MINUS SIGN}61.5% 100%"] * 4
    assert "For the same quality as webp , on average, rdeic needs 62% fewer bits by PSNR" in text
    assert text.index("Bits against webp") < text.index("Bits against avif")
    tables = [a for _, a in page.elements if a.get("data-tab") == "anchor"]
    assert len(tables) == 4 and not any("hidden" in a for a in tables)  # which is left to the script


def test_codecs_are_compared_at_the_same_rate_where_they_reach_it(tmp_path: Path) -> None:
    page = Page(report_page.write(results(), tmp_path))
    tables = [a for _, a in page.elements if a.get("data-tab") == "rate"]
    assert len(tables) == 5 and not any("hidden" in a for a in tables)  # which is left to the script
    chosen = [a["value"] for tag, a in page.elements if tag == "option" and "selected" in a]
    assert chosen == ["4"]  # the one that most codecs reach
    rates = [row for row in page.rows if row and row[0] == "avif" and row[-1].startswith("smallest")]
    assert {row[-1] for row in rates} == {"smallest: 0.0600 bpp"} and rates[0][1:-1] == [DASH] * 5
    # 0.0675 bpp: rdeic's third setting; for avif log(0.0675 / 0.06) / log(1.5) of the way to its second
    share = math.log(0.0675 / 0.06) / math.log(1.5)
    assert page.row("avif", f"{23 + 1.45 * share:.2f}", f"{1 - 0.3 / 2 + 0.05 * share:.4f}")
    bold = [a.get("class", "") for tag, a in page.elements if tag == "td" and "best" in a.get("class", "")]
    assert len(bold) == 3 * 5  # where only rdeic gets it is best of nothing, above it is in every metric
    assert page.row("rdeic", "25.80")
    start = page.rows.index(page.row("rdeic", "25.80"))
    assert [row[-1] for row in page.rows[start : start + 4]] == [
        "",
        "",
        "smallest: 0.0780 bpp",
        "smallest: 0.1320 bpp",
    ]


def test_the_headline_is_about_another_codec_than_the_anchor(tmp_path: Path) -> None:
    pytest.importorskip("bjontegaard")
    page = Page(report_page.write(results(), tmp_path, anchor="rdeic"))
    assert "For the same quality as rdeic , on average, avif needs 100% more bits by PSNR" in page.text


def test_the_headline_keeps_no_metric_back(tmp_path: Path) -> None:
    pytest.importorskip("bjontegaard")
    apart = tuple(  # of webp's PSNR a small part is within the others' range, of its LPIPS nothing
        one._replace(
            scores=tuple(
                Score(s.metric, s.value + {"psnr": 4.0, "lpips": 9.0}.get(s.metric, 0.0)) for s in one.scores
            )
        )
        if one.codec == "webp"
        else one
        for one in results().measurements
    )
    text = Page(report_page.write(results(apart), tmp_path, anchor="webp")).text
    assert f"{DASH} by PSNR only 13% of the quality range in common" in text
    assert f"{DASH} by LPIPS rdeic and webp share 0% of their qualities" in text
    assert "62% fewer bits by MS-SSIM over 100% of the quality range" in text


def test_the_default_anchor_is_the_one_that_compares_best(tmp_path: Path) -> None:
    pytest.importorskip("bjontegaard")
    alone = tuple(  # avif's qualities meet no other's
        one._replace(scores=tuple(Score(s.metric, s.value + 100) for s in one.scores))
        if one.codec == "avif"
        else one
        for one in results().measurements
    )
    page = Page(report_page.write(results(alone)._replace(set_scores=()), tmp_path))
    assert "For the same quality as webp" in page.text
    assert "share 0% of their qualities" in page.text


def test_an_unknown_anchor_or_data_set_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    with pytest.raises(
        ConfigError, match="anchor 'vvc' was not measured: choose from rdeic, avif, webp, jpeg"
    ):
        report_page.write(results(), tmp_path, anchor="vvc")
    with pytest.raises(ConfigError, match="nothing published on 'kodak'"):
        report_page.write(results(), tmp_path, published_on="kodak")
    assert not list(tmp_path.iterdir())


def test_published_curves_are_drawn_beside(tmp_path: Path) -> None:
    page = Page(report_page.write(results(), tmp_path, published_on="Kodak"))
    assert {"DiffEIC", "RDEIC", "MS-ILLM"} <= set(page.texts)
    assert published.SOURCE in page.text
    assert not set(published.VARIANTS) & set(page.texts)
    assert published.SOURCE not in Page(report_page.write(results(), tmp_path)).text


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("value", [math.inf, math.nan, 30.0])
def test_odd_values_are_shown_as_what_they_are(tmp_path: Path, value: float) -> None:
    odd = tuple(one._replace(scores=(Score("psnr", value),)) for one in results().measurements)
    path = report_page.write(results(odd)._replace(set_scores=()), tmp_path)
    assert Page(path).row("avif", "1")[3] == {math.inf: "\N{INFINITY}", 30.0: "30.00"}.get(value, DASH)
    assert len(drawings(path)) == (value == 30)


def test_without_the_package_for_bd_rates_there_is_a_report(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "bjontegaard", None)  # as if it were not installed
    page = Page(report_page.write(results(), tmp_path))
    assert "BD-rates need bjontegaard: pip install 'rdeic[eval]'" in page.text
    assert page.row("rdeic", DASH)[1:] == [DASH] * 5


def test_a_run_in_which_everything_failed_has_a_report(tmp_path: Path) -> None:
    nothing = tuple(failed(one, "no such program") for one in results().measurements)
    page = Page(report_page.write(results(nothing)._replace(set_scores=()), tmp_path))
    assert "60 of them failed" in page.text and page.row("jpeg", "10")[-1] == "3 of 3"
    assert len(columns(tmp_path / "measurements.csv")) == 60


def test_one_codec_alone_is_compared_with_nothing(tmp_path: Path) -> None:
    only = tuple(one for one in results().measurements if one.codec == "jpeg")
    page = Page(report_page.write(results(only), tmp_path))
    assert "BD-rate" not in page.text and page.row("jpeg", "10")[-1] == "0 of 3"


def test_published_curves_cover_what_the_paper_plots() -> None:
    assert published.datasets() == ("Kodak", "Tecnick", "CLIC2020")
    rdeic = published.curve("Kodak", published.RDEIC, "psnr")
    assert rdeic.bpp == tuple(sorted(rdeic.bpp))
    assert rdeic.values == (22.21, 23.51, 24.49, 25.22, 25.78)  # 5, 5, 5, 2 and 2 steps
    names = {curve.name for curve in published.curves("CLIC2020", "fid")}
    assert {"BPG", "VVC", "ELIC", "HiFiC", "MS-ILLM", "VQIR", "Text+Sketch", "PerCo", "DiffEIC"} < names
    assert published.curves("Kodak", "fid") == ()  # too small a set
    assert "SD Encoder" not in names and published.bound("CLIC2020", "psnr") == 28.85
    assert published.bound("Kodak", "fid") is None


def test_what_was_not_published_is_refused_by_name() -> None:
    with pytest.raises(
        ConfigError, match="nothing published on 'kodak2': choose from Kodak, Tecnick, CLIC2020"
    ):
        published.curves("kodak2", "psnr")
    with pytest.raises(ConfigError, match="nothing published of 'JPEG' in 'psnr' on 'Kodak'"):
        published.curve("Kodak", "JPEG", "psnr")

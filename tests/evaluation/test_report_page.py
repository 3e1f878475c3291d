"""The report shows what was measured, needs no network, and trusts no name or message."""

from __future__ import annotations

import base64
import hashlib
import json
import math
import re
import sys
from pathlib import Path

import pytest

from rdeic.errors import ConfigError
from rdeic.evaluation import published, report_page
from rdeic.evaluation.means import curve, means
from rdeic.evaluation.results import ORIGINAL, Shown
from rdeic.evaluation.same_rate import at_rates
from rdeic.evaluation.types import METRICS, Score, Unavailable, UnavailableCodec
from support.report_results import (
    CODECS,
    DASH,
    IMAGES,
    Page,
    columns,
    drawings,
    failed,
    picture_file,
    results,
    show,
)

EVIL = "\"><script>alert(1)</script><img src=x onerror=alert(1)>{{ 7*7 }}</style>'&amp;"


def test_the_page_needs_nothing_but_itself(tmp_path: Path) -> None:
    page = Page(report_page.write(show(tmp_path, results()), tmp_path))
    for tag, attributes in page.elements:
        for name in ("src", "href", "data", "poster", "srcset", "action"):
            link = attributes.get(name, "")
            assert not link or link.startswith("#") or link in ("measurements.csv", "means.csv"), (tag, link)
        assert not any(name.startswith("on") for name in attributes), (tag, attributes)
    assert tag is not None and "link" not in {tag for tag, _ in page.elements}
    assert not re.search(r"url\(|@import|https?:", "".join(page.raw["style"] + page.raw["script"][1:]))
    targets = {attributes["id"] for _, attributes in page.elements if "id" in attributes}
    assert {a["href"][1:] for _, a in page.elements if a.get("href", "").startswith("#")} <= targets


def test_a_browser_runs_our_script_and_no_other(tmp_path: Path) -> None:
    page = Page(report_page.write(results(), tmp_path))
    policy = next(a["content"] for tag, a in page.elements if tag == "meta" and "http-equiv" in a)
    assert "default-src 'none'" in policy
    digest = base64.b64encode(hashlib.sha256(page.raw["script"][-1].encode()).digest()).decode()
    assert f"script-src 'sha256-{digest}'" in policy
    assert "unsafe" not in policy.replace("style-src 'unsafe-inline'", "")


def test_names_and_messages_are_only_text(tmp_path: Path) -> None:
    good = results().measurements
    mine = tuple(one._replace(codec=EVIL) if one.codec == "webp" else one for one in good)
    mine = tuple(one._replace(image=EVIL + one.image) for one in mine)
    mine += (mine[0]._replace(setting=EVIL, scores=(), error=f"crashed: {EVIL}"),)
    (tmp_path / "original.png").write_bytes(picture_file())
    everything = results(mine)._replace(
        dataset=EVIL,
        protocol=EVIL,
        command=f"rdeic evaluate {EVIL}\n# second line",
        hardware=(EVIL,),
        versions=(EVIL,),
        unavailable=(Unavailable(EVIL, EVIL),),
        unavailable_codecs=(UnavailableCodec(EVIL, EVIL),),
        shown=(
            Shown(ORIGINAL, "", mine[0].image, "original.png"),
            Shown(EVIL, "1", mine[0].image, "original.png"),
        ),
    )
    page = Page(report_page.write(everything, tmp_path))
    assert [a.get("type") for tag, a in page.elements if tag == "script"] == ["application/json", None]
    assert sum(tag == "style" for tag, _ in page.elements) == 1
    assert all(a.keys() <= {"class", "alt"} for tag, a in page.elements if tag == "img")
    assert not any(name.startswith("on") for _, a in page.elements for name in a)
    assert page.text.count(EVIL) > 20 and f"crashed: {EVIL}" in page.text
    scene = json.loads(page.raw["script"][0])[0]
    assert scene["image"] == mine[0].image and scene["versions"][1]["codec"] == EVIL
    assert len(columns(tmp_path / "measurements.csv")) == len(mine)  # no name breaks the table
    assert columns(tmp_path / "measurements.csv")[-1]["error"] == f"crashed: {EVIL}"


def test_a_file_name_that_is_no_text_spoils_nothing(tmp_path: Path) -> None:
    strange = results().measurements[0]._replace(image="caf\udce9.png")
    page = Page(report_page.write(results((strange,)), tmp_path))
    assert "caf?.png" in page.text
    assert columns(tmp_path / "measurements.csv")[0]["image"] == "caf?.png"


def test_means_are_of_what_worked_and_failures_are_told(tmp_path: Path) -> None:
    lost = tuple(
        failed(one, "timed out after 600 s")
        if (one.codec, one.setting, one.image) == ("avif", "3", "kodim02.png")
        else one
        for one in results().measurements
    )
    page = Page(report_page.write(results(lost), tmp_path))
    row = page.row("avif", "3")
    # level 2, pictures 0 and 2: (22 + 3 - 0.2) + mean of 0 and 2
    assert row[2:5] == ["0.1350", "25.80", f"{1 - 0.3 / 4:.4f}"]
    assert row[-1] == "1 of 3" and page.row("avif", "5")[-1] == "0 of 3"
    assert page.row("avif", "1", "timed out after 600 s", "3", "kodim02.png")
    assert page.row("kodim02.png", "avif", "3", DASH, "failed: timed out after 600 s")
    assert "60 files encoded and decoded" in page.text and "1 of them failed" in page.text
    mean = next(r for r in columns(tmp_path / "means.csv") if (r["codec"], r["setting"]) == ("avif", "3"))
    assert float(mean["psnr"]) == pytest.approx(25.8) and (mean["pictures"], mean["failed"]) == ("2", "1")
    assert float(mean["fid"]) == pytest.approx(35)
    (row_of_failure,) = (r for r in columns(tmp_path / "measurements.csv") if r["error"])
    told = {"codec": "avif", "setting": "3", "image": "kodim02.png", "error": "timed out after 600 s"}
    assert {name: value for name, value in row_of_failure.items() if value} == told  # and no zeros


def test_curves_are_of_settings_that_managed_all_pictures(tmp_path: Path) -> None:
    """Elsewhere quality and rate would be those of other pictures than at the next point."""
    lost = tuple(
        failed(one, "out of reach")
        if (one.codec, one.setting, one.image) == ("rdeic", "3", IMAGES[0])
        else one
        for one in results().measurements
    )
    rows = means(results(lost))
    assert len(curve(rows, "rdeic", "psnr").bpp) == 4 and len(curve(rows, "avif", "psnr").bpp) == 5
    assert len(at_rates(rows, CODECS, METRICS[:1], "rdeic")) == 4
    page = Page(report_page.write(results(lost), tmp_path))
    assert "settings at which one failed are left out, here and in what" in page.text
    everywhere = tuple(failed(one, "x") if one.image == IMAGES[0] else one for one in results().measurements)
    assert at_rates(means(results(everywhere)), CODECS, METRICS[:1], "rdeic") == ()


def test_a_metric_that_some_pictures_do_not_have_has_no_mean() -> None:
    small = tuple(
        one._replace(scores=one.scores[:1]) if one.image == IMAGES[1] else one
        for one in results().measurements
    )
    row = means(results(small)._replace(set_scores=()))[0]
    assert [score.metric for score in row.scores] == ["psnr"] and (row.pictures, row.failed) == (3, 0)


def test_what_could_not_be_had_is_told(tmp_path: Path) -> None:
    text = Page(report_page.write(results(), tmp_path)).text
    assert "niqe needs pyiqa: pip install 'rdeic[eval]'" in text
    assert "bpg bpgenc is not on the PATH" in text
    assert "rdeic evaluate kodak --codec rdeic --codec avif -o report" in text
    assert (
        "Hardware Some CPU, 2 cores, Linux Another CPU, 64 cores, Linux Versions" in text
        and "rdeic 0.1; Pillow 13.0.0" in text
    )


def test_every_measurement_is_in_the_csv(tmp_path: Path) -> None:
    given = results()
    report_page.write(given, tmp_path)
    rows = columns(tmp_path / "measurements.csv")
    assert len(rows) == len(given.measurements)
    for row, one in zip(rows, given.measurements, strict=True):
        assert (row["codec"], row["setting"], row["image"]) == (one.codec, one.setting, one.image)
        assert (int(row["bytes"]), float(row["bpp"])) == (one.bytes, one.bpp)
        assert [float(row[score.metric]) for score in one.scores] == [score.value for score in one.scores]
    head = (tmp_path / "measurements.csv").read_text().splitlines()[:4]
    machines = [f"# {line}" for line in given.hardware]
    assert head == [f"# {given.command}", *machines, "# rdeic 0.1; Pillow 13.0.0"]


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

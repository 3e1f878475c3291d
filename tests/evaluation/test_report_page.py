"""The report shows what was measured, needs no network, and trusts no name or message."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from pathlib import Path

import pytest

from rdeic.evaluation import report_page
from rdeic.evaluation.means import curve, means
from rdeic.evaluation.results import ORIGINAL, Shown
from rdeic.evaluation.same_rate import at_rates
from rdeic.evaluation.types import METRICS, Unavailable, UnavailableCodec
from support.report_results import (
    CODECS,
    DASH,
    IMAGES,
    Page,
    columns,
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

"""The page of figures: tables of ablations, sections that stay, and the command that makes them all."""

from __future__ import annotations

import shutil
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pytest

import rdeic
from analyses import ablation, page
from analyses.page import Section
from rdeic.evaluation.report import Table
from rdeic.evaluation.types import Score
from rdeic.pictures import images

ROOT = Path(__file__).resolve().parents[2]


# Ablations


def ablation_csv(path: Path) -> Path:
    lines = ["# by a command", "variant,quality,image,bpp,psnr,ms_ssim,perceptual,denoise_seconds"]
    for variant, scale, seconds in (("Baseline, 50 steps", 1.0, 5.0), ("+RRD, 2 steps", 0.5, 0.2)):
        for i, bpp in enumerate((0.02, 0.04, 0.08, 0.16)):
            lines.append(
                f'"{variant}",{i},mean,{bpp * scale},{20 + i},{0.7 + i / 20},{0.5 - i / 10},{seconds}'
            )
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def test_half_the_bits_at_equal_quality_are_50_percent_less(tmp_path: Path) -> None:
    pytest.importorskip("bjontegaard")
    header, rows = ablation.table(ablation.read(ablation_csv(tmp_path / "ablation.csv")))
    assert header[:3] == ("variant", "rates", "denoising (s)")
    assert list(rows[0]) == ["Baseline, 50 steps", "0.020 to 0.160 bpp", "5.000", "0%", "0%", "0%"]
    assert list(rows[1]) == ["+RRD, 2 steps", "0.010 to 0.080 bpp", "0.200", "-50.0%", "-50.0%", "-50.0%"]


def test_a_rate_over_few_common_qualities_says_so_and_over_none_is_none(tmp_path: Path) -> None:
    pytest.importorskip("bjontegaard")
    rows = ablation.read(ablation_csv(tmp_path / "ablation.csv"))

    def shifted(decibels: float) -> str:  # the second variant's PSNR, 20 to 23 dB as the first's
        moved = [r._replace(scores=(Score("psnr", r.scores[0].value + decibels),)) for r in rows[4:]]
        return ablation.table([*rows[:4], *moved])[1][1][3]

    assert shifted(2.0).endswith("%")
    assert shifted(2.75).endswith("% (of 4%)")  # 0.25 of 5.75 dB
    assert shifted(3.5) == "-"


def test_figures_of_the_paper_get_their_variants(tmp_path: Path) -> None:
    rows = ablation.read(ablation_csv(tmp_path / "ablation.csv"))
    assert {name: len(chosen) for name, chosen in ablation.figures(rows).items()} == {"fig7": 8}
    renamed = [row._replace(variant=f"my {row.variant}") for row in rows]
    assert ablation.figures(renamed) == {"all": renamed}


def test_other_tables_are_refused(tmp_path: Path) -> None:
    (tmp_path / "x.csv").write_text("codec,bpp\njpeg,0.1\n", encoding="utf-8")
    with pytest.raises(rdeic.ConfigError, match="no table of ablations"):
        ablation.read(tmp_path / "x.csv")
    table = ablation_csv(tmp_path / "y.csv")
    table.write_text(table.read_text(encoding="utf-8").replace("0.04,", "much,"), encoding="utf-8")
    with pytest.raises(rdeic.ConfigError, match=r"y\.csv: not a table of ablations"):
        ablation.read(table)


# The page


def section(name: str, value: str) -> Section:
    return Section(
        name, name.title(), f"About {name}.", (f"{name}.svg",), Table(("a",), [(value,)]), ("`python x`",)
    )


def test_a_section_is_replaced_and_the_others_stay(tmp_path: Path) -> None:
    order = ("first", "second", "third")
    page.update(tmp_path, [section("third", "3"), section("first", "1")], order)
    before = (tmp_path / "figures.md").read_text(encoding="utf-8")
    assert before.index("## First") < before.index("## Third") and "## Second" not in before
    assert "![First](images/figures/first.svg)\n\n| a |" in before and before.count("* `python x`") == 2
    page.update(tmp_path, [section("second", "2")], order)
    page.update(tmp_path, [section("first", "changed")], order)
    text = (tmp_path / "figures.md").read_text(encoding="utf-8")
    assert [line for line in text.splitlines() if line.startswith("## ")] == [
        "## First",
        "## Second",
        "## Third",
    ]
    assert "| changed |" in text and "| 1 |" not in text and "| 3 |" in text
    page.update(tmp_path, [section("first", "1")], ("first", "third"))
    assert (tmp_path / "figures.md").read_text(encoding="utf-8") == before


def test_a_page_that_is_no_text_is_not_overwritten(tmp_path: Path) -> None:
    (tmp_path / "figures.md").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(rdeic.ConfigError, match=r"figures\.md: cannot be read"):
        page.update(tmp_path, [section("first", "1")], ("first",))
    assert (tmp_path / "figures.md").read_bytes() == b"\xff\xfe\x00"


# The command


def test_every_figure_by_one_command(tiny_folder: Path, photo: images.Picture, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    pytest.importorskip("bjontegaard")
    data, out = tmp_path / "data", tmp_path / "out"
    data.mkdir()
    for name, picture in (("a.png", photo), ("b.png", photo[:, ::-1].copy()), ("c.png", photo)):
        images.write(picture, data / name, "png")
    command = [sys.executable, str(ROOT / "benchmarks" / "figures.py"), "all", "--model", str(tiny_folder)]
    arguments = ["--data", str(data), "--pictures", "2", "--steps", "1,3", "--details", "0,1", "--show", "b"]
    table = ["--ablation", str(ablation_csv(tmp_path / "ablation.csv"))]
    other = shutil.copytree(tiny_folder, tmp_path / "other")
    done = subprocess.run(
        [*command, *arguments, *table, "--against", str(other), "--device", "cpu", "-o", str(out)],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    text = (out / "figures.md").read_text(encoding="utf-8")
    assert len([line for line in text.splitlines() if line.startswith("## ")]) == 6
    assert "2 pictures: a, b" in text and "not measured: perceptual" in text
    drawn = {path.name for path in (out / "images" / "figures").iterdir()}
    assert drawn == {
        "steps.svg", "detail.svg", "detail.jpg", "allocation.jpg", "correlation.svg", "ablation-fig7.svg",
    }  # fmt: skip
    for name in drawn:
        assert f"(images/figures/{name})" in text
        path = out / "images" / "figures" / name
        assert path.stat().st_size < 150_000
        if path.suffix == ".svg":
            assert ElementTree.parse(path).getroot().tag == "{http://www.w3.org/2000/svg}svg"
        else:
            images.read(path)
    stored = {path.stem for path in (out / "measurements" / "figures").iterdir()}
    assert stored == {"steps", "detail", "allocation", "correlation", "times"}

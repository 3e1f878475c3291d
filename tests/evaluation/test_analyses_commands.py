"""The paper's ablations as tables, and the commands that measure and draw them all."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest

import rdeic
from rdeic import cli
from rdeic.evaluation.analyses import ablation, times
from rdeic.evaluation.types import Score
from rdeic.pictures import images
from rdeic.system import memory

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


# The commands


class Outcome(NamedTuple):
    code: int
    out: str
    err: str


@pytest.fixture
def bench(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tiny_folder: Path
) -> Callable[..., Outcome]:
    """Runs `rdeic bench ARGUMENTS` of the tiny model in this process."""

    def run(*arguments: str | Path) -> Outcome:
        always = ("rdeic", "bench", "--model", str(tiny_folder), "--device", "cpu")
        monkeypatch.setattr(sys, "argv", [*always, *map(str, arguments)])
        with pytest.raises(SystemExit) as exit_:
            cli.main()
        captured = capsys.readouterr()
        return Outcome(exit_.value.code or 0, captured.out, captured.err)

    return run


def test_bench_prints_the_table_of_times(bench: Callable[..., Outcome]) -> None:
    done = bench("--size", "64x48", "--runs", "1", "--steps", "1", "--steps", "3")
    assert (done.code, done.err) == (0, "")
    lines = done.out.splitlines()
    assert lines[0].startswith("| model | steps | encoding (s) | denoising (s) | remaining (s) |")
    assert [line.split(" | ")[1] for line in lines[2:4]] == ["1", "3"]
    assert "torch" in lines[5] and lines[7].startswith("5 generated pictures of 64x48 pixels, quality 50")


def test_bench_on_pictures_as_json(
    bench: Callable[..., Outcome], photo: images.Picture, tmp_path: Path
) -> None:
    images.write(photo, tmp_path / "photo.png", "png")
    found = json.loads(bench(tmp_path, "--steps", "2", "--json", "-").out)
    (row,) = found["rows"]
    assert not found["generated_pictures"] and " cores" in found["machine"]
    assert (row["width"], row["height"], row["samples"], row["steps"]) == (130, 96, 3, 2)
    assert row["encoding"]["mean"] > 0 and row["denoising"]["deviation"] >= 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--size", "0x5"], "--size 0x5: give WIDTHxHEIGHT"),
        (["none.png"], "none.png: cannot be read"),
        (["--size", "64x64", "--steps", "400"], "400 steps"),
        (["--megapixels", "0.1,many"], "--megapixels 0.1,many: give numbers"),
        (["--megapixels", "1000"], "--megapixels 1000: give numbers"),
        (["--size", "64x64", "--plot", "plot.svg"], "--plot plot.svg: draws what sizes cost"),
        (["--plot", "plot.gif"], "--plot plot.gif: use a name with .svg"),
        (["--model", "TINY"], "tiny: more than one model of this name"),
    ],
)
def test_bench_says_what_is_wrong(
    bench: Callable[..., Outcome], arguments: list[str], message: str, tiny_folder: Path
) -> None:
    done = bench(*(str(tiny_folder) if argument == "TINY" else argument for argument in arguments))
    assert (done.code, done.out) == (1, "")
    assert message in done.err and len(done.err.splitlines()) == 1


def test_bench_measures_sizes_memory_cold_start_and_coder(
    bench: Callable[..., Outcome], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("matplotlib")
    monkeypatch.setattr(memory, "free", lambda: 10**9)
    found, plot = tmp_path / "found.json", tmp_path / "plot.svg"
    sizes = ("--size", "64x48", "--megapixels", "200,0.02", "--runs", "1", "--steps", "1")
    done = bench(*sizes, "--json", found, "--plot", plot)
    assert done.code == 0
    assert done.err.startswith("rdeic: 200 megapixels: left out: ") and "there are 1.00 GB" in done.err
    lines = done.out.splitlines()
    (header,) = (i for i, line in enumerate(lines) if line.startswith("| megapixels |"))
    assert lines[header + 2].split(" | ")[1] == "128x128" and not lines[header + 3]
    assert "From the shell, 768x512 pixels: compress" in done.out and "million symbols a second" in done.out
    told = json.loads(found.read_text(encoding="utf-8"))
    for row in told["sizes"]:
        for cost in (row["compress"], row["restore"]):
            assert cost["per_megapixel"] == pytest.approx(
                cost["seconds"] / row["width"] / row["height"] * 1e6
            )
            assert 50e6 < cost["peak_bytes"] < 2e9  # of Python with torch, in bytes
    assert told["cold_start"]["decompress"] > 0 and told["range_coder"]["decode"] > 0
    assert ElementTree.parse(plot).getroot().tag == "{http://www.w3.org/2000/svg}svg"


def test_textures_are_the_same_everywhere_and_never_repeat() -> None:
    texture = times.texture(1500, 600)
    assert texture.shape == (600, 1500, 3) and np.array_equal(texture, times.texture(1500, 600))
    assert np.array_equal(texture[:300, :700], times.texture(700, 300))
    assert all(texture[..., channel].std() > 30 for channel in range(3))
    for period in (512, 719, 1024):
        assert (texture[:, :-period] != texture[:, period:]).mean() > 0.9


def test_every_figure_by_one_command(tiny_folder: Path, photo: images.Picture, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    pytest.importorskip("bjontegaard")
    data, out = tmp_path / "data", tmp_path / "out"
    data.mkdir()
    for name, picture in (("a.png", photo), ("b.png", photo[:, ::-1].copy()), ("c.png", photo)):
        images.write(picture, data / name, "png")
    command = [sys.executable, str(ROOT / "scripts" / "figures.py"), "all", "--model", str(tiny_folder)]
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

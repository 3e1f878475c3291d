"""The program that trains and measures the ablations by itself, on the tiny model."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

import ablation
import rdeic
from analyses.ablation import FIGURES
from rdeic.errors import ConfigError
from rdeic.evaluation import report
from rdeic.pictures import images
from rdeic.training import config as settings
from rdeic.training import metrics
from support.tiny import TINY, save_random_model
from support.training_runs import save_distance

ROOT = Path(__file__).parents[2]
CONFIGS = ROOT / "configs"
pytestmark = pytest.mark.filterwarnings("ignore")  # of tensorboard's dependencies


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Photographs to train on and to measure, and the weights of a distance."""
    top = tmp_path_factory.mktemp("ablation")
    rng = np.random.default_rng(0)
    for name, count in (("train", 3), ("eval", 2)):
        (top / name).mkdir()
        for index in range(count):
            small = Image.fromarray(rng.integers(0, 255, (9, 12, 3), np.uint8))
            small.resize((272, 208), Image.Resampling.BICUBIC).save(top / name / f"{index}.png")
    save_distance(top)
    save_random_model(TINY, top / "start", seed=1)
    return top


def test_every_method_names_a_configuration_and_every_configuration_is_used() -> None:
    runs = {method.run for methods in ablation.SETS.values() for method in methods}
    models = {settings.read(CONFIGS / "ablation" / f"{run}.toml").model for run in runs}
    used = runs | {Path(model).parent.name for model in models} | {ablation.PRIOR}
    assert used == {path.stem for path in (CONFIGS / "ablation").glob("*.toml")}
    names = {method.name for methods in ablation.SETS.values() for method in methods}
    assert all(names.issuperset(drawn) for drawn in FIGURES.values())


def test_gains_at_equal_rates_need_no_common_quality(tmp_path: Path) -> None:
    pytest.importorskip("bjontegaard")
    path, lines = tmp_path / "ablation.csv", ["variant,quality,bpp,psnr,denoise_seconds"]
    for name, better in (("Baseline", 0.0), ("+RRD", 3.25)):
        lines += [f"{name},{i},{0.02 * 2**i},{15 + better + i * i / 8},1" for i in range(4)]
    path.write_text("\n".join(lines), encoding="utf-8")
    assert "| +RRD | +3.2500 |" in ablation.tables(path)


@pytest.mark.slow
def test_one_command_trains_measures_and_does_nothing_twice(folder: Path, tmp_path: Path) -> None:
    pytest.importorskip("bjontegaard")
    pytest.importorskip("pytorch_msssim")
    out = tmp_path / "out"
    given = ["--data", folder / "train", "--eval", folder / "eval", "--start", folder / "start", "-o", out]
    given += ["--perceptual", folder / "squeezenet.safetensors", "--crop", "192x192", "--sets", "table2,fig9"]
    arguments = [*map(str, given), "--steps-scale", "1e-4", "--threads", "1"]
    ablation.main(arguments)
    rows = report.read_csv(out / "ablation.csv").rows
    variants = [method.name for name in ("table2", "fig9") for method in ablation.SETS[name]]
    assert [row["variant"] for row in rows[::4]] == variants  # at four qualities each
    table = (out / "ablation.md").read_text(encoding="utf-8")
    assert all(f"| {variant} |" in table for variant in variants)
    assert "lpips: not measured" in table or rows[0]["lpips"]

    # What the table says of a variant, the program does with its model.
    codec = rdeic.load(out / "rrd-fsft" / "model", "cpu")
    sizes, psnr = [], []
    for path in sorted((folder / "eval").iterdir()):
        picture = images.read(path)[8:200, 40:232]
        blob = codec.compress(picture, quality=33)
        sizes.append(len(blob))
        pair = (np.asarray(codec.decompress(blob)), picture)
        restored, original = (torch.from_numpy(one / 127.5 - 1).permute(2, 0, 1)[None] for one in pair)
        psnr.append(metrics.psnr(restored, original))
    ours = next(row for row in rows if row["variant"] == "+RRD+FSFT, 2 steps" and row["quality"] == "33.0")
    assert float(ours["bytes"]) == np.mean(sizes)
    assert float(ours["bpp"]) == pytest.approx(8 * np.mean(sizes) / 192**2)
    assert float(ours["psnr"]) == pytest.approx(np.mean(psnr), abs=1e-3)

    # What is frozen is the same in all of them.
    models = {path: load_file(path) for path in out.rglob("model.safetensors")}
    assert len(models) == 9
    given = load_file(folder / "start" / "model.safetensors")
    prior = models[out / ablation.PRIOR / "model" / "model.safetensors"]
    changed = {key.split(".")[0] for key in given if not torch.equal(prior[key], given[key])}
    assert changed == {"unet", "compression"}  # of the latter a codebook of the configuration's size
    frozen = [key for key in prior if key.startswith(("autoencoder.", "unet."))]
    assert all(torch.equal(model[key], prior[key]) for model in models.values() for key in frozen)

    before = {path: path.stat().st_mtime_ns for path in models}
    ablation.main(arguments)
    assert {path: path.stat().st_mtime_ns for path in out.rglob("model.safetensors")} == before
    with pytest.raises(ConfigError, match="another --start or --steps-scale"):
        ablation.main([*arguments, "--steps-scale", "2e-4"])

"""Metrics against values known otherwise, patches against an independent cut, and what is missing against silence."""

from __future__ import annotations

import sys
import types
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch.nn import functional

from rdeic.errors import ConfigError, ImageError
from rdeic.evaluation import metrics, patches
from rdeic.evaluation.types import METRICS
from rdeic.pictures.images import Picture
from rdeic.training.perceptual import SqueezeNetDistance


@pytest.fixture(scope="module")
def scene() -> Picture:
    """(200, 220, 3), large enough for MS-SSIM and NIQE."""
    y, x = np.mgrid[:200, :220]
    waves = np.stack([np.sin(x / 9 + y / 17), np.cos(y / 7), np.sin(x * y / 900)], -1)
    return (waves * 90 + 128).astype(np.uint8)


def judged(restored: Picture, original: Picture, *names: str) -> dict[str, float]:
    judges = metrics.load(names, None, "cpu")
    assert not judges.unavailable
    return {score.metric: score.value for score in metrics.scores(judges, restored, original)}


def test_known_values(scene: Picture) -> None:
    pytest.importorskip("pytorch_msssim")
    shifted = (scene.astype(int) + 10).astype(np.uint8)  # no overflow: the scene stays within 38..218
    found = judged(shifted, scene, "psnr", "ms_ssim", "ssim")
    assert found["psnr"] == pytest.approx(10 * np.log10(255**2 / 10**2), abs=1e-3)
    assert 0.9 < found["ssim"] < found["ms_ssim"] < 1
    same = judged(scene, scene, "ssim", "ms_ssim")
    assert same == {"ssim": pytest.approx(1, abs=1e-6), "ms_ssim": pytest.approx(1, abs=1e-6)}


def test_ssim_of_flat_pictures_is_the_formula() -> None:
    """Without structure, SSIM is its luminance term (2ab + c) / (a^2 + b^2 + c), c = (0.01 * 255)^2."""
    pytest.importorskip("pytorch_msssim")
    a, b, c = 100.0, 140.0, 2.55**2
    flat = [np.full((32, 32, 3), value, np.uint8) for value in (a, b)]
    found = judged(flat[0], flat[1], "ssim")["ssim"]
    assert found == pytest.approx((2 * a * b + c) / (a * a + b * b + c), abs=1e-4)


def test_small_pictures_have_no_ms_ssim(scene: Picture) -> None:
    pytest.importorskip("pytorch_msssim")
    assert set(judged(scene[:160], scene[:160], "psnr", "ms_ssim", "ssim")) == {"psnr", "ssim"}
    assert set(judged(scene[:10], scene[:10], "psnr", "ms_ssim", "ssim")) == {"psnr"}


def test_the_perceptual_distance_takes_its_weights_from_a_file(scene: Picture, tmp_path: Path) -> None:
    torch.manual_seed(0)
    weights = tmp_path / "weights.safetensors"
    save_file(SqueezeNetDistance().state_dict(), weights)
    judges = metrics.load(["perceptual"], str(weights), "cpu")
    (same,) = metrics.scores(judges, scene, scene)
    (other,) = metrics.scores(judges, scene[::-1], scene)
    assert abs(same.value) < 1e-6 < other.value
    assert metrics.scores(judges, scene[:31], scene[:31]) == ()
    (label,) = judges.labels
    save_file(SqueezeNetDistance().state_dict(), weights)
    assert (
        label != metrics.load(["perceptual"], str(weights), "cpu").labels[0]
    )  # other weights measure another thing


def test_what_cannot_be_had_is_reported_with_the_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (
        "pyiqa",
        "torch_fidelity",
        "torch_fidelity.utils",
        "pytorch_msssim",
        "ssimulacra2",
        "pycvvdp",
    ):
        monkeypatch.setitem(sys.modules, module, None)
    monkeypatch.setenv("PATH", "")
    names = [metric.name for metric in METRICS]
    judges = metrics.load(names, None, "cpu")
    missing = {one.metric: one.reason for one in judges.unavailable}
    assert missing.keys() == set(names) - {"psnr", "gradients"}
    assert judges.labels == ("psnr", "gradients") and judges.versions == ()
    assert "pip install pytorch-msssim" in missing["ssim"]
    assert "pip install pyiqa" in missing["niqe"] and "pip install torch-fidelity" in missing["kid"]
    assert "--perceptual" in missing["perceptual"]
    assert "pip install ssimulacra2" in missing["ssimulacra2"] and "pip install cvvdp" in missing["cvvdp"]
    assert missing["butteraugli"].startswith("no program butteraugli_main on the PATH; install libjxl")
    assert not any("\n" in reason for reason in missing.values())


def test_weights_that_cannot_be_downloaded_are_no_end(monkeypatch: pytest.MonkeyPatch) -> None:
    def offline(name: str, device: torch.device) -> None:
        raise OSError(f"cannot reach\nthe weights of {name}")

    monkeypatch.setitem(sys.modules, "pyiqa", types.SimpleNamespace(create_metric=offline))
    (missing,) = metrics.load(["psnr", "dists"], None, "cpu").unavailable
    assert missing.metric == "dists" and missing.reason.startswith(
        "OSError: cannot reach the weights of dists; "
    )


def test_a_metric_that_fails_is_named(monkeypatch: pytest.MonkeyPatch, scene: Picture) -> None:
    def create(name: str, device: torch.device) -> object:
        def metric(*pictures: torch.Tensor) -> torch.Tensor:
            raise RuntimeError("out of\nmemory")

        return metric

    monkeypatch.setitem(sys.modules, "pyiqa", types.SimpleNamespace(create_metric=create))
    monkeypatch.setattr(metrics.metadata, "version", lambda package: "1")
    with pytest.raises(ImageError, match="metric dists failed: RuntimeError: out of memory"):
        judged(scene, scene, "dists")
    assert judged(scene[:63], scene[:63], "dists") == {}  # too small: not even tried


def test_pyiqa_sees_what_it_expects(monkeypatch: pytest.MonkeyPatch, scene: Picture) -> None:
    """Pictures in 0..1, the restored one first; NIQE knows no original."""
    seen: dict[str, tuple[torch.Tensor, ...]] = {}

    def create(name: str, device: torch.device) -> object:
        def metric(*pictures: torch.Tensor) -> torch.Tensor:
            seen[name] = pictures
            return torch.tensor([[0.25]])

        return metric

    monkeypatch.setitem(sys.modules, "pyiqa", types.SimpleNamespace(create_metric=create))
    monkeypatch.setattr(metrics.metadata, "version", lambda package: "1")
    restored = 255 - scene
    assert judged(restored, scene, "lpips", "dists", "niqe") == dict.fromkeys(
        ("lpips", "dists", "niqe"), 0.25
    )
    expected = [torch.from_numpy(one).permute(2, 0, 1)[None] / 255 for one in (restored, scene)]
    for name in ("lpips", "dists"):
        assert all(torch.allclose(a, b, atol=1e-6) for a, b in zip(seen[name], expected, strict=True))
    assert len(seen["niqe"]) == 1 and torch.allclose(seen["niqe"][0], expected[0], atol=1e-6)


def test_an_unknown_metric_is_refused() -> None:
    with pytest.raises(ConfigError, match="no metric vmaf: choose from psnr"):
        metrics.load(["psnr", "vmaf"], None, "cpu")


@pytest.mark.parametrize(
    ("width", "height", "count"),
    [
        (768, 512, 6 + 2),
        (768, 768, 9 + 4),
        (300, 1000, 3 + 0),
        (512, 384, 2 + 1),
        (255, 800, 0),
        (383, 383, 1),
    ],
)
def test_both_grids_of_patches(width: int, height: int, count: int) -> None:
    picture = np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8)
    found = patches.cut(picture)
    assert found.shape == (count, 256, 256, 3)
    # Unfolding, as torch has it, is the independent cut.
    pixels = torch.from_numpy(picture).permute(2, 0, 1)[None].double()
    expected = []
    for one in (pixels, pixels[:, :, 128:, 128:]):
        if min(one.shape[2:]) >= 256:
            columns = functional.unfold(one, 256, stride=256)[0].T
            expected.append(columns.view(-1, 3, 256, 256).permute(0, 2, 3, 1))
    if count:
        assert np.array_equal(found, torch.cat(expected).numpy())


def test_features_are_of_every_patch_in_order() -> None:
    picture = np.random.default_rng(0).integers(0, 256, (1300, 1300, 3), np.uint8)  # more than a batch

    def extract(batch: torch.Tensor) -> torch.Tensor:
        assert batch.dtype == torch.uint8 and batch.shape[1:] == (3, 256, 256)
        return batch.double().mean((2, 3))

    found = patches.features(extract, picture)
    assert found == pytest.approx(patches.cut(picture).mean((1, 2)), rel=1e-6)
    assert len(patches.features(extract, picture[:200])) == 0


def test_distances_of_features_by_the_library() -> None:
    """Of Gaussians that differ in the mean alone, FID is the squared distance of the means, and KID is above 0."""
    pytest.importorskip("torch_fidelity", exc_type=ImportError)
    rng = np.random.default_rng(0)
    a = rng.normal(size=(400, 8)).astype(np.float32)
    assert patches.fid(a, a) == pytest.approx(0, abs=1e-6)
    assert patches.fid(a + 2, a) == pytest.approx(8 * 2**2, rel=1e-4)
    other = rng.normal(size=(400, 8)).astype(np.float32)
    assert abs(patches.kid(a, other)) < 0.05 < patches.kid(a + 2, other)

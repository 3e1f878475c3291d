"""The bars of a model, by computations of their own: the decoder looked into, errors in numpy."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import bars
from analyses import relay
from analyses.relay import Landing, Relay
from rdeic.errors import ConfigError
from rdeic.evaluation import report
from rdeic.evaluation.bench.subject import Named, Subject
from rdeic.evaluation.codecs import pillow
from rdeic.evaluation.codecs.downscaled import Downscaled
from rdeic.pictures import images
from rdeic.pictures.images import Picture

STRIDE = 8  # of TINY's latent
HEIGHT, WIDTH = 76, 100


@pytest.fixture(scope="module")
def subject(tiny_folder: Path) -> Subject:
    return Subject(str(tiny_folder), "cpu")


@pytest.fixture(scope="module")
def pictures() -> list[Named]:
    """Of sides that need padding, too small for MS-SSIM."""
    y, x = np.mgrid[:HEIGHT, :WIDTH]
    found = []
    for seed, scale in enumerate((9.0, 14.0)):
        waves = np.stack([np.sin(x / scale + y / 17), np.cos(y / scale), np.sin(x * y / 900)], -1)
        noise = np.random.default_rng(seed).normal(0, 12, waves.shape)
        found.append(Named(f"{seed}.png", (waves * 80 + 128 + noise).clip(0, 255).astype(np.uint8)))
    return found


def looked_into(subject: Subject, blob: bytes) -> tuple[Tensor, Tensor]:
    """z_c and z0_hat as they pass through the decoder itself."""
    seen: dict[str, Tensor] = {}
    model = subject.model_of(blob)
    hooks = [
        model.compression.to_latent.register_forward_hook(lambda _m, _i, z: seen.update(z_c=z)),
        model.autoencoder.post_quant_conv.register_forward_pre_hook(lambda _m, z: seen.update(z0=z[0])),
    ]
    subject.decompress(blob)
    for hook in hooks:
        hook.remove()
    return seen["z_c"], seen["z0"] * model.autoencoder.scale


@torch.inference_mode()
def expected(subject: Subject, picture: Picture, quality: float) -> tuple[float, float, float]:
    """PSNR of D(z0), and the mean squares of z_c - z0 and z0_hat - z0 where the picture is."""
    blob = subject.make(picture, quality)
    height, width, _ = picture.shape
    padded = images.pad(picture, subject.config.hyper_stride)
    x = torch.tensor(padded).permute(2, 0, 1)[None] / 127.5 - 1
    ae = subject.model_of(blob).autoencoder
    moments = ae.quant_conv(ae.encoder.conv_out(ae.encoder(x)))
    z0 = ae.scale * moments[:, : subject.config.autoencoder.latent_channels]
    pixels = ((ae.decode(z0)[0].permute(1, 2, 0).numpy() + 1) * 127.5).round().clip(0, 255)
    psnr = 10 * np.log10(255**2 / np.mean((pixels[:height, :width] - picture) ** 2))
    part = np.s_[0, :, : -(-height // STRIDE), : -(-width // STRIDE)]
    errors = [float(np.mean((z - z0).numpy()[part] ** 2)) for z in looked_into(subject, blob)]
    return float(psnr), *errors


def test_the_relay_is_that_of_the_decoder(subject: Subject, pictures: list[Named]) -> None:
    found = [relay.measure(subject, one, [10, 90]) for one in pictures]
    for one, measured in zip(pictures, found, strict=True):
        assert measured.image == one.name
        for landing, quality in zip(measured.landings, (10, 90), strict=True):
            psnr, z_c, z0_hat = expected(subject, one.picture, quality)
            assert measured.ceiling == pytest.approx(psnr, abs=1e-3)
            assert (landing.z_c, landing.z0_hat) == pytest.approx((z_c, z0_hat), rel=1e-3)
            assert landing.nearer == (z0_hat < z_c) and landing.quality == quality
            assert landing.bpp == 8 * len(subject.make(one.picture, quality)) / (HEIGHT * WIDTH)
    both = relay.mean(found)
    assert both.ceiling == pytest.approx((found[0].ceiling + found[1].ceiling) / 2)
    lands = [one.landings[1] for one in found]
    assert both.landings[1].z0_hat == pytest.approx((lands[0].z0_hat + lands[1].z0_hat) / 2)
    with pytest.raises(ConfigError, match="no quality"):
        relay.measure(subject, pictures[0], [])


def test_bars_are_of_real_files_beside_avif(
    subject: Subject,
    tiny_folder: Path,
    pictures: list[Named],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    avif_format = pillow.FORMATS["avif"]  # made fast: every quality is tried below
    monkeypatch.setitem(pillow.FORMATS, "avif", avif_format._replace(options={"speed": 9}))
    data = tmp_path / "data"
    data.mkdir()
    for one in pictures:
        images.write(one.picture, data / one.name, "png")
    bpp = 8 * len(subject.make(pictures[0].picture, 90)) / (HEIGHT * WIDTH)
    out = tmp_path / "bars.csv"
    given = [
        str(data),
        "--model",
        str(tiny_folder),
        "--device",
        "cpu",
        "--qualities",
        "10,90",
        "-o",
        str(out),
    ]
    monkeypatch.setattr(sys, "argv", ["bars.py", *given])
    assert bars.run(bars.parser().parse_args([*given, "--bpps", f"{bpp}"])) == 1
    rows = report.read_csv(out).rows
    by_what = {row["what"]: row for row in rows}

    truth = [[expected(subject, one.picture, quality) for one in pictures] for quality in (10, 90)]
    assert float(rows[0]["value"]) == pytest.approx(np.mean([psnr for psnr, _, _ in truth[0]]), abs=1e-3)
    assert (rows[0]["bound"], rows[0]["rule"], rows[0]["verdict"]) == ("28.5", "at least", "missed")
    for row, pairs in zip(rows[1:3], truth, strict=True):
        _, z_c, z0_hat = np.mean(pairs, axis=0)
        assert (float(row["value"]), float(row["rival"])) == pytest.approx((z0_hat, z_c), rel=1e-3)
        assert row["verdict"] == ("met" if z0_hat < z_c else "missed") and row["bound"] == row["rival"]

    assert by_what["share of pictures that get there"]["verdict"] == "met"
    blobs = [subject.compress(one.picture, bpp=bpp) for one in pictures]
    assert float(by_what["bpp"]["value"]) == pytest.approx(
        np.mean([8 * len(b) / (HEIGHT * WIDTH) for b in blobs])
    )
    ours = [decibels(np.asarray(subject.decompress(b)), one) for b, one in zip(blobs, pictures, strict=True)]
    avif = [best_avif(one, len(b)) for b, one in zip(blobs, pictures, strict=True)]
    row = by_what["PSNR, dB"]
    assert (float(row["value"]), float(row["rival"])) == pytest.approx(
        (np.mean(ours), np.mean(avif)), abs=1e-3
    )
    assert float(row["bound"]) == pytest.approx(np.mean(avif) - 1.5, abs=1e-3)
    assert row["verdict"] == ("met" if np.mean(ours) >= np.mean(avif) - 1.5 else "missed")
    assert by_what["SqueezeNet distance"]["verdict"] == ""  # no bar at this rate
    assert (by_what["MS-SSIM"]["value"], by_what["MS-SSIM"]["verdict"]) == ("", "not measured")
    printed = capsys.readouterr().out
    assert "| nothing compressed | D(z0), PSNR, dB |" in printed and "not measured: perceptual" in printed


def decibels(restored: Picture, one: Named) -> float:
    return float(10 * np.log10(255**2 / np.mean((restored.astype(float) - one.picture) ** 2)))


def best_avif(one: Named, size: int) -> float:
    """PSNR of AVIF at full and half size: of each the quality nearest in bytes, of both the better one."""
    full = pillow.PillowCodec("avif", ("q0",), 60.0)
    half = Downscaled(full, 2)
    found = []
    for codec in (full, half):
        files = [codec.encode(one.picture, f"q{quality}") for quality in range(61)]
        if len(files[0]) <= size <= len(files[-1]):
            nearest = min(files, key=lambda data: abs(len(data) - size))
            found.append(decibels(codec.decode(nearest), one))
    return max(found)


def test_a_bar_is_met_at_its_bound_and_missed_where_nothing_was_measured() -> None:
    def verdict(value: float | None, bound: float | None, rule: str) -> str:
        return str(bars.Bar("", "", value, None, bound, rule).verdict)

    assert [verdict(value, 2.0, "at least") for value in (1.9, 2.0)] == ["missed", "met"]
    assert [verdict(value, 2.0, "at most") for value in (2.0, 2.1)] == ["met", "missed"]
    assert [verdict(value, 2.0, "below") for value in (1.9, 2.0)] == ["met", "missed"]
    assert verdict(None, 2.0, "at least") == verdict(1.0, None, "at most") == "not measured"
    assert not bars.Bar("", "", None, None, 2.0, "at least").met and bars.Bar("", "", 1.0, None, None, "").met


def test_bars_of_the_rates() -> None:
    avif = {"psnr": 26.0, "ms_ssim": 0.9, "ssimulacra2": -10.0, "perceptual": 0.5, "gradients": 0.5}
    ours = {"psnr": 24.5, "ms_ssim": 0.89, "ssimulacra2": -9.0, "perceptual": 0.4, "gradients": 0.71}
    found: dict[str, Any] = {
        one.what: one for one in bars.file_bars(0.08, [bars.Pair((0.08, 0.081), ours, avif)])
    }
    verdicts = {what: one.verdict for what, one in found.items()}
    assert verdicts == {
        "bpp": "",
        "PSNR, dB": "met",
        "MS-SSIM": "missed",
        "SqueezeNet distance": "met",
        "gradients": "met",
        "SSIMULACRA2": "met",
    }
    blind = [bars.Pair((0.12, 0.12), {}, {})]
    assert [one.verdict for one in bars.file_bars(0.12, blind)][1:] == ["not measured"] * 5
    strict = bars.file_bars(0.12, [bars.Pair((0.12, 0.12), ours, avif)])
    assert next(one for one in strict if one.what == "SqueezeNet distance").verdict == "missed"


def test_a_relay_that_gets_there_meets_its_bars() -> None:
    good = Relay("24 pictures", 28.5, (Landing(0, 0.02, 0.5, 0.49), Landing(50, 0.1, 0.3, 0.3)))
    assert [one.verdict for one in bars.relay_bars(good)] == ["met", "met", "missed"]

"""The paper's analyses: bits that add up to the file, correlations of known fields, a page that keeps what it has."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import rdeic
from analyses import allocation, correlation, detail, sweep
from analyses.sweep import Decoding, Point
from figures import choose
from rdeic.container import container, payload
from rdeic.entropy import tables
from rdeic.entropy.coder import SymbolEncoder
from rdeic.evaluation.bench.subject import Named, Subject
from rdeic.evaluation.types import Score
from rdeic.pictures import images

WHITE = np.random.default_rng(0).standard_normal((20, 60, 70))


@pytest.fixture(scope="module")
def subject(tiny_folder: Path) -> Subject:
    return Subject(str(tiny_folder), "cpu")


def psnr(restored: images.Picture, original: images.Picture) -> tuple[Score, ...]:
    error = float(np.mean((restored.astype(float) - original) ** 2))
    return (Score("psnr", float(10 * np.log10(255**2 / error))),)


# Bit allocation


@pytest.mark.parametrize("spread", [0.3, 40.0])
def test_symbols_cost_what_the_range_coder_spends(spread: float) -> None:
    random = np.random.default_rng(1)
    scales = random.integers(0, tables.SCALE_COUNT, 20_000)
    values = (random.standard_normal(scales.size) * tables.SCALES[scales] * spread).round().astype(np.int64)
    values[0], values[1] = -(2**31), 2**31 - 1  # the longest escapes
    if spread > 1:
        assert (np.abs(values) > tables.CENTRES[scales]).mean() > 0.5  # most are escapes
    coder = SymbolEncoder()
    coder.encode(values.astype(np.int32), scales)
    spent = 8 * len(coder.finish())
    assert allocation.symbol_bits(values, scales).sum() == pytest.approx(spent, rel=1e-3)


@pytest.mark.parametrize("quality", [0, 100])
def test_the_latent_is_that_of_the_file(subject: Subject, photo: images.Picture, quality: float) -> None:
    blob = subject.make(photo, quality)
    file = container.unpack(blob)
    coded = payload.split(file.header, file.payload, subject.config)
    decoded = subject.model_of(blob).decode_y_hat(coded, file.header.quality)[0].numpy()
    latent = subject.latent(blob, photo)
    assert np.array_equal(latent.symbols + latent.mu, decoded)
    bits = allocation.measure(subject, Named("photo.png", photo), quality)
    assert bits.y_bits == pytest.approx(8 * len(coded.y_stream), abs=32, rel=1e-3)
    assert bits.file_bits == 8 * len(blob)
    assert bits.map.shape == (6, 9)  # 96x130 pixels, a position of y for every 16, without the padding
    assert 0 < bits.map.sum() < bits.y_bits
    assert bits.relative.mean() == pytest.approx(1)


def test_shares_go_to_the_flat_and_the_busy_quarter() -> None:
    picture = np.full((64, 64, 3), 90, np.uint8)
    picture[:32, :32] = np.random.default_rng(0).integers(0, 255, (32, 32, 3))
    contrast = allocation.contrast(picture, 16)
    assert contrast.shape == (4, 4)
    assert (contrast[:2, :2] > 20).all() and contrast[2:].max() < 1e-9
    bits = np.where(contrast > 20, 3.0, 1.0)
    flat, busy = allocation.shares(bits, contrast)
    assert busy == pytest.approx(12 / 24) and flat == pytest.approx(4 / 24)


# Correlation


def test_white_noise_has_no_correlation() -> None:
    found = correlation.correlation(WHITE)
    assert found.shape == (5, 5)
    assert found[2, 2] == pytest.approx(1)
    assert np.abs(np.delete(found.ravel(), 12)).max() < 4 / np.sqrt(WHITE.size * 0.9)
    assert correlation.nearest(found) < 0.01


def test_neighbours_that_share_noise_correlate() -> None:
    found = correlation.correlation(WHITE[:, :-1] + WHITE[:, 1:])  # each with the one below
    assert found[3, 2] == pytest.approx(0.5, abs=0.02) and found[1, 2] == pytest.approx(0.5, abs=0.02)
    assert np.abs(found[2, [0, 1, 3, 4]]).max() < 0.02 and abs(found[0, 2]) < 0.02
    assert correlation.largest(found) == pytest.approx(0.5, abs=0.02)
    slanted = correlation.correlation(WHITE[:, :-1, :-1] - WHITE[:, 1:, 1:])
    assert slanted[3, 3] == pytest.approx(-0.5, abs=0.02) and abs(slanted[3, 1]) < 0.02
    assert correlation.largest(slanted) == pytest.approx(-0.5, abs=0.02)


def test_a_bias_is_redundancy_too() -> None:
    assert correlation.correlation(np.full((3, 8, 9), -2.0)) == pytest.approx(np.ones((5, 5)))
    assert correlation.correlation(np.zeros((3, 8, 9))) == pytest.approx(np.zeros((5, 5)))


def test_correlation_of_a_model(subject: Subject, photo: images.Picture) -> None:
    both = correlation.measure(subject, [Named("a", photo), Named("b", photo[::-1].copy())], 50)
    alone = [correlation.measure(subject, [Named("x", p)], 50).map for p in (photo, photo[::-1].copy())]
    assert both.map == pytest.approx(np.mean(alone, axis=0))
    rows = correlation.as_csv([both]).rows
    assert len(rows) == 25 and float(rows[12][5]) == pytest.approx(1)
    with pytest.raises(rdeic.ConfigError, match=r"small\.png: too small"):
        correlation.measure(subject, [Named("small.png", photo[:32])], 50)


# One file restored in many ways


def test_points_are_of_the_file_restored_that_way(subject: Subject, photo: images.Picture) -> None:
    ways = [Decoding(1, 1.0), Decoding(3, 0.5)]
    points = sweep.measure(subject, [Named("photo.png", photo)], psnr, [20, 80], ways, lambda: None)
    assert [(point.quality, point.decoding) for point in points] == [
        (q, way) for q in (20, 80) for way in ways
    ]
    for point in points:
        blob = subject.compress(photo, quality=point.quality)
        assert point.bpp == pytest.approx(8 * len(blob) / (96 * 130))
        image = subject.decompress(blob, point.decoding.detail, point.decoding.steps)
        assert point.score("psnr") == psnr(np.asarray(image), photo)[0].value


def test_means_and_the_best_of_each_quality() -> None:
    points = [
        Point(name, 25, Decoding(steps, 1.0), bpp, steps / 10, (Score("psnr", value), *others))
        for name, bpp, others in (("a", 0.02, (Score("ms_ssim", 0.5),)), ("b", 0.04, ()))
        for steps, value in ((1, 20.0 if name == "a" else 22.0), (2, 24.0))
    ]
    first, second = sweep.means(points)
    assert (first.bpp, first.decode_seconds, first.scores) == (
        pytest.approx(0.03),
        0.1,
        (Score("psnr", 21.0),),
    )
    assert second.image == "2 pictures"
    header, rows = sweep.table(points, sweep.STEPS)
    assert list(header) == ["quality", "steps", "bpp", "PSNR, dB ↑", "seconds"]
    assert [row[3] for row in rows] == ["21.00", "**24.00**"]
    stored = sweep.as_csv(points)
    assert [row[-1] for row in stored.rows] == ["0.5", "0.5", "", ""]


def test_the_busiest_window() -> None:
    values = np.random.default_rng(3).random((9, 11))
    sums = {
        (top, left): values[top : top + 4, left : left + 3].sum() for top in range(6) for left in range(9)
    }
    assert detail.busiest(values, 3, 4) == max(sums, key=lambda place: sums[place])
    assert detail.busiest(values, 11, 9) == (0, 0)


def test_differences_are_from_the_usual_restoration(subject: Subject, photo: images.Picture) -> None:
    sheet = detail.measure(subject, Named("photo.png", photo), 50, [0.0, 1.0])
    blob = subject.compress(photo, quality=50)
    smooth, usual = (np.asarray(subject.decompress(blob, d)).astype(float) for d in (0.0, 1.0))
    assert np.array_equal(sheet.differences[0], np.abs(smooth - usual).mean(axis=2))
    assert sheet.differences[1].max() == 0
    part = detail.cropped(sheet, (40, 500))
    assert part.original.shape == (96, 40, 3)
    assert part.differences[0].sum() == max(
        sheet.differences[0][:, left : left + 40].sum() for left in range(91)
    )


def test_pictures_are_chosen_by_name(photo: images.Picture) -> None:
    pictures = [Named("a.png", photo), Named("b.png", photo)]
    assert [one.name for one in choose(pictures, ["b", "a.png"])] == ["b.png", "a.png"]
    with pytest.raises(rdeic.ConfigError, match=r"no picture 'c' among a\.png, b\.png"):
        choose(pictures, ["c"])

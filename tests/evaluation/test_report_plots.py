"""The plots of a report: every metric and codec, axes with numbers, styles and labels told apart."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from pathlib import Path

import numpy as np
import pytest

from rdeic.evaluation import labels, plots, report_page
from rdeic.evaluation.bd_rate import Curve
from rdeic.evaluation.plots import Series
from rdeic.evaluation.types import METRICS
from support.report_results import BITS, CODECS, SETTINGS, drawings, results


def test_there_is_a_plot_for_every_metric_with_every_codec(tmp_path: Path) -> None:
    plots = drawings(report_page.write(results(), tmp_path))
    names = [plot.attrib["aria-label"].split(" against")[0] for plot in plots]
    assert names == ["PSNR", "MS-SSIM", "LPIPS", "DISTS", "FID"]
    for plot in plots:
        curves = {group.attrib["data-codec"]: group for group in plot.iter("g")}
        assert set(curves) == set(CODECS)
        for codec, group in curves.items():
            tips = [tip.text or "" for tip in group.iter("title")]
            assert len(tips) == len(SETTINGS)
            assert tips[0].endswith(f"at {BITS[codec] * 0.06:.4f} bpp")
            places = [float(x) for x in re.findall(r"translate\(([\d.]+)", ET.tostring(group).decode())]
            steps = np.diff(places)
            assert np.all(steps > 0) and np.ptp(steps) < 0.3  # equal ratios of rates, equal distances
            assert group.findtext("text") == codec


def test_lower_rates_lie_left_and_higher_values_up(tmp_path: Path) -> None:
    plot = drawings(report_page.write(results(), tmp_path))[0]
    found = {}
    for group in plot.iter("g"):
        marks = re.findall(r"translate\(([\d.]+) ([\d.]+)\)", ET.tostring(group).decode())
        found[group.attrib["data-codec"]] = [(float(x), float(y)) for x, y in marks]
    assert found["rdeic"][0][0] < found["avif"][0][0] < found["jpeg"][0][0]
    assert found["rdeic"][0][1] == found["jpeg"][0][1] > found["rdeic"][1][1]


@pytest.mark.parametrize("rates", [(0.25,), (0.22, 0.28), (0.02, 0.9), (1.0,), (1e-4, 1.01e-4)])
def test_every_axis_has_numbers(rates: tuple[float, ...]) -> None:
    line = Series(Curve("a", rates, tuple(20 + rate for rate in rates)), 0, "a")
    texts = list(ET.fromstring(plots.plot([line], METRICS[0], None)).iter("text"))
    for kind in ("tick", "tick y"):
        told = [float(one.text or "") for one in texts if one.attrib["class"] == kind]
        assert len(told) >= 2 and told == sorted(set(told))


def test_no_two_codecs_look_alike(tmp_path: Path) -> None:
    assert len({(plots.colour(style), plots.marker(style)) for style in range(plots.STYLES**2)}) == 64
    many = tuple(one._replace(codec=f"{one.codec}{i}") for i in range(3) for one in results().measurements)
    text = report_page.write(results(many)._replace(set_scores=()), tmp_path).read_text()
    assert len(set(re.findall(r'class="swatch (c[0-7]".*?d="[^"]*)"', text))) == 3 * len(CODECS)


def test_labels_stay_clear_of_each_other_and_of_curves() -> None:
    area = labels.Box(0, 0, 640, 400)
    curves = [[labels.Point(100 + 90.0 * i, 300 - 50.0 * i - 14 * k) for i in range(5)] for k in range(5)]
    placed = labels.place(["rdeic", "avif", "webp", "jpeg xl", "heic"], curves, area)
    for i, one in enumerate(placed):
        assert area.left <= one.box.left and one.box.right <= area.right
        assert not any(one.box.meets(other.box) for other in placed[i + 1 :])
        assert not any(one.box.covers(point) for curve in curves for point in curve)

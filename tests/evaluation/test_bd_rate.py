"""BD-rates agree with the paper's Table II, and say no where they would mean nothing."""

from __future__ import annotations

import math

import pytest

from rdeic.errors import ConfigError
from rdeic.evaluation import published
from rdeic.evaluation.bd_rate import Curve, Method, bd_rate

pytest.importorskip("bjontegaard")

RATES = (0.02, 0.04, 0.07, 0.1, 0.15)


def quality(rates: tuple[float, ...], offset: float = 0) -> tuple[float, ...]:
    return tuple(20 + offset + 5 * math.log(1 + 40 * rate) for rate in rates)


# Table II, "+RRD+FSFT" against DiffEIC on CLIC2020
@pytest.mark.parametrize(
    ("metric", "lower_is_better", "percent"),
    [("dists", True, -17.94), ("lpips", True, -40.79), ("psnr", False, -61.26), ("ms_ssim", False, -32.73)],
)
def test_the_papers_table_follows_from_its_published_numbers(
    metric: str, lower_is_better: bool, percent: float
) -> None:
    diffeic = published.curve("CLIC2020", "DiffEIC", metric)
    rdeic = published.curve("CLIC2020", published.RDEIC, metric)
    result = bd_rate(diffeic, rdeic, lower_is_better=lower_is_better)
    assert round(result.percent, 2) == percent
    shared = min(max(diffeic.values), max(rdeic.values)) - max(min(diffeic.values), min(rdeic.values))
    total = max(*diffeic.values, *rdeic.values) - min(*diffeic.values, *rdeic.values)
    assert result.overlap == pytest.approx(shared / total)


@pytest.mark.parametrize("method", ["cubic", "pchip", "akima"])
@pytest.mark.parametrize("lower_is_better", [False, True])
@pytest.mark.parametrize("factor", [0.5, 1.3])
def test_a_codec_that_needs_a_fixed_share_of_the_bits_has_that_bd_rate(
    method: Method, lower_is_better: bool, factor: float
) -> None:
    values = tuple(-value if lower_is_better else value for value in quality(RATES))
    anchor = Curve("anchor", RATES, values)
    order = (3, 0, 4, 1, 2)  # any order of points will do
    test = Curve("test", tuple(factor * RATES[i] for i in order), tuple(values[i] for i in order))
    result = bd_rate(anchor, test, lower_is_better=lower_is_better, method=method)
    assert result.percent == pytest.approx(100 * (factor - 1), abs=1e-6)
    assert result.overlap == pytest.approx(1)
    back = bd_rate(test, anchor, lower_is_better=lower_is_better, method=method)
    assert (1 + result.percent / 100) * (1 + back.percent / 100) == pytest.approx(1)


def test_curves_need_not_have_as_many_points() -> None:
    few = RATES[:-1]
    anchor, test = Curve("a", RATES, quality(RATES)), Curve("t", few, quality(few))
    result = bd_rate(anchor, test, lower_is_better=False, method="pchip")
    assert abs(result.percent) < 1 and 0.6 < result.overlap < 0.9


def test_curves_that_are_hardly_alike_are_refused_by_name() -> None:
    span = quality(RATES)[-1] - quality(RATES)[0]
    anchor, near = Curve("jpeg", RATES, quality(RATES)), Curve("rdeic", RATES, quality(RATES, 0.75 * span))
    assert bd_rate(anchor, near, lower_is_better=False, min_overlap=0.1).overlap == pytest.approx(1 / 7)
    with pytest.raises(ConfigError, match="rdeic and jpeg share 14% of their qualities, less than 20%"):
        bd_rate(anchor, near, lower_is_better=False, min_overlap=0.2)
    far = Curve("rdeic", RATES, quality(RATES, 2 * span))
    with pytest.raises(ConfigError, match="share 0% of their qualities"):  # nothing to average over
        bd_rate(anchor, far, lower_is_better=False, min_overlap=0)


@pytest.mark.parametrize(
    ("curve", "method", "message"),
    [
        (Curve("x", RATES[:3], quality(RATES[:3])), "cubic", "x: cubic needs 4 points or more, not 3"),
        (Curve("x", RATES[:1], quality(RATES[:1])), "pchip", "x: pchip needs 2 points"),
        (Curve("x", (), ()), "akima", "x: akima needs 2 points or more, not 0"),
        (Curve("x", RATES, quality(RATES[:4])), "cubic", "x: 5 rates but 4 values"),
        (Curve("x", RATES, (*quality(RATES[:4]), math.nan)), "cubic", "x: .*finite"),
        (Curve("x", RATES, (*quality(RATES[:4]), math.inf)), "cubic", "x: .*finite"),
        (Curve("x", (0.0, *RATES[1:]), quality(RATES)), "cubic", "x: rates must be above 0"),
        (Curve("x", (*RATES, 0.2), (*quality(RATES), 20.0)), "akima", "x: .*does not always rise"),
        (Curve("x", RATES, (22.0,) * 5), "cubic", "x: cubic needs 4 different qualities"),
    ],
)
def test_what_is_no_curve_is_refused_by_name(curve: Curve, method: Method, message: str) -> None:
    good = Curve("good", RATES, quality(RATES))
    for anchor, test in ((good, curve), (curve, good)):
        with pytest.raises(ConfigError, match=message):
            bd_rate(anchor, test, lower_is_better=False, method=method)


def test_an_unknown_interpolation_is_refused() -> None:
    curve = Curve("x", RATES, quality(RATES))
    with pytest.raises(ConfigError, match="choose from cubic, pchip, akima"):
        bd_rate(curve, curve, lower_is_better=False, method="spline")  # type: ignore[arg-type]

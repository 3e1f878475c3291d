"""Judges of other people against their own programs, gradients against arithmetic, and which way is better."""

from __future__ import annotations

import shutil
import sys
import types
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, ImageFilter

from rdeic.errors import ImageError
from rdeic.evaluation import metrics
from rdeic.evaluation.comparison import compare
from rdeic.evaluation.gradients import gradients
from rdeic.evaluation.means import Mean
from rdeic.evaluation.same_rate import at_rates
from rdeic.evaluation.types import METRICS, Score
from rdeic.pictures import images
from rdeic.pictures.images import Picture

GRADIENTS = next(metric for metric in METRICS if metric.name == "gradients")
# Prints what libjxl's programs print, of the mean error: above 0 where the second picture is the brighter one.
STAND_IN = """#!{python}
import sys
import numpy as np
from PIL import Image
original, restored = (np.asarray(Image.open(path)).astype(float) for path in sys.argv[1:])
error = (restored - original).mean()
print({output})
"""


@pytest.fixture(scope="module")
def pair(photo: Picture) -> tuple[Picture, Picture]:
    """Restored, original."""
    return np.asarray(Image.fromarray(photo).filter(ImageFilter.GaussianBlur(1.5))), photo


def judged(restored: Picture, original: Picture, name: str) -> float | None:
    judges = metrics.load([name], None, "cpu")
    assert not judges.unavailable
    return dict(metrics.scores(judges, restored, original)).get(name)


def stand_in(path: Path, output: str) -> None:
    path.write_text(STAND_IN.format(python=sys.executable, output=output), encoding="utf-8")
    path.chmod(0o755)


# Gradients


def test_gradients_are_relative_to_the_original(pair: tuple[Picture, Picture]) -> None:
    blurred, photo = pair
    assert judged(photo, photo, "gradients") == 1
    found = judged(blurred, photo, "gradients")
    assert found is not None and 0.2 < found < 0.7
    assert gradients(photo, blurred) == pytest.approx(1 / found)


def test_gradients_of_a_slope_are_its_steepness() -> None:
    y, x = np.mgrid[:20, :30]
    slopes = [np.repeat((a * x + b * y)[..., None], 3, 2).astype(np.uint8) for a, b in ((3, 4), (0, 2))]
    assert gradients(slopes[1], slopes[0]) == pytest.approx(2 / 5)
    assert gradients(slopes[0], slopes[1]) == pytest.approx(5 / 2)
    flat = np.full((20, 30, 3), 7, np.uint8)
    assert gradients(flat, slopes[0]) == 0
    assert gradients(slopes[0], flat) is None
    assert gradients(slopes[0][:1], slopes[0][:1]) is None


def test_as_many_gradients_as_the_original_has_are_best() -> None:
    """1.1 is nearer to 1 than 0.8 and 1.5 are; and half the bits for the same distance to 1 are half the bits."""
    values = {"smooth": (0.5, 0.6, 0.7, 0.8), "near": (1.4, 1.3, 1.2, 1.1), "harsh": (1.8, 1.7, 1.6, 1.5)}
    bits = {"smooth": 1.0, "near": 0.5, "harsh": 1.0}
    rows = [
        Mean(codec, str(i), 1, 0, bits[codec] * 0.1 * 2**i, 1.0, 1.0, (Score("gradients", value),))
        for codec, found in values.items()
        for i, value in enumerate(found)
    ]
    (last,) = (one for one in at_rates(rows, list(values), [GRADIENTS], "smooth") if one.bpp == 0.4)
    assert {row.codec: row.readings[0].best for row in last.rows} == {
        "smooth": False,
        "near": True,
        "harsh": False,
    }
    against = next(one for one in compare(rows, ["smooth", "near"], [GRADIENTS]) if one.anchor == "smooth")
    result = against.rows[0].cells[0].result
    # 0.5 and 0.2 from 1 at the ends; the curves share 0.2 to 0.4, where "near" is a step of the grid and a half ahead.
    assert result is not None and result.percent == pytest.approx(-75, abs=0.1)
    assert GRADIENTS.arrow == "→ 1" and METRICS[0].arrow == "↑" and METRICS[3].arrow == "↓"


# Other people's judges


def test_ssimulacra2_is_that_of_the_package(pair: tuple[Picture, Picture], tmp_path: Path) -> None:
    package = pytest.importorskip("ssimulacra2")
    restored, original = pair
    for name, picture in (("restored", restored), ("original", original)):
        images.write(picture, tmp_path / f"{name}.png", "png")
    expected = package.compute_ssimulacra2(tmp_path / "original.png", tmp_path / "restored.png")
    assert judged(restored, original, "ssimulacra2") == pytest.approx(expected)
    exchanged = package.compute_ssimulacra2(tmp_path / "restored.png", tmp_path / "original.png")
    assert abs(exchanged - expected) > 0.05
    assert judged(original, original, "ssimulacra2") == 100
    assert judged(restored[:7], original[:7], "ssimulacra2") is None
    assert metrics.load(["ssimulacra2"], None, "cpu").versions[0].startswith("ssimulacra2 0")


def test_programs_see_the_original_first(
    pair: tuple[Picture, Picture], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setitem(sys.modules, "ssimulacra2", None)  # so that the program stands in for it
    stand_in(tmp_path / "butteraugli_main", 'f"99.5\\n3-norm: {error:.6f}"')
    stand_in(tmp_path / "ssimulacra2", 'f"{error:.8f}"')
    restored, original = (one // 2 for one in pair)
    brighter = restored + 10
    expected = float((brighter.astype(float) - original).mean())
    for name in ("butteraugli", "ssimulacra2"):
        assert judged(brighter, original, name) == pytest.approx(expected, abs=1e-6)
        assert judged(brighter[:, :7], original[:, :7], name) is None
    (label,) = metrics.load(["ssimulacra2"], None, "cpu").labels
    stand_in(tmp_path / "ssimulacra2", 'f"{2 * error:.8f}"')
    assert metrics.load(["ssimulacra2"], None, "cpu").labels != (label,)  # another program is another judge


def test_a_program_that_says_something_else_is_named(
    pair: tuple[Picture, Picture], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    stand_in(tmp_path / "butteraugli_main", '"of no use"')
    with pytest.raises(ImageError, match=r"metric butteraugli failed: .*no line of the 3-norm in 'of no use"):
        judged(*pair, "butteraugli")
    stand_in(tmp_path / "butteraugli_main", 'sys.exit("cannot read it")')
    with pytest.raises(ImageError, match=r"metric butteraugli failed: .*status 1: cannot read it"):
        judged(*pair, "butteraugli")


@pytest.mark.skipif(shutil.which("butteraugli_main") is None, reason="libjxl's programs are not installed")
def test_butteraugli_itself(pair: tuple[Picture, Picture]) -> None:
    restored, original = pair
    assert judged(original, original, "butteraugli") == 0
    found = judged(restored, original, "butteraugli")
    assert found is not None and 1 < found < 50


def test_cvvdp_sees_what_it_expects(pair: tuple[Picture, Picture], monkeypatch: pytest.MonkeyPatch) -> None:
    """8-bit pictures on a display, the restored one first."""
    seen: list[tuple[Picture, Picture]] = []

    class Metric:
        def __init__(self, display_name: str, device: torch.device, quiet: bool) -> None:
            assert (display_name, device, quiet) == ("standard_4k", torch.device("cpu"), True)

        def predict(
            self, test_cont: Picture, reference_cont: Picture, dim_order: str
        ) -> tuple[torch.Tensor, dict[str, object]]:
            assert dim_order == "HWC"
            seen.append((test_cont, reference_cont))
            return torch.tensor(8.25), {}

    monkeypatch.setitem(sys.modules, "pycvvdp", types.SimpleNamespace(cvvdp=Metric))
    monkeypatch.setattr(metrics.metadata, "version", lambda package: "0.5.7")
    assert judged(*pair, "cvvdp") == 8.25
    assert all(np.array_equal(a, b) and a.dtype == np.uint8 for a, b in zip(seen[0], pair, strict=True))
    assert judged(pair[0][:7], pair[1][:7], "cvvdp") is None and len(seen) == 1

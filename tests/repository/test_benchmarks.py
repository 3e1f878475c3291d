"""The programs that time and count the networks, in small and on the CPU."""

from __future__ import annotations

import csv
from pathlib import Path
from types import ModuleType

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from rdeic.model.model import Rdeic
from rdeic.nn.norm import GroupNorm
from support.tiny import TINY

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def benchmark(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    return monkeypatch


@pytest.fixture
def full_size(benchmark: pytest.MonkeyPatch) -> ModuleType:
    import full_size

    return full_size


@pytest.fixture
def counts(benchmark: pytest.MonkeyPatch) -> ModuleType:
    import operation_counts

    return operation_counts


def test_every_way_is_compared_with_float32_and_timed(
    full_size: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    table = tmp_path / "table.csv"
    options = ["--config", "tiny", "--device", "cpu", "--precision", "bf16", "--encoder-precision", "bf16"]
    assert (
        full_size.main([*options, "--sizes", "128x64", "--parts", "encode,step,decode", "-o", str(table)])
        == 0
    )
    with table.open(encoding="utf-8") as stream:
        rows = list(csv.DictReader(line for line in stream if not line.startswith("#")))[1:]
    ways = ["library", "eager", "graphs"]
    assert [row["way"] for row in rows] == 3 * ways
    assert [row["part"] for row in rows[::3]] == ["VAE encode", "U-Net + control step", "VAE decode"]
    assert all(0 < float(row["error"]) < 0.1 and float(row["seconds"]) > 0 for row in rows)
    assert "| VAE decode | graphs |" in capsys.readouterr().out


def test_a_wrong_result_is_not_timed(full_size: ModuleType, benchmark: pytest.MonkeyPatch) -> None:
    import full_size_parts as parts

    device = torch.device("cpu")
    with torch.inference_mode():
        model = full_size.random_model(full_size.TINY, device)
        subject = parts.Subject.of(model, parts.Size(128, 64), device)
        subject.references["decode"].mul_(1.1)
        rows = parts.measure(model, subject, ["encode", "decode"], ["eager"], parts.Meter(device, 1))
    assert [row.seconds > 0 for row in rows] == [True, False]
    assert rows[1].error == pytest.approx(0.1 / 1.1, rel=1e-3)
    benchmark.setattr(full_size, "run", lambda options: rows)
    assert full_size.main(["--config", "tiny"]) == 1


def test_counts_are_those_of_the_networks(counts: ModuleType) -> None:
    library, torch_, kernels = (
        counts.count(TINY, (128, 64), "D", "bf16", norms) for norms in ("library", "torch", "kernels")
    )
    with torch.device("meta"), torch.no_grad(), FlopCounterMode(display=False) as counter:
        model = Rdeic(TINY)
        model.autoencoder.decode(torch.zeros(1, 4, 8, 16))
    for row in (library, torch_, kernels):
        assert row.operations == counter.get_total_flops()
        assert row.bytes_of_products == library.bytes_of_products
    norms = [layer for layer in model.autoencoder.decoder.modules() if isinstance(layer, GroupNorm)]
    assert kernels.launches_of_norms == 3 * len(norms)
    # 4 of the norm, SiLU, and the copy for the convolution that follows each in this model.
    assert library.launches_of_norms == 6 * len(norms)
    assert library.bytes_of_norms == 3 * kernels.bytes_of_norms
    assert kernels.bytes_of_norms < torch_.bytes_of_norms < library.bytes_of_norms

"""The programs that time and count the networks, in small and on the CPU."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

import exact_cost
import full_size
import full_size_parts as parts
import operation_counts
from rdeic.checkpoints.checkpoints import load_model
from rdeic.evaluation import report
from rdeic.model.model import Rdeic
from rdeic.nn.norm import GroupNorm
from rdeic.pictures import images
from support.tiny import TINY


def test_every_way_is_compared_with_float32_and_timed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    table = tmp_path / "table.csv"
    options = ["--config", "tiny", "--device", "cpu", "--precision", "bf16", "--encoder-precision", "bf16"]
    assert (
        full_size.main([*options, "--sizes", "128x64", "--parts", "encode,step,decode", "-o", str(table)])
        == 0
    )
    rows = report.read_csv(table).rows[1:]
    ways = ["library", "eager", "graphs"]
    assert [row["way"] for row in rows] == 3 * ways
    assert [row["part"] for row in rows[::3]] == ["VAE encode", "U-Net + control step", "VAE decode"]
    assert all(0 < float(row["error"]) < 0.1 and float(row["seconds"]) > 0 for row in rows)
    assert "| VAE decode | graphs |" in capsys.readouterr().out


def test_a_wrong_result_is_not_timed(monkeypatch: pytest.MonkeyPatch) -> None:
    device = torch.device("cpu")
    with torch.inference_mode():
        model = full_size.random_model(full_size.TINY, device)
        subject = parts.Subject.of(model, parts.Size(128, 64), device)
        subject.references["decode"].mul_(1.1)
        rows = parts.measure(model, subject, ["encode", "decode"], ["eager"], parts.Meter(device, 1))
    assert [row.seconds > 0 for row in rows] == [True, False]
    assert rows[1].error == pytest.approx(0.1 / 1.1, rel=1e-3)
    monkeypatch.setattr(full_size, "run", lambda options: rows)
    assert full_size.main(["--config", "tiny"]) == 1


def test_counts_are_those_of_the_networks() -> None:
    library, torch_, kernels = (
        operation_counts.count(TINY, (128, 64), "D", "bf16", norms)
        for norms in ("library", "torch", "kernels")
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


@torch.inference_mode()
def test_exact_arithmetic_is_costed_beside_float(tiny_folder: Path, photo: images.Picture) -> None:
    model, _ = load_model(tiny_folder, "cpu")
    padded = images.pad(photo, model.config.hyper_stride)
    pixels = torch.from_numpy(padded).permute(2, 0, 1)[None] / 127.5 - 1
    bits = exact_cost.count_bits(model, model.analyse(pixels), 200)
    assert bits.y_stream == pytest.approx(bits.frequencies, rel=1e-3, abs=32)
    assert bits.arithmetic == pytest.approx(bits.plain, rel=0.02) and bits.file > bits.y_stream
    assert min(exact_cost.time_parts(model, pixels, 200, runs=1)) > 0

"""What waits for a GPU, on the CPU with something small: the very commands, what they deliver, and how it travels."""

from __future__ import annotations

import dataclasses
import io
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import agenda_freight
import agenda_measure
import agenda_tiny
import agenda_train
import gpu_agenda
import rdeic
from rdeic.checkpoints.checkpoints import save_model
from rdeic.errors import CheckpointError
from rdeic.evaluation import report
from rdeic.model.model import Rdeic
from rdeic.training import checkpoint, loop
from rdeic.training.sources import find, split
from support.denoising import CONFIG, Denoising, data, run
from support.image_sets import folder

__all__ = ["data", "folder"]  # fixtures
CONFIGS = Path(__file__).parents[2] / "configs"
PRIOR = ["--only", "train", "--train", "prior", CONFIGS / "mini-gpu" / "prior.toml", "1"]
pytestmark = pytest.mark.filterwarnings("ignore")  # of tensorboard's dependencies


def agenda(top: Path, *more: object) -> int:
    # No limit that a busy machine could meet; what tests limits gives its own.
    limits = ["--seconds", 6000, "--time-seconds", 3000]
    given = ["--work", top / "work", "--output", top / "out", "--tiny", "--device", "cpu", *limits, *more]
    status: int = gpu_agenda.main(list(map(str, given)))
    return status


# The parts


def test_devices_and_time_run_from_end_to_end(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert agenda(tmp_path, "--only", "devices,time") == 0
    assert (
        gpu_agenda.main(
            ["--only", "join", "--pieces", str(tmp_path / "out"), "--output", str(tmp_path / "back")]
        )
        == 0
    )
    files = report.read_csv(tmp_path / "back" / "devices.csv").rows
    assert len(files) == 6 * 3 * 2  # pictures, qualities, directions
    assert {row["wrong"] for row in files} == {""}
    assert {row["largest_difference"] for row in files} == {"", "0.0"}  # the same device twice
    said = capfd.readouterr().out
    assert "devices: 36 files, 0 wrong" in said and "all pieces are sent" in said
    ways = {"graphs": {"library", "eager", "graphs"}, "compile": {"compile"}}
    for name, wanted in ways.items():
        times = [row for row in report.read_csv(tmp_path / "back" / f"time-{name}.csv").rows if row["error"]]
        assert {row["way"] for row in times} == wanted
        assert all(float(row["seconds"]) > 0 and float(row["error"]) < 0.01 for row in times)
    assert agenda(tmp_path, "--only", "devices,time") == 0  # and does nothing twice
    assert "36 files" not in capfd.readouterr().out


def test_files_that_another_device_reads_otherwise_are_named(tmp_path: Path) -> None:
    here, there = (agenda_measure._maker("cpu", "mini") for _ in range(2))
    for name, buffer in there.model.exact.named_buffers():  # a device that gets its exact networks wrong
        if name.endswith("bias"):
            buffer.add_(2.0**12)
    picture = np.asarray(Image.effect_noise((96, 64), 90).convert("RGB"))
    row = agenda_measure._crossed("noise", picture, 50.0, here, there)
    assert row.wrong
    summary = agenda_measure._summary([row])
    assert "wrong: noise at quality 50, cpu -> cpu: " in summary and "1 files, 1 wrong" in summary


def join(top: Path) -> None:
    """What came out of `agenda`, in the folder `back`."""
    wanted = ["--only", "join", "--pieces", str(top / "out"), "--output", str(top / "back")]
    assert gpu_agenda.main(wanted) == 0


@pytest.mark.slow  # trains by the clock, as the next one
def test_training_takes_the_time_that_is_left_and_is_delivered(tmp_path: Path) -> None:
    given = tmp_path / "given"
    given.mkdir()
    pictures = agenda_tiny.make_pictures(given / "pictures")
    save_model(Rdeic(agenda_tiny.TINY), given / "start")
    pack = ["--only", "pack", "--data", pictures, "--start", given / "start", "-o", tmp_path / "loads"]
    assert gpu_agenda.main(list(map(str, pack))) == 0
    more = ["--loads", tmp_path / "loads", "--training-minutes", "0.15", "--finish-seconds", "0"]
    assert agenda(tmp_path, *PRIOR, *more) == 0
    work = tmp_path / "work" / "prior"
    decided = json.loads((work / "plan.json").read_text())
    (step,) = checkpoint.steps(work)
    saved = checkpoint.load(checkpoint.path_of(step, work))
    assert saved.elapsed >= 60 * decided["minutes"] > 1.0 and 0 < step < decided["steps"]
    first, *_, last = [line for line in (work / "log.txt").read_text().splitlines() if "  lr " in line]
    rates = [float(line.split("  lr ")[1].split()[0]) for line in (first, last)]
    assert rates[1] < 0.2 * max(rates)  # it has fallen, though the steps are far from over

    join(tmp_path)
    assert rdeic.load(tmp_path / "back" / "prior" / "model", "cpu").config.name == "mini"


@pytest.mark.slow
def test_a_call_that_is_over_leaves_a_checkpoint_and_the_next_goes_on(tmp_path: Path) -> None:
    more = ["--seconds", "10", "--spare", "3", "--worthwhile", "0", "--training-minutes", "1000"]
    steps = []
    for _ in range(2):
        assert agenda(tmp_path, *PRIOR, *more) == gpu_agenda.MORE_TO_DO
        steps += checkpoint.steps(tmp_path / "work" / "prior")[-1:]
    assert 0 < steps[0] < steps[1]
    assert not (tmp_path / "work" / "prior" / "model").exists()
    join(tmp_path)
    back, saved = (
        checkpoint.load(checkpoint.path_of(steps[1], tmp_path / place / "prior"))
        for place in ("back", "work")
    )
    assert all(torch.equal(a, b) for a, b in zip(back.trainable, saved.trainable, strict=True))


def test_a_part_that_fails_does_not_keep_the_others(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert agenda(tmp_path, "--only", "devices,time", "--model", "no-such-model", "--worthwhile", "0") == 1
    said = capfd.readouterr()
    assert "no-such-model" in said.err and "VAE decode" in said.out


def test_a_run_under_way_is_taken_over_with_its_clock_at_zero(data: loop.Data, tmp_path: Path) -> None:
    by_clock = dataclasses.replace(CONFIG, minutes=1e6, steps=1000)
    run(Denoising(interrupt_at=5), data, by_clock, tmp_path / "run", whole=False)
    agenda_train.take_over(tmp_path / "run", tmp_path / "out")
    before, after = (checkpoint.load(checkpoint.path_of(5, tmp_path / name)) for name in ("run", "out"))
    assert before.elapsed > 0 and after.elapsed == 0.0
    assert all(torch.equal(a, b) for a, b in zip(before.trainable, after.trainable, strict=True))


# The way in and out


def test_loads_hold_the_pictures_under_their_names_and_the_rest_in_pieces(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(agenda_freight, "PIECE", 20_000)
    monkeypatch.setattr(agenda_freight, "TAR_END", 10_240)
    pictures = tmp_path / "pictures"
    pictures.mkdir()
    rng = np.random.default_rng(0)
    for number in range(70):
        small = Image.fromarray(rng.integers(0, 256, (9, 12, 3), dtype=np.uint8))
        small.resize((120, 90), Image.Resampling.BICUBIC).save(pictures / f"{number}.png")
    (pictures / "damaged.png").write_bytes(b"damaged")
    weights = tmp_path / "weights"
    weights.write_bytes(rng.bytes(50_000))
    found = find([pictures])
    loads = agenda_freight.pack(found, 86, [("start/weights", weights)], 60_000, tmp_path / "loads")
    assert len(loads) > 2
    for load in loads:
        assert sum(path.stat().st_size for path in load.iterdir()) <= 60_000 + 512
    arrived = find(sorted((tmp_path / "loads").rglob("*.tar")))
    assert len(arrived) == 70
    names = [{Path(one.name).name for one in split(each)[1]} for each in (found, arrived)]
    assert names[1] == names[0] - {"damaged.png"}  # the same pictures are held out
    assert Image.open(io.BytesIO(arrived[0].read())).size == (120, 90)
    assert sum(one.size for one in arrived) < 0.5 * sum(one.size for one in found)

    assert agenda_freight.join(loads[1:], tmp_path / "some") != []  # not all have arrived
    assert agenda_freight.join(loads, tmp_path / "all") == []
    assert (tmp_path / "all" / "start" / "weights").read_bytes() == weights.read_bytes()


def test_what_has_no_room_waits_for_the_next_call(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(agenda_freight, "PIECE", 1000)
    source = tmp_path / "source"
    source.write_bytes(np.random.default_rng(0).bytes(9000))
    outs = [tmp_path / f"out{number}" for number in range(3)]
    waiting = []
    for out in outs:
        dispatch = agenda_freight.Dispatch(tmp_path / "waiting", out)
        dispatch.add("results", [("inside", source)])
        waiting.append(dispatch.send())
        sizes = [path.stat().st_size for path in out.iterdir() if path.name != agenda_freight.MANIFEST]
        assert len(sizes) <= agenda_freight.MOST_FILES - 1 and max(sizes, default=0) <= 1000
    assert waiting == [14, 7, 0]  # of 21 pieces, seven beside the manifest
    assert agenda_freight.join(outs[:1], tmp_path / "half") != []
    assert agenda_freight.join(outs, tmp_path / "back") == []
    assert (tmp_path / "back" / "inside").read_bytes() == source.read_bytes()

    newer = tmp_path / "newer"
    dispatch = agenda_freight.Dispatch(tmp_path / "waiting", newer)
    dispatch.add("later", [("later", source)])
    dispatch.send_again()
    assert dispatch.send() == 35  # of 42: what came last goes first
    assert all(
        path.name.startswith("later") for path in newer.iterdir() if path.name != agenda_freight.MANIFEST
    )
    monkeypatch.setattr(agenda_freight, "MOST_BYTES", 9000)
    crowded = tmp_path / "crowded"
    dispatch = agenda_freight.Dispatch(tmp_path / "waiting", crowded)
    dispatch.send()
    assert 8000 < sum(path.stat().st_size for path in crowded.iterdir()) <= 9000

    damaged = next(path for path in sorted(outs[0].iterdir()) if path.name != agenda_freight.MANIFEST)
    damaged.write_bytes(damaged.read_bytes()[:-1] + b"?")
    with pytest.raises(CheckpointError, match=rf"{damaged.name} is damaged.*fetch it again"):
        agenda_freight.join(outs, tmp_path / "again")

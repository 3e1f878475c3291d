"""Training as real processes: several that share a batch, and one that is killed."""

from __future__ import annotations

import dataclasses
import os
import re
import signal
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from rdeic.checkpoints.checkpoints import save_model
from rdeic.model.model import Rdeic
from rdeic.training import run
from rdeic.training.config import TrainConfig
from support.tiny import TINY
from support.training_runs import changed, write_config

CONFIG = changed(
    {},
    model="",
    steps=20,
    batch=8,
    learning_rate=1e-3,
    weight_decay=0.01,
    warmup_steps=4,
    final_lr_fraction=0.1,
    seed=3,
    threads=1,
    cache_mb=100,
    validate_every=10,
    validation_images=3,
    checkpoint_every=10,
    keep_last=2,
)
LINE = re.compile(r"step +(\d+)/\d+  loss (\S+)")


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with `pictures`, one of them damaged, and the weights `start`."""
    place = tmp_path_factory.mktemp("place")
    (place / "pictures").mkdir()
    rng = np.random.default_rng(0)
    for index in range(30):
        coarse = Image.fromarray(rng.integers(0, 256, (10, 12, 3), dtype=np.uint8))
        coarse.resize((96, 80), Image.Resampling.BICUBIC).save(place / "pictures" / f"{index:02}.png")
    (place / "pictures" / "07.png").write_bytes(b"damaged")
    torch.manual_seed(0)
    save_model(Rdeic(TINY), place / "start")
    return place


def arguments(place: Path, stage: str, config: TrainConfig, out: Path) -> list[str]:
    """Of `rdeic`, the configuration written down."""
    out.mkdir(parents=True, exist_ok=True)
    write_config(config, {"model": str(place / "start")}, out / "config.toml")
    return [
        "train",
        stage,
        "--config",
        str(out / "config.toml"),
        "--data",
        str(place / "pictures"),
        "-o",
        str(out),
    ]


def start(command: list[str], **environment: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "rdeic", *command],
        env=os.environ | {"OMP_NUM_THREADS": "1"} | environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def together(command: list[str], count: int) -> list[tuple[str, str]]:
    """What each of `count` processes prints to stdout and stderr, told of each other as a launcher does."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = str(probe.getsockname()[1])
    shared = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "WORLD_SIZE": str(count)}
    started = [
        start(command, RANK=str(rank), LOCAL_RANK=str(rank), LOCAL_WORLD_SIZE=str(count), **shared)
        for rank in range(count)
    ]
    try:
        printed = [process.communicate(timeout=600) for process in started]
    finally:  # one that waits for another that failed
        for process in started:
            process.kill()
    assert [process.returncode for process in started] == [0] * count, printed
    return printed


def losses(stderr: str) -> list[float]:
    found = [(int(step), float(loss)) for step, loss in LINE.findall(stderr)]
    assert [step for step, _ in found] == list(range(1, len(found) + 1))
    return [loss for _, loss in found]


def alone(
    place: Path, stage: str, config: TrainConfig, out: Path, capfd: pytest.CaptureFixture[str]
) -> list[float]:
    config = dataclasses.replace(config, model=str(place / "start"))
    assert run(stage, config, [place / "pictures"], resume=False, dry_run=False, out=out) == out / "model"
    return losses(capfd.readouterr().err)


# The four stages differ in what mixes pictures; the third has most of it.
STAGES = [
    pytest.param(stage, marks=[] if stage == "independent" else pytest.mark.slow)
    for stage in ("autoencoder", "prior", "independent", "fixed-step")
]


@pytest.mark.parametrize("stage", STAGES)
@pytest.mark.filterwarnings("ignore")  # of tensorboard's dependencies
def test_how_a_batch_is_split_changes_nothing(
    stage: str, place: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """1 process x 8, 1 process x 2 micro-batches x 4 and 2 processes x 4 give one loss curve over 10 steps."""
    pytest.importorskip("accelerate")
    config = dataclasses.replace(CONFIG, steps=10)
    whole = alone(place, stage, config, tmp_path / "whole", capfd)
    halves = alone(place, stage, dataclasses.replace(config, accumulate=2), tmp_path / "halves", capfd)
    shared = tmp_path / "shared"
    printed = together(arguments(place, stage, config, shared), 2)
    assert halves == pytest.approx(whole, rel=2e-4)
    assert losses(printed[0][1]) == pytest.approx(whole, rel=2e-4)
    assert len(whole) == 10 and len(set(whole)) > 7
    assert "29 pictures" in printed[0][0] and "1 unreadable" in printed[0][0]
    assert printed[1] == ("", "")  # the second process says nothing
    one, other = (load_file(out / "model" / "model.safetensors") for out in (tmp_path / "whole", shared))
    for name, value in one.items():
        torch.testing.assert_close(other[name], value, rtol=0.05, atol=2e-3, msg=name)


@pytest.mark.slow
def test_two_processes_resume_where_one_left_off(place: Path, tmp_path: Path) -> None:
    """And the launcher itself starts them."""
    pytest.importorskip("accelerate")
    half = arguments(place, "independent", dataclasses.replace(CONFIG, checkpoint_every=7), tmp_path / "out")
    process = start(half)
    assert process.stderr is not None
    for line in process.stderr:
        if (found := LINE.match(line)) and int(found[1]) >= 8:
            break
    process.send_signal(signal.SIGTERM)
    rest = process.communicate()[1]
    assert "interrupted after step" in rest and process.returncode == 130
    launcher = ["accelerate", "launch", "--multi_gpu", "--num_processes", "2", "--main_process_port", "0"]
    launched = subprocess.run(
        [sys.executable, "-m", *launcher_module(launcher), "-m", "rdeic", *half, "--resume"],
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert launched.returncode == 0, launched.stderr
    steps = [int(step) for step, _ in LINE.findall(launched.stderr)]
    assert steps == list(range(steps[0], 21)) and steps[0] > 8
    assert (tmp_path / "out" / "model" / "model.safetensors").is_file()


def launcher_module(launcher: list[str]) -> list[str]:
    return ["accelerate.commands.accelerate_cli", *launcher[1:]]


@pytest.mark.filterwarnings("ignore")  # of tensorboard's dependencies
def test_a_killed_run_resumes_to_the_same_bits(
    place: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    config = dataclasses.replace(
        CONFIG,
        steps=80,  # far from over when the kill comes, however late it comes
        batch=2,
        checkpoint_every=3,
        keep_best="eps_mse_100",
        validate_every=10,
        validation_images=1,
    )
    killed = start(arguments(place, "prior", config, tmp_path / "killed"))
    assert killed.stderr is not None
    for line in killed.stderr:
        if (found := LINE.match(line)) and int(found[1]) >= 11:  # of the 15 steps of an epoch
            killed.kill()
            break
    killed.communicate()
    assert killed.returncode == -signal.SIGKILL
    assert not (tmp_path / "killed" / "model").exists()
    resumed = start([*arguments(place, "prior", config, tmp_path / "killed"), "--resume"])
    whole = alone(place, "prior", config, tmp_path / "untouched", capfd)
    rest = LINE.findall(resumed.communicate()[1])
    assert resumed.returncode == 0
    first = int(rest[0][0])
    assert first > 9  # nothing before the last checkpoint was done again
    assert [float(loss) for _, loss in rest] == whole[first - 1 :]
    for name in ("model", "best"):
        files = [tmp_path / folder / name / "model.safetensors" for folder in ("untouched", "killed")]
        assert files[0].read_bytes() == files[1].read_bytes()

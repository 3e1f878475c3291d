"""`rdeic doctor` finds what is wrong, and says what to do about it."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest


def doctor(*arguments: str) -> subprocess.CompletedProcess[str]:
    """In a process of its own, where no other test has told torch of a device."""
    command = [sys.executable, "-m", "rdeic", "doctor", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def wrong(*arguments: str) -> list[dict[str, Any]]:
    """What is wrong, by --json."""
    done = doctor("--json", *arguments)
    said = json.loads(done.stdout)
    found = [finding for finding in said["findings"] if finding["remedy"]]
    assert (done.returncode, said["sound"]) == ((1, False) if found else (0, True))
    return found


def test_a_sound_installation(tiny_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RDEIC_MODELS", str(tiny_folder.parent))
    done = doctor("--device", "cpu")
    lines = done.stdout.splitlines()
    assert (done.returncode, done.stderr) == (0, "")
    assert all(line.startswith("ok  ") for line in lines)
    for part, said in (
        ("versions", f"Python: {sys.version.split()[0]}"),
        ("versions", "torch: 2."),
        ("devices", "cpu: can do everything"),
        ("models", "mini: "),
        ("models", f"weights fit, {tiny_folder}"),
        ("self-test", "every bit decodes"),
    ):
        assert any(part in line and said in line for line in lines), said


def test_what_is_wrong_with_models_and_devices(
    tiny_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cut, other = tmp_path / "models" / "cut", tmp_path / "models" / "other"
    for folder in (cut, other):
        shutil.copytree(tiny_folder, folder)
    weights = cut / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1])
    configured = (other / "config.json").read_text()
    (other / "config.json").write_text(configured.replace('"latent_channels": 4', '"latent_channels": 6'))
    assert (other / "config.json").read_text() != configured
    monkeypatch.setenv("RDEIC_MODELS", str(tmp_path / "models"))
    found = wrong("--device", "cuda:99")
    assert [(one["part"], one["name"]) for one in found[:2]] == [("models", "cut"), ("models", "other")]
    assert "cannot be read as weights" in found[0]["found"]
    assert found[0]["remedy"] == f"replace {cut} by a sound copy, or remove it"
    assert "does not fit the network" in found[1]["found"]
    assert "device 'cuda:99' cannot be used here" in found[2]["found"]
    assert "--device cpu" in found[2]["remedy"]


def test_a_folder_of_models_that_is_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RDEIC_MODELS", "/no/such/folder")
    done = doctor()
    lines = done.stdout.splitlines()
    assert done.returncode == 1
    assert "WRONG  models     RDEIC_MODELS: /no/such/folder is no folder" in lines
    assert lines[-1].startswith("to mend models RDEIC_MODELS: set RDEIC_MODELS to a folder of model folders")


def test_a_torch_that_cannot_be_imported(tmp_path: Path) -> None:
    (tmp_path / "torch.py").write_text("raise ImportError('libcudart.so.12: no such file')\n")
    path = os.pathsep.join([str(tmp_path), *filter(None, [os.environ.get("PYTHONPATH")])])
    done = subprocess.run(
        [sys.executable, "-m", "rdeic", "doctor"],
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | {"PYTHONPATH": path},
    )
    assert (done.returncode, done.stderr) == (1, "")
    assert "WRONG  devices    torch: ImportError: libcudart.so.12: no such file" in done.stdout
    assert "to mend devices torch: install torch again" in done.stdout

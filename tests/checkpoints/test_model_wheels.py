"""Weights as wheels: built, installed beside others of their name, found by a file's fingerprint, or broken."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
from PIL import Image

import model_wheel
import rdeic
import record_model
from rdeic import config
from rdeic.checkpoints import model_wheels, registry
from rdeic.codec import codec
from rdeic.codec.codecs import Codecs
from rdeic.codec.weights import Settings
from rdeic.evaluation.codecs import own
from support import golden_files_set as golden_set
from support.tiny import TINY, save_random_model

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = Path(rdeic.__file__).parent
PHOTO = ROOT / "examples" / "kodim23.png"
EXACT = Settings("cpu", encoder_precision="fp32", precision="fp32")
MINI, MINI_PRINT = registry.find("mini"), registry.fingerprint(registry.find("mini")).hex()


class Wheels(NamedTuple):
    """Built by the script and installed by pip, each a model called `old`, `continuous` or `fixed`."""

    target: Path
    files: dict[str, Path]  # by fingerprint
    folders: dict[str, Path]  # that they were built from, by fingerprint


@pytest.fixture(scope="module")
def wheels(tmp_path_factory: pytest.TempPathFactory) -> Wheels:
    """Two small models of one name, and the two that made the golden files."""
    place = tmp_path_factory.mktemp("wheels")
    twins = [save_random_model(TINY, place / f"from{seed}" / "twin", seed) for seed in (1, 2)]
    makers = [golden_set.make_model(name, place) for name in golden_set.MODELS]
    built, folders = {}, {}
    for folder in (*twins, *makers):
        (folder / "LICENSE").write_text("SPDX-License-Identifier: CC0-1.0\n\nDo as you like.\n")
        found = model_wheel.look(folder, folder.name, None)
        folders[found.fingerprint.hex()] = folder
        built[found.fingerprint.hex()] = model_wheel.build(found, "1.0", place / "dist")
    return Wheels(pip_install(place / "target", *built.values()), built, folders)


def pip_install(target: Path, *files: Path) -> Path:
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index", "--no-compile"]
    subprocess.run([*command, "--target", target, *files], check=True)
    return target


@pytest.fixture
def beside(wheels: Wheels, monkeypatch: pytest.MonkeyPatch) -> Wheels:
    """The wheels, where Python looks for packages."""
    monkeypatch.syspath_prepend(str(wheels.target))
    return wheels


def program(
    *arguments: str | Path, path: tuple[Path, ...], **variables: str
) -> subprocess.CompletedProcess[str]:
    """`rdeic` in a process whose packages come from `path` first."""
    environment: Mapping[str, str] = os.environ | variables | {"PYTHONPATH": os.pathsep.join(map(str, path))}
    command = [sys.executable, "-m", "rdeic", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, env=environment, check=False)


def listed(text: str) -> list[tuple[str, str, str]]:
    """(name, fingerprint, origin) by `rdeic models`."""
    found = (line.split("  ") for line in text.splitlines())
    return [(name, print_, origin) for name, print_, _, _, origin, _ in found]


def test_a_wheel_says_what_it_is_and_holds_no_code(wheels: Wheels, tmp_path: Path) -> None:
    fingerprint, folder = next(iter(wheels.folders.items()))
    wheel = wheels.files[fingerprint]
    assert wheel.name == f"rdeic_model_twin_{fingerprint}-1.0-py3-none-any.whl"
    with zipfile.ZipFile(wheel) as archive:
        names = {name for name in archive.namelist() if ".dist-info/" not in name}
        metadata = archive.read(f"rdeic_model_twin_{fingerprint}-1.0.dist-info/METADATA").decode()
        code = archive.read(f"rdeic_model_twin_{fingerprint}/__init__.py").decode()
        weights = archive.read(f"rdeic_model_twin_{fingerprint}/twin/model.safetensors")
    assert {Path(name).name for name in names} == {
        "__init__.py",
        "config.json",
        "model.safetensors",
        "LICENSE",
    }
    assert weights == (folder / "model.safetensors").read_bytes()
    assert re.fullmatch(r'"""[^"]*"""\n', code)
    assert "License-Expression: CC0-1.0" in metadata and "Do as you like." in metadata
    again = model_wheel.build(model_wheel.look(folder, "twin", None), "1.0", tmp_path)
    assert again.read_bytes() == wheel.read_bytes()


def test_no_wheel_without_a_licence(tiny_folder: Path) -> None:
    with pytest.raises(rdeic.ConfigError, match=r"LICENSE is missing.*--licence FILE"):
        model_wheel.look(tiny_folder, None, None)


def test_a_model_of_several_rates_goes_in_whole(tiny_folder: Path, tmp_path: Path) -> None:
    for rate in ("low", "high"):
        shutil.copytree(tiny_folder, tmp_path / "two" / rate)
    shutil.copy(tiny_folder / "config.json", tmp_path / "two")
    (tmp_path / "two" / "rates.json").write_text('["low", "high"]')
    (tmp_path / "two" / "notes.txt").write_text("none of it")
    assert [str(path) for path in model_wheel.files(tmp_path / "two")] == [
        "config.json", "high/config.json", "high/model.safetensors",
        "low/config.json", "low/model.safetensors", "rates.json",
    ]  # fmt: skip


def test_golden_files_decode_through_wheels(beside: Wheels) -> None:
    codecs = Codecs(EXACT)
    direct = {print_: codec.Codec(folder, EXACT) for print_, folder in beside.folders.items()}
    for golden in golden_set.read().golden:
        blob = (golden_set.FOLDER / golden.name).read_bytes()
        found = codecs.for_file(blob)
        assert beside.target in found._weights.folder.parents
        restored = np.asarray(found.decompress(blob))
        assert np.array_equal(restored, np.asarray(direct[rdeic.inspect(blob).fingerprint].decompress(blob)))
        if golden.picture:
            with Image.open(golden_set.FOLDER / golden.picture) as picture:
                expected = np.asarray(picture.convert("RGB")).astype(float)
            assert np.abs(restored - expected).max() <= golden.max_tolerance


def test_each_of_two_models_of_one_name_reads_its_own_files(beside: Wheels, photo: np.ndarray) -> None:
    twins = [print_ for print_, folder in beside.folders.items() if folder.name == "twin"]
    assert len(twins) == 2
    for print_ in twins:
        chosen = rdeic.load(f"twin-{print_}", "cpu")
        blob = chosen.compress(photo)
        assert rdeic.inspect(blob).fingerprint == print_
        assert codec.load_for(blob)._weights.folder == chosen._weights.folder
        # Other machines have other folders, and in a report the two are side by side.
        assert registry.lasting_name(chosen._weights.folder) == f"twin-{print_}"
        assert own.create(f"twin-{print_}", (), "cpu", 60).name == f"rdeic-twin-{print_}"
    other = rdeic.load(f"twin-{twins[0]}", "cpu")
    with pytest.raises(rdeic.ModelMismatchError, match=rf"installed: .*; use model twin-{twins[1]}$"):
        other.decompress(blob)


def test_models_lists_where_each_comes_from(
    wheels: Wheels, tiny_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    done = program("models", path=(PACKAGE.parent, wheels.target), RDEIC_MODELS=str(tiny_folder.parent))
    assert (done.returncode, done.stderr) == (0, "")
    assert listed(done.stdout) == [
        ("mini", MINI_PRINT, "embedded"),
        ("tiny", registry.fingerprint(tiny_folder).hex(), "RDEIC_MODELS"),
        *sorted(
            (folder.name, print_, f"rdeic-model-{folder.name}-{print_} 1.0")
            for print_, folder in wheels.folders.items()
        ),
    ]


def broken(
    target: Path, name: str, entry_points: str, metadata: str = "Metadata-Version: 2.1\nName: {}\nVersion: 9"
) -> None:
    place = target / f"{name.replace('-', '_')}-9.dist-info"
    place.mkdir(parents=True)
    (place / "METADATA").write_text(metadata.format(name))
    (place / "entry_points.txt").write_text(entry_points)


def test_broken_wheels_are_named_and_change_nothing(tmp_path: Path, tiny_folder: Path) -> None:
    broken(tmp_path, "not-there", "[rdeic.models]\nx = no_such_package_of_models\n")
    broken(tmp_path, "hostile", "[rdeic.models]\nx = hostile_models.inner\n")
    (tmp_path / "hostile_models").mkdir()
    (tmp_path / "hostile_models" / "__init__.py").write_text("raise SystemExit('imported')")
    broken(tmp_path, "no-package", "[rdeic.models]\nx = \n")
    broken(tmp_path, "garbled", "[rdeic.models]\nwithout an equals sign\n")
    broken(tmp_path, "nameless", "[rdeic.models]\nx = hostile_models\n", metadata="")
    path = (PACKAGE.parent, tmp_path)
    done = program("models", path=path, RDEIC_MODELS=str(tiny_folder.parent))
    assert done.returncode == 1
    assert [one[0] for one in listed(done.stdout)] == ["mini", "tiny"]
    said = done.stderr.splitlines()
    assert [line for line in said if "hostile 9" in line or "not-there 9" in line] == said
    assert len(said) == 2 and all("holds no model: pip install --force-reinstall" in line for line in said)
    shutil.rmtree(
        tmp_path / "garbled-9.dist-info"
    )  # torch, too, reads everybody's entry points, and ends there
    blob = rdeic.load(tiny_folder, "cpu").compress(np.zeros((64, 64, 3), np.uint8))
    (tmp_path / "x.rdeic").write_bytes(blob)
    done = program(
        "decompress",
        tmp_path / "x.rdeic",
        "-o",
        tmp_path / "x.png",
        path=path,
        RDEIC_MODELS=str(tiny_folder.parent),
    )
    assert (done.returncode, done.stderr.count("\n")) == (0, 0), done.stderr


def test_the_doctor_names_a_broken_wheel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from rdeic.cli import checkup

    broken(tmp_path, "not-there", "[rdeic.models]\nx = no_such_package_of_models\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    (finding,) = [one for one in checkup._models() if one.remedy]
    assert (finding.name, finding.found) == ("not-there", "9 holds no model")
    assert finding.remedy == "pip install --force-reinstall not-there, or uninstall it"


def test_the_wheel_to_install_is_named_for_released_models_only(photo: np.ndarray, tiny: codec.Codec) -> None:
    (fingerprint, name), *_ = model_wheels.RELEASED.items()
    known = model_wheels.remedy(bytes.fromhex(fingerprint))
    assert known.startswith(f"pip install rdeic-model-{name}-{fingerprint}, or ask the file's sender")
    made = tiny.compress(photo)
    with pytest.raises(rdeic.ModelMismatchError) as raised:
        codec.load_for(made)
    unknown = str(raised.value)
    assert "pip install" not in unknown  # a stranger's file must not choose what is installed
    assert f"rdeic-model-NAME-{rdeic.inspect(made).fingerprint}" in unknown
    assert "RDEIC_MODELS" in unknown and "\n" not in unknown


def test_yesterdays_mini_restores_its_files_when_another_is_embedded(
    tiny_folder: Path, tmp_path: Path
) -> None:
    """All of it as a user has it: the package with other weights in it, and the wheel of those that made the file."""
    today = tmp_path / "today"
    shutil.copytree(PACKAGE, today / "rdeic", ignore=shutil.ignore_patterns("weights", "__pycache__"))
    shutil.copytree(tiny_folder, today / "rdeic" / "weights" / "mini")
    mini = rdeic.load("mini", "cpu", None, "fp32", "fp32")
    with Image.open(PHOTO) as photo:
        blob = mini.compress(photo.crop((300, 100, 492, 228)), quality=20)
    (tmp_path / "old.rdeic").write_bytes(blob)
    arguments = ("decompress", tmp_path / "old.rdeic", "-o", tmp_path / "old.png", "--device", "cpu")
    refused = program(*arguments, path=(today,))
    assert refused.returncode == 1
    assert f"made with model {MINI_PRINT}; installed: mini (" in refused.stderr
    assert f"pip install rdeic-model-mini-{MINI_PRINT}" in refused.stderr
    wheel = model_wheel.build(model_wheel.look("mini", None, None), "1.0", tmp_path)
    target = pip_install(tmp_path / "target", wheel)
    done = program(*arguments, "--precision", "fp32", path=(today, target))
    assert done.returncode == 0, done.stderr
    with Image.open(tmp_path / "old.png") as restored:
        assert np.array_equal(np.asarray(restored), np.asarray(mini.decompress(blob)))
    assert listed(program("models", path=(today, target)).stdout) == [
        ("mini", registry.fingerprint(tiny_folder).hex(), "embedded"),
        ("mini", MINI_PRINT, f"rdeic-model-mini-{MINI_PRINT} 1.0"),
    ]


def test_the_embedded_weights_are_on_record() -> None:
    """Whoever embeds others builds the old ones' wheel first, and says anew what applies to them."""
    assert model_wheels.RELEASED.get(MINI_PRINT) == "mini", (
        f"add {MINI_PRINT} to model_wheels.RELEASED, and keep the rest"
    )
    licence = (MINI / "LICENSE").read_text(encoding="utf-8")
    card = (ROOT / "docs" / "model_card.md").read_text(encoding="utf-8")
    for text in (licence, card):
        assert MINI_PRINT in text, f"the licence and the model card are of other weights than {MINI_PRINT}"
    for count in re.findall(r"[\d,]{3,}(?= (?:of the|come|carry|under))", licence):
        assert count in card


@pytest.mark.parametrize(("fingerprint", "name"), model_wheels.RELEASED.items())
def test_released_weights_still_fit_the_networks(fingerprint: str, name: str) -> None:
    record = record_model.RECORDS / f"{name}-{fingerprint}.json"
    assert record.is_file(), "run `python scripts/record_model.py` while these weights are embedded"
    content = json.loads(record.read_text(encoding="utf-8"))
    model = config.from_json(json.dumps(content["config"]))
    assert record_model.digest(model) == content["tensors"], f"{name}-{fingerprint} cannot be loaded any more"


def test_looking_for_wheels_is_no_part_of_the_import() -> None:
    light = "import sys, rdeic, rdeic.container.info; print('importlib.metadata' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", light], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"

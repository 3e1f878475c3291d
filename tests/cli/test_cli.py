"""The program as a user meets it: exit codes, one-line failures, pipes. Mostly with hostile input."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

import rdeic
from rdeic import cli
from rdeic.checkpoints import registry
from rdeic.container import container
from rdeic.pictures import images
from support.program_runs import Program, model, picture, program

__all__ = ["model", "picture", "program"]  # fixtures


def test_there_and_back(program: Program, picture: Path, model: tuple[str, ...]) -> None:
    done = program("compress", picture, *model, "--quality", "30", "--seed", "5", "--verify")
    blob = picture.with_suffix(".rdeic").read_bytes()
    assert (done.code, done.err) == (0, "")
    assert f"{picture} -> {picture.with_suffix('.rdeic')}  {len(blob)} bytes".encode() in done.out
    assert b"bpp  verified\n" in done.out
    assert rdeic.inspect(blob)[2:5] == (pytest.approx(30, abs=0.2), 2, 5)
    assert program("decompress", "photo.rdeic", "-o", "out.jpg", *model).code == 0
    assert Path("out.jpg").read_bytes().startswith(b"\xff\xd8")
    assert images.read("out.jpg").shape == (96, 130, 3)
    assert sorted(path.name for path in Path().iterdir()) == ["out.jpg", "photo.png", "photo.rdeic"]


def test_sizes_are_met(program: Program, picture: Path, model: tuple[str, ...]) -> None:
    assert program("compress", picture, *model, "--bytes", "300").code == 0
    assert picture.with_suffix(".rdeic").stat().st_size <= 300
    failed = program("compress", picture, *model, "--bytes", "20", "-o", "no.rdeic")
    assert (failed.code, len(failed.failures)) == (1, 1)
    assert "smallest possible is" in failed.err
    assert program("compress", picture, *model, "--bpp", "0.0001", "-o", "no.rdeic").code == 1
    assert not Path("no.rdeic").exists()


def test_pipes_carry_nothing_but_the_result(program: Program, picture: Path, model: tuple[str, ...]) -> None:
    packed = program("compress", "-", *model, stdin=picture.read_bytes())
    assert (packed.code, packed.err) == (0, "")
    assert rdeic.inspect(packed.out)[:2] == (130, 96)
    restored = program("decompress", "-", *model, "--format", "webp", stdin=packed.out)
    assert images.read(restored.out).shape == (96, 130, 3)
    assert program("compress", picture, "-o", "-", *model).out == packed.out
    assert program("compress", "-", "-o", "named.rdeic", *model, stdin=picture.read_bytes()).code == 0
    assert Path("named.rdeic").read_bytes() == packed.out
    assert b'"file": "<stdin>"' in program("info", "--json", "-", stdin=packed.out).out


BAD_INPUTS = {
    "missing.png": (None, "No such file"),
    "empty.png": (b"", "empty"),
    "text.png": (b"hello\nthere\n", "not a picture"),
    "cut.png": (b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR", "picture"),
}


@pytest.mark.parametrize("name", BAD_INPUTS)
def test_bad_pictures_are_one_line_and_exit_1(
    program: Program, tmp_path: Path, model: tuple[str, ...], name: str
) -> None:
    content, reason = BAD_INPUTS[name]
    if content is not None:
        (tmp_path / name).write_bytes(content)
    failed = program("compress", name, *model)
    assert (failed.code, failed.out, len(failed.err.splitlines())) == (1, b"", 1)
    assert failed.err.startswith(f"rdeic: {name}: ")
    assert reason in failed.err
    assert not Path(name).with_suffix(".rdeic").exists()


@pytest.mark.parametrize("command", ["decompress", "info"])
@pytest.mark.parametrize(
    ("content", "reason"),
    [(b"", "empty"), (b"hello", "not an .rdeic"), (b"RDE\x01", "truncated"), (None, "No such")],
)
def test_bad_files_are_one_line_and_exit_1(
    program: Program, tmp_path: Path, command: str, content: bytes | None, reason: str
) -> None:
    if content is not None:
        (tmp_path / "bad.rdeic").write_bytes(content)
    failed = program(command, "bad.rdeic")
    assert (failed.code, failed.out, len(failed.err.splitlines())) == (1, b"", 1)
    assert failed.err.startswith("rdeic: bad.rdeic: ")
    assert reason in failed.err


def test_damage_and_foreign_models_are_named(
    program: Program, picture: Path, model: tuple[str, ...], tmp_path: Path
) -> None:
    program("compress", picture, *model)
    blob = bytearray(Path("photo.rdeic").read_bytes())
    foreign = program("decompress", "photo.rdeic", "-o", "x.png")
    assert foreign.code == 1
    assert f"made with model {rdeic.inspect(bytes(blob)).fingerprint}" in foreign.err
    blob[25] ^= 1
    (tmp_path / "photo.rdeic").write_bytes(blob)
    assert "checksum" in program("decompress", "photo.rdeic", "-o", "x.png", *model).err


@pytest.mark.parametrize(
    "arguments",
    [
        ["compress"],
        ["compress", "photo.png", "--quality", "101"],
        ["compress", "photo.png", "--quality", "high"],
        ["compress", "photo.png", "--quality", "50", "--bpp", "0.1"],
        ["compress", "photo.png", "--bpp", "0.1", "--bytes", "100"],
        ["compress", "photo.png", "--bpp", "0"],
        ["compress", "photo.png", "--bytes", "0"],
        ["compress", "photo.png", "--seed", "4294967296"],
        ["compress", "photo.png", "--background", "no-colour"],
        ["compress", "photo.png", "--no-such-option"],
        ["compress", "photo.png", "other.png", "-o", "-"],
        ["compress", "photo.png", "other.png", "-o", "photo.png"],
        ["compress", "photo.png", "-"],
        ["decompress", "photo.rdeic", "--steps", "0"],
        ["decompress", "photo.rdeic", "--detail", "-1"],
        ["decompress", "photo.rdeic", "--format", "gif"],
        ["decompress", "photo.rdeic", "-o", "photo.gif"],
        ["no-such-command"],
        ["train", "autoencoder"],
    ],
)
def test_usage_errors_exit_2(program: Program, picture: Path, arguments: list[str]) -> None:
    before = picture.read_bytes()
    failed = program(*arguments)
    assert (failed.code, failed.out) == (2, b"")
    assert "Error" in failed.err
    assert picture.read_bytes() == before


def test_unknown_models_and_devices_end_the_whole_run_with_one_line(
    program: Program, picture: Path, tiny_folder: Path
) -> None:
    for options in (["--model", "nonesuch"], ["--model", str(tiny_folder), "--device", "toaster"]):
        failed = program("compress", picture, picture.parent, *options)
        assert (failed.code, failed.out, len(failed.err.splitlines())) == (1, b"", 1)
        assert options[-1] in failed.err


def test_transparency_needs_a_background(program: Program, tmp_path: Path, model: tuple[str, ...]) -> None:
    Image.new("RGBA", (9, 9), (9, 9, 9, 0)).save(tmp_path / "glass.png")
    assert "--background COLOUR" in program("compress", "glass.png", *model).err
    assert program("compress", "glass.png", *model, "--background", "white").code == 0


def test_info_in_words_and_in_json(program: Program, picture: Path, model: tuple[str, ...]) -> None:
    program("compress", picture, *model, "--quality", "40", "-o", "x.rdeic")
    found = rdeic.inspect("x.rdeic")
    words = program("info", "x.rdeic").out.decode()
    assert words.startswith(
        f"x.rdeic: 130x96, {found.file_bytes} bytes, {found.bpp:.4f} bpp, quality 40, steps 2"
    )
    lines = program("info", "--json", "x.rdeic", "x.rdeic", ".").out.splitlines()
    assert [json.loads(line) for line in lines] == [{"file": "x.rdeic", **found._asdict(), "bpp": found.bpp}]


def test_models_are_found_by_name_in_the_users_folder(
    program: Program, picture: Path, tiny_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fingerprint = registry.fingerprint(tiny_folder).hex()
    line = (
        f"tiny  {fingerprint}  {registry.describe(tiny_folder).weight_bytes / 1e6:.1f} MB  quality 0 to 100"
    )
    monkeypatch.delenv("RDEIC_MODELS", raising=False)
    assert line not in program("models").out.decode()
    assert line in program("models", tiny_folder).out.decode()
    failed = program("compress", picture, "--model", "tiny")
    assert (failed.code, "RDEIC_MODELS" in failed.err) == (1, True)
    monkeypatch.setenv("RDEIC_MODELS", str(tiny_folder.parent))
    assert line in program("models").out.decode()
    assert program("compress", picture, "--model", "tiny", "-o", "x.rdeic").code == 0
    assert program("decompress", "x.rdeic", "-o", "x.png").code == 0  # the file says by which model


def test_another_programs_folder_among_the_models_does_not_matter(
    program: Program, picture: Path, tiny_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = tmp_path / "models"
    shutil.copytree(tiny_folder, place / "tiny")
    (place / "bert").mkdir()
    (place / "bert" / registry.CONFIG_FILE).write_text('{"architectures": ["BertModel"]}')
    monkeypatch.setenv("RDEIC_MODELS", str(place))
    assert program("compress", picture, "--model", "tiny", "-o", "x.rdeic").code == 0
    assert program("decompress", "x.rdeic", "-o", "x.png").code == 0
    assert program("models").code == 1  # where it is named


def test_an_empty_argument_is_not_the_current_directory(program: Program, picture: Path) -> None:
    failed = program("compress", "")
    assert (failed.code, len(failed.failures)) == (1, 1)
    assert not list(Path().rglob("*.rdeic"))


def test_models_lists_the_others_beside_a_broken_one(
    program: Program, tmp_path: Path, tiny_folder: Path
) -> None:
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / registry.CONFIG_FILE).write_text("{}")
    listed = program("models", "broken", tiny_folder, "missing")
    assert listed.code == 1
    assert [line.partition("  ")[0] for line in listed.out.decode().splitlines()][-1] == "tiny"
    assert len(listed.failures) == 2
    assert "broken" in listed.failures[0] and "missing" in listed.failures[1]


def test_version_and_help_say_something(program: Program) -> None:
    assert program("--version").out.decode() == f"rdeic {rdeic.__version__}\n"
    listed = program("--help").out.decode()
    assert all(command in listed for command in ("compress", "decompress", "info", "models", "train"))


def test_train_names_a_missing_configuration(program: Program) -> None:
    failed = program("train", "autoencoder", "--config", "missing.toml", "--dry-run")
    assert (failed.code, len(failed.err.splitlines())) == (1, 1)
    assert "missing.toml" in failed.err


def test_the_installed_program_exits_by_the_same_rules(tmp_path: Path) -> None:
    bad = tmp_path / "b\udcffad\n.rdeic"  # no valid text, and two lines
    bad.write_bytes(b"not one")
    command = [sys.executable, "-m", "rdeic", "info"]
    done = subprocess.run([*command, str(bad)], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, len(done.stderr.splitlines())) == (1, "", 1)
    good = container.pack(container.RdeicFile(container.Header(b"abcd", 3, 2, 128, 2, 0), b""))
    bad.write_bytes(good)
    assert subprocess.run([*command, str(bad)], capture_output=True, check=False).returncode == 0


def _heed_ctrl_c() -> None:
    # A shell that runs the tests in the background has it ignored.
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def test_ctrl_c_exits_130_without_a_traceback() -> None:
    command = [sys.executable, "-m", "rdeic", "info", "-"]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stderr=pipe, preexec_fn=_heed_ctrl_c) as waiting:
        assert waiting.stdin is not None
        # More than a pipe holds: returns only once the program reads, which is past its imports.
        waiting.stdin.write(bytes(1_000_000))
        waiting.stdin.flush()
        waiting.send_signal(signal.SIGINT)
        _, err = waiting.communicate(timeout=20)
    assert waiting.returncode == 130
    assert b"Traceback" not in err


def test_unexpected_exceptions_are_one_line_unless_debugging(
    program: Program, monkeypatch: pytest.MonkeyPatch
) -> None:
    failed = program("info", "\0")  # a name that no shell can pass on
    assert (failed.code, len(failed.err.splitlines())) == (1, 1)
    assert "internal error" in failed.err
    monkeypatch.setenv("RDEIC_DEBUG", "1")
    with pytest.raises(ValueError, match="null"):
        cli.main()

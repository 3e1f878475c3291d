"""The program as a user meets it: exit codes, one-line failures, batches, pipes. Mostly with hostile input."""

from __future__ import annotations

import io
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest
from PIL import Image

import rdeic
from rdeic import cli, container, images, registry


class Outcome(NamedTuple):
    code: int
    out: bytes
    err: str

    @property
    def failures(self) -> list[str]:
        return [line for line in self.err.splitlines() if line.startswith("rdeic: ")]


Program = Callable[..., Outcome]


@pytest.fixture
def program(
    monkeypatch: pytest.MonkeyPatch, capsysbinary: pytest.CaptureFixture[bytes], tmp_path: Path
) -> Program:
    """Runs `rdeic ARGUMENTS` in this process, in `tmp_path`."""
    monkeypatch.chdir(tmp_path)

    def run(*arguments: str | Path, stdin: bytes = b"") -> Outcome:
        monkeypatch.setattr(sys, "argv", ["rdeic", *map(str, arguments)])
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(stdin)))
        with pytest.raises(SystemExit) as exit_:
            cli.main()
        captured = capsysbinary.readouterr()
        err = captured.err.decode()
        assert "Traceback" not in err
        return Outcome(exit_.value.code or 0, captured.out, err)

    return run


@pytest.fixture
def picture(tmp_path: Path, photo: images.Picture) -> Path:
    path = tmp_path / "photo.png"
    images.write(photo, path, "png")
    return path


@pytest.fixture
def model(tiny_folder: Path) -> tuple[str, str, str, str]:
    return ("--model", str(tiny_folder), "--device", "cpu")


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


@pytest.fixture
def album(tmp_path: Path, photo: images.Picture) -> Path:
    """Two good pictures, one of them nested, and a bad one between them."""
    folder = tmp_path / "album"
    (folder / "sub").mkdir(parents=True)
    images.write(photo, folder / "a.png", "png")
    (folder / "b.png").write_text("no picture")
    images.write(photo[:50], folder / "sub" / "c d.jpg", "jpg")
    (folder / "notes.txt").write_text("left alone")
    return folder


def test_a_batch_goes_on_after_a_failure_and_lists_it(
    program: Program, album: Path, model: tuple[str, ...]
) -> None:
    done = program("compress", "album", "-o", "packed", *model)
    assert done.code == 1
    assert len(done.failures) == 1
    assert done.err.splitlines()[-1] == f"2 done, 0 finished before, 1 failed: {Path('album/b.png')}"
    assert sorted(str(path) for path in Path("packed").rglob("*.rdeic")) == [
        "packed/a.rdeic",
        "packed/sub/c d.rdeic",
    ]
    assert "\r" not in done.err  # no progress bar in a pipe


def test_a_rerun_skips_what_is_finished_and_redoes_what_is_stale(
    program: Program, album: Path, model: tuple[str, ...]
) -> None:
    (album / "b.png").unlink()
    assert program("compress", "album", *model).code == 0
    outputs = [album / "a.rdeic", album / "sub" / "c d.rdeic"]
    for output in outputs:
        output.write_bytes(b"finished")
    again = program("compress", "album/**/*.*g", *model)
    assert (again.code, again.out) == (0, b"")
    assert again.err == "0 done, 2 finished before, 0 failed\n"
    os.utime(outputs[0], ns=(0, 0))
    assert "1 done, 1 finished before" in program("compress", "album", *model).err
    assert outputs[0].read_bytes() != b"finished"
    assert outputs[1].read_bytes() == b"finished"
    assert "2 done" in program("compress", "album", *model, "--force").err
    assert outputs[1].read_bytes() != b"finished"


def test_originals_are_not_overwritten_by_their_restored_copies(
    program: Program, picture: Path, model: tuple[str, ...], tmp_path: Path
) -> None:
    before = picture.read_bytes()
    os.utime(picture, ns=(0, 0))
    program("compress", picture, *model)
    for arguments in (["photo.rdeic"], ["."]):
        refused = program("decompress", *arguments, *model)
        assert refused.code == 1
        assert "--force" in refused.err
        assert picture.read_bytes() == before
    assert program("compress", picture, *model).code == 1  # photo.rdeic is there already
    assert program("compress", picture, "-o", "photo.rdeic", *model).code == 0  # named: meant
    assert "input itself" in program("compress", picture, "-o", picture, "--force", *model).err
    assert picture.read_bytes() == before
    assert program("decompress", "photo.rdeic", "--force", *model).code == 0
    assert picture.read_bytes() != before


def test_two_inputs_never_share_an_output(program: Program, album: Path, model: tuple[str, ...]) -> None:
    (album / "a.jpg").write_bytes((album / "sub" / "c d.jpg").read_bytes())
    done = program("compress", album / "a.jpg", album / "a.png", *model)
    assert done.code == 1
    assert done.failures == [
        f"rdeic: {album}/a.png: would go to {album}/a.rdeic, as {album}/a.jpg does; rename one of them"
    ]
    assert rdeic.inspect(album / "a.rdeic").height == 50


def test_empty_directories_and_patterns_are_failures(
    program: Program, tmp_path: Path, model: tuple[str, ...]
) -> None:
    (tmp_path / "void").mkdir()
    done = program("compress", "void", "*.tiff", *model)
    assert done.code == 1
    assert [line.split(": ")[1] for line in done.failures] == ["void", "*.tiff"]


def test_brackets_in_names_are_not_patterns(program: Program, picture: Path, model: tuple[str, ...]) -> None:
    picture.rename("a[1].png")
    assert program("compress", "a[1].png", *model).code == 0
    assert Path("a[1].rdeic").exists()


def test_outputs_that_cannot_be_written(program: Program, picture: Path, model: tuple[str, ...]) -> None:
    failed = program("compress", picture, "-o", "no/such/folder/x.rdeic", *model)
    assert (failed.code, len(failed.err.splitlines())) == (1, 1)
    assert "cannot be written" in failed.err


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

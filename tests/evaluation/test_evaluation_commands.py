"""Other people's programs as codecs: what they do wrong is said in a line, and no shell sees their names."""

from __future__ import annotations

import dataclasses
import shlex
import sys
from pathlib import Path

import numpy as np
import pytest

from rdeic.errors import ConfigError, ImageError
from rdeic.evaluation.codecs import commands
from rdeic.evaluation.codecs.commands import CommandCodec, Template
from rdeic.evaluation.types import UnavailableCodec
from rdeic.pictures import images

EXAMPLES = Path(__file__).parents[2] / "examples" / "codecs"
PYTHON = shlex.quote(sys.executable) + " -S -c"
COPY = f"{PYTHON} 'import shutil, sys; shutil.copy(*sys.argv[1:])' {{input}} {{output}}"


def template(encode: str, decode: str | None = COPY, file: str = "", restored: str = "") -> Template:
    return Template("mine", encode, decode, ("q1",), 20, file, restored, None)


def python(program: str, *arguments: str) -> str:
    return f"{PYTHON} {shlex.quote(program)} {' '.join(arguments)}"


def test_there_and_back(photo: images.Picture) -> None:
    codec = commands.create(template(COPY))
    assert isinstance(codec, CommandCodec)
    data = codec.encode(photo, "q1")
    assert data.startswith(b"\x89PNG")
    assert np.array_equal(codec.decode(data), photo)


def test_placeholders_are_filled_and_nothing_is_a_shell_command(
    photo: images.Picture, tmp_path: Path
) -> None:
    program = "import sys; open(sys.argv[1], 'w').write(repr(sys.argv[2:]))"
    words = ("{output}", "{setting}", "{value}", "{width}x{height}", "'a b'", "';'", "'$HOME'")
    codec = CommandCodec(template(python(program, *words)))
    written = codec.encode(photo, "qp42").decode()
    assert written == "['qp42', '42', '130x96', 'a b', ';', '$HOME']"


def test_programs_that_work_on_folders(photo: images.Picture) -> None:
    encode = "import sys, os, shutil; i, o = sys.argv[1:]; os.mkdir(o + '/bin'); (n,) = os.listdir(i); "
    encode += "shutil.copy(i + '/' + n, o + '/bin/x.cod')"
    decode = "import sys, os, shutil; i, o = sys.argv[1:]; (n,) = os.listdir(i); assert n.endswith('.cod'); "
    decode += "shutil.copy(i + '/' + n, o + '/any.png')"
    folders = ("{input_folder}", "{output_folder}")
    codec = CommandCodec(
        template(python(encode, *folders), python(decode, *folders), file="bin/*.cod", restored="*.png")
    )
    assert np.array_equal(codec.decode(codec.encode(photo, "q1")), photo)


def test_programs_that_only_know_both_ways_at_once(photo: images.Picture) -> None:
    """All files they leave count; the restored picture is that of the file at hand, or none."""
    program = "import sys, shutil; i, o = sys.argv[1:]; shutil.copy(i, o + '/x.png'); "
    program += "[open(o + '/part' + n, 'wb').write(b'ab') for n in '12']"
    codec = CommandCodec(template(python(program, "{input}", "{output_folder}"), None, "part*", "*.png"))
    data = codec.encode(photo, "q1")
    assert data == b"abab"
    assert np.array_equal(codec.decode(data), photo)
    with pytest.raises(ImageError, match="no decode command"):
        codec.decode(b"of another run")


@pytest.mark.parametrize(
    ("encode", "message"),
    [
        (python("import sys; sys.exit('no such\\nmodel')"), "ended with status 1: no such model"),
        (python("pass"), "left nothing that matches 'file'"),
        (f"{PYTHON} 'import threading; threading.Event().wait()'", "did not end within 0.5 s"),
        ("/nowhere/program", "/nowhere/program cannot be run: No such file"),
    ],
)
def test_what_programs_do_wrong(encode: str, message: str, photo: images.Picture) -> None:
    limit = 0.5 if "within" in message else 20.0
    codec = CommandCodec(Template("mine", encode, COPY, ("q1",), limit, "", "", None))
    with pytest.raises(ImageError, match=message):
        codec.encode(photo, "q1")


def test_a_pattern_that_is_too_wide(photo: images.Picture) -> None:
    program = "import sys; [open(sys.argv[1] + '/' + n + '.bin', 'w') for n in 'ab']"
    with pytest.raises(ImageError, match="left 2 files"):
        CommandCodec(template(python(program, "{output_folder}"), file="*.bin")).encode(photo, "q1")


def test_a_damaged_picture_is_refused() -> None:
    with pytest.raises(ImageError, match="not a picture"):
        CommandCodec(template(COPY)).decode(b"no picture")


@pytest.mark.parametrize(
    ("broken", "message"),
    [
        (template("prog {inptu}"), "placeholders are input, output"),
        (template("prog 'open"), "No closing quotation"),
        (template("prog {}"), "is no command"),
        (template(""), "an empty command"),
        (template(COPY, None), "`restored` must say"),
        (Template("x", COPY, COPY, (), 1, "", "", None), "setting"),
    ],
)
def test_templates_that_cannot_work(broken: Template, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        commands.create(broken)


def test_what_is_not_installed_is_named() -> None:
    missing = commands.create(template("no-such-program {input} {output}"))
    assert isinstance(missing, UnavailableCodec)
    assert missing.codec == "mine"
    assert missing.reason.startswith("no program no-such-program on the PATH; install it, or name its path")


def test_a_program_in_the_folder_of_its_codec_is_named_by_a_path(
    tmp_path: Path, photo: images.Picture
) -> None:
    """As `subprocess` has it: a bare name is looked for on the PATH alone."""
    program = tmp_path / "prog"
    program.write_text('#!/bin/sh\ncp "$1" "$2"\n')
    program.chmod(0o755)
    there = dataclasses.replace(
        template("./prog {input} {output}", "./prog {input} {output}"), folder=tmp_path
    )
    codec = commands.create(there)
    assert isinstance(codec, CommandCodec)
    assert np.array_equal(codec.decode(codec.encode(photo, "q1")), photo)
    version = codec.version
    program.write_text('#!/bin/sh\ncp -p "$1" "$2"\n')
    assert CommandCodec(there).version != version
    bare = commands.create(dataclasses.replace(there, encode="prog {input} {output}"))
    assert isinstance(bare, UnavailableCodec) and "./prog is one in the codec's folder" in bare.reason
    gone = commands.create(dataclasses.replace(there, decode="./gone {input} {output}"))
    assert isinstance(gone, UnavailableCodec) and gone.reason == f"no program {tmp_path}/gone; put it there"


def test_more_time_is_no_other_version() -> None:
    patient = dataclasses.replace(template(COPY), timeout=6000)
    assert CommandCodec(patient).version == CommandCodec(template(COPY)).version


def test_another_program_or_call_is_another_version(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = tmp_path / "prog"
    monkeypatch.setenv("PATH", str(tmp_path))
    versions = set()
    for content, call in (("a", "prog {input}"), ("b", "prog {input}"), ("b", "prog -x {input}")):
        program.write_text(content)
        program.chmod(0o755)
        versions.add(CommandCodec(template(call)).version)
    assert len(versions) == 3


@pytest.mark.parametrize("path", sorted(EXAMPLES.glob("*.toml")), ids=lambda path: path.stem)
def test_the_examples_can_be_read(path: Path) -> None:
    found = commands.read(path)
    CommandCodec(found)
    assert found.name == path.stem


def test_there_are_examples_of_all_that_the_paper_compares_with() -> None:
    names = {path.stem for path in EXAMPLES.glob("*.toml")}
    assert names >= {"diffeic", "perco", "text-sketch", "vqir", "stablecodec", "cod-lite"}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("name = ", "cannot be read as TOML"),
        ('name = "a"\nencode = "b"', "settings missing"),
        ('name = "a"\nencode = "b"\nsettings = ["1"]\ncomand = "x"', "unknown comand; known are"),
        ('name = "a"\nencode = "b"\nsettings = "1"', "settings must be a list"),
        ('name = "a"\nencode = "b"\nsettings = ["1"]\ntimeout = -1', "timeout a positive number"),
        ('name = "a"\nencode = ["b"]\nsettings = ["1"]', "encode must be text"),
    ],
)
def test_broken_files_are_refused(text: str, message: str, tmp_path: Path) -> None:
    path = tmp_path / "codec.toml"
    path.write_text(text)
    with pytest.raises(ConfigError, match=message):
        commands.read(path)


def test_a_folder_is_relative_to_its_file(tmp_path: Path) -> None:
    path = tmp_path / "codec.toml"
    path.write_text('name = "a"\nencode = "b"\ndecode = "c"\nsettings = [1, "q2"]\nfolder = "repo"')
    found = commands.read(path)
    assert found.folder == tmp_path / "repo" and found.settings == ("1", "q2")

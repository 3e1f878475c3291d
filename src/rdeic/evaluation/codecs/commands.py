"""Other people's programs as codecs: commands with placeholders, given on the command line or in a TOML file."""

from __future__ import annotations

import dataclasses
import hashlib
import os
import re
import shlex
import shutil
import string
import subprocess
import tempfile
import tomllib
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from rdeic.errors import ConfigError, ImageError
from rdeic.evaluation.types import UnavailableCodec
from rdeic.pictures import images
from rdeic.pictures.images import Picture

PLACEHOLDERS = ("input", "output", "input_folder", "output_folder", "setting", "value", "width", "height")
_INPUT = "picture.png"
_KEYS = {"name", "encode", "decode", "settings", "timeout", "file", "restored", "folder"}
_REMEDY = "install it, or name its path: ./prog is one in the codec's folder"
_LAST_WORDS = 300  # characters of a failed program's output


@dataclass(frozen=True)
class Template:
    """How to call the programs. Placeholders are those of PLACEHOLDERS; no shell is involved.

    encode: finds the picture at {input}, alone in {input_folder}, and writes its file to {output}, or to what `file`
        matches below {output_folder}. {setting} is as it stands, {value} is it without leading letters.
    decode: the way back, with the file at {input} and a picture at {output}, or at what `restored` matches.
        None: the program only knows both ways at once, so that `encode` leaves the restored picture as well; the time
        for both then counts as encoding.
    """

    name: str
    encode: str
    decode: str | None
    settings: tuple[str, ...]
    timeout: float  # seconds for each command
    file: str  # pattern; all files that match count, where there is no `decode`; "" for {output}
    restored: str  # pattern; "" for {output}
    folder: Path | None  # where the programs run; "./prog" is one that lies there


class CommandCodec:
    """A codec that runs the commands of a template."""

    def __init__(self, template: Template) -> None:
        """Raises ConfigError for a template that cannot work."""
        _check(template)
        self._template = template
        # What a program without a decoder restored last, for the file that it made: the one exception to the rule
        # that a file alone is enough.
        self._last: tuple[bytes, Picture] | None = None

    @property
    def name(self) -> str:
        """The template's name."""
        return self._template.name

    @property
    def settings(self) -> tuple[str, ...]:
        """The template's settings, smallest files first."""
        return self._template.settings

    @cached_property
    def version(self) -> str:
        """A hash of the template and of the program itself, for there is no telling what has a version."""
        # How long a file may take does not make it another file.
        calls = repr(dataclasses.replace(self._template, timeout=0))
        return fingerprint(self.name, calls, _program(self._template.encode, self._template.folder))

    @property
    def timeout(self) -> float:
        """Enough for both commands, which have limits of their own."""
        return 2 * self._template.timeout + 60

    def prepare(self) -> None:
        """Nothing stays loaded between calls of a program."""

    def encode(self, picture: Picture, setting: str) -> bytes:
        """Raises ImageError if the program fails, takes too long or leaves no file."""
        with tempfile.TemporaryDirectory(prefix="rdeic-") as folder:
            source, target = _places(Path(folder))
            images.write(picture, source / _INPUT, "png")
            given = self._values(source / _INPUT, target / "file", setting, picture)
            self._run(self._template.encode, given)
            if self._template.decode is not None:
                return _only(target, self._template.file or "file").read_bytes()
            data = b"".join(path.read_bytes() for path in _matches(target, self._template.file or "file"))
            restored = images.read(_only(target, self._template.restored))
            self._last = data, restored
            return data

    def decode(self, data: bytes) -> Picture:
        """Raises ImageError if the program fails, takes too long or leaves no picture."""
        if self._template.decode is None:
            if self._last is None or self._last[0] != data:
                raise ImageError(f"{self.name} has no decode command, and this is not the file it made last")
            return self._last[1]
        with tempfile.TemporaryDirectory(prefix="rdeic-") as folder:
            source, target = _places(Path(folder))
            name = Path(self._template.file or "file").name.replace("*", "picture")
            (source / name).write_bytes(data)
            given = self._values(source / name, target / _INPUT, "", None)
            self._run(self._template.decode, given)
            return images.read(_only(target, self._template.restored or _INPUT))

    def _values(self, source: Path, target: Path, setting: str, picture: Picture | None) -> dict[str, str]:
        height, width = ("", "") if picture is None else map(str, picture.shape[:2])
        value = setting.lstrip(string.ascii_letters)
        places = str(source), str(target), str(source.parent), str(target.parent)
        return dict(zip(PLACEHOLDERS, (*places, setting, value, width, height), strict=True))

    def _run(self, command: str, values: dict[str, str]) -> None:
        words = [word.format(**values) for word in shlex.split(command)]
        call(words, self._template.timeout, self._template.folder)


def call(words: list[str], limit: float, folder: Path | None) -> str:
    """Runs a program in `folder` -> what it printed. Raises ImageError if it fails or takes over `limit` seconds."""
    try:
        done = subprocess.run(words, capture_output=True, stdin=subprocess.DEVNULL, timeout=limit, cwd=folder)
    except subprocess.TimeoutExpired as error:
        raise ImageError(f"{words[0]} did not end within {limit:g} s") from error
    except OSError as error:
        raise ImageError(f"{words[0]} cannot be run: {error.strerror or error}") from error
    if done.returncode:
        text = " ".join((done.stderr or done.stdout).decode(errors="replace").split())[-_LAST_WORDS:]
        raise ImageError(f"{words[0]} ended with status {done.returncode}: {text or 'it said nothing'}")
    return done.stdout.decode(errors="replace")


def fingerprint(name: str, calls: str, program: str) -> str:
    """Name and hash of a program and of how it is called: there is no telling what has a version."""
    path = Path(shutil.which(program) or "")
    content = path.read_bytes() if path.is_file() else b""
    return f"{name} by {path.name} ({hashlib.sha256(calls.encode() + content).hexdigest()[:8]})"


def check_parameters(name: str, settings: tuple[str, ...], highest: int) -> None:
    """Raises ConfigError for a setting that is none of "q0" to `highest`, a codec's quantisation parameters."""
    for setting in settings:
        if not re.fullmatch(r"q\d{1,2}", setting) or int(setting[1:]) > highest:
            raise ConfigError(f"{name} has no setting {setting!r}: choose from q0 to q{highest}")


def create(template: Template) -> CommandCodec | UnavailableCodec:
    """The codec, or what is missing for it. Raises ConfigError for a template that cannot work."""
    codec = CommandCodec(template)
    if template.folder is not None and not template.folder.is_dir():
        return UnavailableCodec(template.name, f"no folder {template.folder}; put the program there")
    for command in _commands(template):
        program = _program(command, template.folder)
        if shutil.which(program) is None:
            place, remedy = ("", "put it there") if os.path.dirname(program) else (" on the PATH", _REMEDY)
            return UnavailableCodec(template.name, f"no program {program}{place}; {remedy}")
    return codec


def read(path: Path) -> Template:
    """A template from a TOML file; `folder` is relative to that file. Raises ConfigError."""
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ConfigError(f"{path}: cannot be read as TOML: {error}") from error
    if unknown := content.keys() - _KEYS:
        raise ConfigError(
            f"{path}: unknown {', '.join(sorted(unknown))}; known are {', '.join(sorted(_KEYS))}"
        )
    if missing := {"name", "encode", "settings"} - content.keys():
        raise ConfigError(f"{path}: {', '.join(sorted(missing))} missing")
    settings, timeout = content["settings"], content.get("timeout", 600)
    if not isinstance(settings, list) or not isinstance(timeout, int | float) or timeout <= 0:
        raise ConfigError(f"{path}: settings must be a list, timeout a positive number of seconds")
    texts = {name: content.get(name) for name in _KEYS - {"settings", "timeout"}}
    if wrong := [name for name, text in texts.items() if not isinstance(text, str | None)]:
        raise ConfigError(f"{path}: {', '.join(sorted(wrong))} must be text")
    folder = texts["folder"]
    return Template(
        name=content["name"],
        encode=content["encode"],
        decode=texts["decode"],
        settings=tuple(map(str, settings)),
        timeout=float(timeout),
        file=texts["file"] or "",
        restored=texts["restored"] or "",
        folder=None if folder is None else (path.parent / folder).resolve(),
    )


def _program(command: str, folder: Path | None) -> str:
    """The program as `shutil.which` finds what `subprocess` will run: a name, or a path, which starts in `folder`."""
    program = shlex.split(command)[0]
    return str(folder / program) if folder is not None and os.path.dirname(program) else program


def _commands(template: Template) -> list[str]:
    return [template.encode] if template.decode is None else [template.encode, template.decode]


def _check(template: Template) -> None:
    if not template.name or not template.settings:
        raise ConfigError("a codec of commands needs a name and at least one setting")
    for command in _commands(template):
        try:
            words = [word.format(**dict.fromkeys(PLACEHOLDERS, "x")) for word in shlex.split(command)]
        except (KeyError, IndexError, ValueError) as error:
            raise ConfigError(
                f"{template.name}: {command!r} is no command ({error}); placeholders are {', '.join(PLACEHOLDERS)}"
            ) from error
        if not words:
            raise ConfigError(f"{template.name}: an empty command")
    if template.decode is None and not template.restored:
        raise ConfigError(
            f"{template.name}: without decode, `restored` must say where encode leaves the picture"
        )


def _places(folder: Path) -> tuple[Path, Path]:
    """Folders for what a program reads and what it writes."""
    source, target = folder / "in", folder / "out"
    source.mkdir()
    target.mkdir()
    return source, target


def _matches(folder: Path, pattern: str) -> list[Path]:
    found = sorted(path for path in folder.glob(pattern) if path.is_file())
    if not found:
        raise ImageError(f"the program left nothing that matches {pattern!r}")
    return found


def _only(folder: Path, pattern: str) -> Path:
    found = _matches(folder, pattern)
    if len(found) > 1:
        raise ImageError(
            f"the program left {len(found)} files that match {pattern!r}; make the pattern narrower"
        )
    return found[0]

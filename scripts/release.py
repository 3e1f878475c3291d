"""Build sdist and wheel, look into both, and try the wheel in a clean environment of each Python from 3.11 to 3.14.

    python scripts/release.py                      # as `make dist` does
    python scripts/release.py --python 3.12        # only this one
    python scripts/release.py --any-torch          # with a build for CUDA, too, where no build for CPUs is to be had

The wheel is made from the sdist. In each environment, with the versions of constraints.txt: version, a photograph
there and back, `rdeic doctor`, and the time of `import rdeic`. A Python that is not on this machine, or has no torch,
is named and not tried; the exit status is 1 if one fails or none was tried.
"""

from __future__ import annotations

import argparse
import collections
import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
import urllib.error
import urllib.request
import zipfile
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

import rdeic

ROOT = Path(__file__).resolve().parents[1]
DIST = ROOT / "dist"
PHOTO = ROOT / "examples" / "kodim23.png"
VERSIONS = ("3.11", "3.12", "3.13", "3.14")
TORCH_INDEX = "https://download.pytorch.org/whl/cpu"
_IMPORT_LIMIT = 0.1  # seconds
_RUNS = 5  # of the import; the best counts, for other programs only ever add
_LONGEST = 1800  # seconds, of any program
_IN_SDIST = (
    "src",
    "tests",
    "docs",
    "scripts",
    "benchmarks",
    "configs",
    "examples",
    "CHANGELOG.md",
    "CITATION.cff",
)
_IN_WHEEL = ("rdeic/weights/mini/model.safetensors", "rdeic/weights/mini/LICENSE", "share/man/man1/rdeic.1")

_THERE_AND_BACK = """\
import json, sys
import numpy as np, torch
from PIL import Image
import rdeic
a, b = (np.asarray(Image.open(path).convert("RGB")).astype(float) for path in sys.argv[1:])
mse = np.mean((a - b) ** 2)
print(json.dumps({"psnr": 10 * np.log10(255**2 / mse), "torch": torch.__version__, "home": rdeic.__file__}))
"""
_IMPORT = "import time; begun = time.perf_counter(); import rdeic; print(time.perf_counter() - begun)"


class FailedError(Exception):
    """What is wrong, in a line."""


class LeftOutError(Exception):
    """Why a Python is not tried."""


class Built(NamedTuple):
    sdist: Path
    wheel: Path


def build() -> Built:
    """Both, in dist/. Raises FailedError."""
    for old in DIST.glob("rdeic-*"):
        old.unlink()
    _run([sys.executable, "-m", "build", "--no-isolation", "--outdir", str(DIST), str(ROOT)])
    stem = f"rdeic-{rdeic.__version__}"
    return Built(DIST / f"{stem}.tar.gz", DIST / f"{stem}-py3-none-any.whl")


def look_into(built: Built) -> list[str]:
    """What is in the two, in lines. Raises FailedError for what should not be there, or is missing."""
    with tarfile.open(built.sdist) as archive:
        files = {one.name.partition("/")[2]: one.size for one in archive.getmembers() if one.isfile()}
    with zipfile.ZipFile(built.wheel) as wheel:
        names = wheel.namelist()
    tops: collections.Counter[str] = collections.Counter()
    for name, size in files.items():
        tops[name.partition("/")[0]] += size
    check_sdist(tops)
    check_wheel(names)
    parts = ", ".join(f"{top} {size / 1e6:.1f} MB" for top, size in tops.most_common() if size >= 5e4)
    small = ", ".join(sorted(top for top, size in tops.items() if size < 5e4))
    return [
        f"{built.sdist.name}: {built.sdist.stat().st_size / 1e6:.1f} MB; unpacked {parts}; below 0.05 MB: {small}",
        f"{built.wheel.name}: {built.wheel.stat().st_size / 1e6:.1f} MB; {len(names)} files: package, manual page",
    ]


def check_sdist(tops: Iterable[str]) -> None:
    """Raises FailedError for what a reader of the sources would miss."""
    missing = sorted(set(_IN_SDIST) - set(tops))
    if missing:
        raise FailedError(f"the sdist lacks {', '.join(missing)}; see [tool.hatch.build.targets.sdist]")


def check_wheel(names: Iterable[str]) -> None:
    """Raises FailedError for files that are no part of the program, and for missing ones."""
    names = list(names)
    wanted = re.compile(r"rdeic/.*|rdeic-[^/]*\.dist-info/.*|rdeic-[^/]*\.data/data/share/man/man1/rdeic\.1")
    # Those of the server's page are part of the program.
    pictures = re.compile(r"(?!rdeic/serve/assets/).*\.(png|jpe?g|webp|avif|rdeic)")
    stray = [name for name in names if not wanted.fullmatch(name) or pictures.fullmatch(name)]
    missing = [end for end in _IN_WHEEL if not any(name.endswith(end) for name in names)]
    if stray or missing:
        raise FailedError(
            f"the wheel holds {stray[:5] or 'nothing'} that it should not, and lacks {missing or 'nothing'}"
        )


def find_python(version: str) -> Path | None:
    """A Python of that version that runs: on the PATH, pyenv's or uv's; None if there is none."""
    pyenv = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv"))
    uv = Path(os.environ.get("UV_PYTHON_INSTALL_DIR", Path.home() / ".local/share/uv/python"))
    places = [*pyenv.glob(f"versions/{version}.*/bin"), *uv.glob(f"cpython-{version}.*/bin")]
    for place in (None, *map(str, sorted(places, reverse=True))):
        found = shutil.which(f"python{version}", path=place)
        if found and _version_of(found).startswith(f"{version}."):
            return Path(found)
    return None


def _version_of(python: str) -> str:
    """Empty if it does not run, as the stand-ins of pyenv for what is not chosen do not."""
    program = "import platform, venv; print(platform.python_version())"
    done = subprocess.run([python, "-c", program], capture_output=True, text=True, check=False)
    return done.stdout.strip() if done.returncode == 0 else ""


class Torch(NamedTuple):
    """Where torch comes from."""

    url: str | None  # of an index besides pip's own
    any_build: bool


def reachable(index: str) -> str | None:
    """The index, if it answers."""
    try:
        with urllib.request.urlopen(f"{index}/torch/", timeout=10):
            return index
    except (urllib.error.URLError, OSError):
        return None


def try_wheel(wheel: Path, python: Path, torch: Torch, place: Path) -> str:
    """Installs and uses the wheel in a new environment in `place`, and says what it saw.

    Raises FailedError if it does not work, LeftOutError if it cannot be tried.
    """
    place.mkdir()
    _run([str(python), "-m", "venv", "env"], place)
    here = place / "env" / "bin" / "python"
    pip = [str(here), "-m", "pip", "install", "--quiet", "--constraint", str(ROOT / "constraints.txt")]
    if torch.url:
        pip += ["--extra-index-url", torch.url]
    build = _torch_build([*pip, "--dry-run", "--no-deps", "--report", "-", "torch"], place)
    if sys.platform == "linux" and not build.endswith("+cpu") and not torch.any_build:
        raise LeftOutError(f"pip finds torch {build} only, no build for CPUs (--any-torch tries that)")
    _run([*pip, str(wheel)], place)
    return _use(here, place)


def _torch_build(command: list[str], place: Path) -> str:
    """The version of torch that pip would take. Raises LeftOutError."""
    try:
        report = json.loads(_run(command, place))
    except FailedError as error:
        raise LeftOutError(f"torch is not to be had: {error}") from error
    return str(report["install"][0]["metadata"]["version"])


def _use(python: Path, place: Path) -> str:
    program = str(python.with_name("rdeic"))
    said = _run([program, "--version"], place).strip()
    if said != f"rdeic {rdeic.__version__}":
        raise FailedError(f"rdeic --version says {said!r}")
    _run([program, "compress", str(PHOTO), "-o", "photo.rdeic"], place)
    _run([program, "decompress", "photo.rdeic", "-o", "photo.png"], place)
    found = json.loads(_run([str(python), "-c", _THERE_AND_BACK, str(PHOTO), "photo.png"], place))
    if not Path(found["home"]).is_relative_to(place):
        raise FailedError(f"another rdeic was tried: {found['home']}")
    if found["psnr"] < 20:
        raise FailedError(f"the photograph came back at {found['psnr']:.1f} dB")
    _run([program, "doctor"], place)
    seconds = min(float(_run([str(python), "-c", _IMPORT], place)) for _ in range(_RUNS))
    if seconds >= _IMPORT_LIMIT:
        raise FailedError(f"import rdeic takes {seconds:.3f} s, {_IMPORT_LIMIT} s or more")
    size = (place / "photo.rdeic").stat().st_size
    return (
        f"rdeic {rdeic.__version__}, torch {found['torch']}, {size} bytes, {found['psnr']:.2f} dB, doctor sound, "
        f"import in {seconds:.3f} s"
    )


def _run(command: list[str], place: Path | None = None) -> str:
    """Its stdout; nothing of this process's Python or models reaches it. Raises FailedError with its last line."""
    kept = {
        key: value
        for key, value in os.environ.items()
        if not key.startswith(("PYTHON", "RDEIC", "VIRTUAL_ENV"))
    }
    done = subprocess.run(
        command, cwd=place, env=kept, capture_output=True, text=True, check=False, timeout=_LONGEST
    )
    if done.returncode:
        said = (done.stdout + done.stderr).split("\n")
        last = next((line for line in reversed(said) if line.strip()), "nothing said")
        raise FailedError(f"{' '.join(command[:6])} ... ended with {done.returncode}: {last}")
    return done.stdout


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--python", action="append", choices=VERSIONS, help="try this one only; repeatable")
    parser.add_argument("--torch-index", default=TORCH_INDEX, help="where builds of torch for CPUs are")
    parser.add_argument("--any-torch", action="store_true", help="take a build for CUDA if there is no other")
    options = parser.parse_args()
    try:
        built = build()
        print("\n".join(look_into(built)), flush=True)
    except FailedError as error:
        sys.exit(f"release: {error}")
    torch = Torch(reachable(options.torch_index), options.any_torch)
    if torch.url is None:
        print(f"{options.torch_index} does not answer: torch comes from pip's own indexes", flush=True)
    outcomes = [_outcome(version, built.wheel, torch) for version in options.python or VERSIONS]
    if "FAILED" in outcomes or "ok" not in outcomes:
        sys.exit(1)


def _outcome(version: str, wheel: Path, torch: Torch) -> str:
    """Said in a line, and its first word returned: ok, FAILED, or "not tried"."""
    python = find_python(version)
    if python is None:
        outcome, said = "not tried", f"no python{version} on the PATH, of pyenv or of uv"
    else:
        with tempfile.TemporaryDirectory() as place:
            try:
                outcome, said = "ok", try_wheel(wheel, python, torch, Path(place, "clean").resolve())
            except LeftOutError as error:
                outcome, said = "not tried", str(error)
            except (FailedError, subprocess.TimeoutExpired, OSError) as error:
                outcome, said = "FAILED", str(error)
    print(f"Python {version}: {outcome}: {said}", flush=True)
    return outcome


if __name__ == "__main__":
    main()

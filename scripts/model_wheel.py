"""Build a wheel from a model folder, so that files of that model can be read beside any other: `pip install` it.

    python scripts/model_wheel.py mini                     # the embedded one: dist/rdeic_model_mini_c0f58063-1.0-...whl
    python scripts/model_wheel.py runs/mini/critics/model --licence LICENSE.weights -o dist

The wheel is called after the model and the 4 bytes of its weights by which files name it, and holds the folder's own
files, a licence and no code: rdeic finds it by the entry point group `rdeic.models` and imports nothing of it. Other
weights have another name, so the version (--version) counts only how often the same weights were packaged anew.
"""

from __future__ import annotations

import argparse
import json
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import NamedTuple

from rdeic.checkpoints import model_wheels, registry
from rdeic.errors import ConfigError, RdeicError

LICENCE = "LICENSE"
_NAME = re.compile(r"[A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?")
_SPDX = re.compile(r"SPDX-License-Identifier: (.+)")
_INDEX_LIMIT = 100e6  # bytes of a file that PyPI takes

_PROJECT = """\
[build-system]
requires = ["hatchling>=1.27"]
build-backend = "hatchling.build"

[project]
name = {name}
version = {version}
description = {description}
readme = "README.md"
license-files = ["LICENSE"]
requires-python = ">=3.11"
keywords = ["rdeic", "image compression", "weights"]
{licence}
[project.entry-points."{group}"]
{entry} = {package}

[tool.hatch.build.targets.wheel]
packages = [{package}]

[tool.hatch.build.targets.wheel.force-include]
{files}
"""

_README = """\
# {distribution}

The weights `{model}` of fingerprint `{fingerprint}` for [rdeic](https://pypi.org/project/rdeic/). With this wheel
installed, rdeic restores the files that were made with them, whatever weights it embeds itself; `rdeic models` lists
them, and `--model {model}-{fingerprint}` compresses with them. There is no code in here.

## Licence of the weights

```
{licence}
```
"""


class Model(NamedTuple):
    """What goes into a wheel."""

    folder: Path
    name: str
    fingerprint: bytes  # of its lowest rate, where there are several
    licence: Path

    @property
    def distribution(self) -> str:
        return model_wheels.distribution_name(self.name, self.fingerprint)

    @property
    def package(self) -> str:
        return self.distribution.replace("-", "_")


def look(model: str, name: str | None, licence: Path | None) -> Model:
    """The model of a name or folder. Raises ConfigError, also where no licence says what may be done with it."""
    folder = registry.find(model)
    called = name or registry.describe(folder).config.name
    if not _NAME.fullmatch(called):
        raise ConfigError(
            f"{called!r} is no name for a wheel: take letters, digits, and - . _ between them (--name)"
        )
    licence = licence or folder / LICENCE
    if not licence.is_file():
        raise ConfigError(
            f"{licence} is missing: say in it what may be done with the weights, or name it: --licence FILE"
        )
    return Model(folder, called, registry.fingerprint(registry.rates(folder)[0]), licence)


def files(folder: Path) -> list[Path]:
    """All that belongs to a model, relative to its folder. Raises ConfigError for a broken one."""
    found: set[Path] = set()
    for place in {folder, *registry.rates(folder)}:
        named = (registry.CONFIG_FILE, registry.RATES_FILE, registry.INDEX_FILE)
        found |= {path for path in (place / one for one in named) if path.is_file()}
    for rate in registry.rates(folder):
        found |= set(registry.weight_files(rate))
    return sorted({path.resolve().relative_to(folder.resolve()) for path in found})


def build(model: Model, version: str, out: Path) -> Path:
    """The wheel, in the folder `out`, byte for byte the same every time. Raises ConfigError where hatchling refuses."""
    with tempfile.TemporaryDirectory() as place:
        _write_project(model, version, Path(place))
        command = [sys.executable, "-m", "hatchling", "build", "--target", "wheel", "--directory", "built"]
        done = subprocess.run(command, cwd=place, capture_output=True, text=True, check=False)
        if done.returncode:
            said = (done.stderr.strip() or done.stdout).splitlines()[-1]
            raise ConfigError(f"{model.distribution} {version} cannot be built: {said}")
        (wheel,) = Path(place, "built").glob("*.whl")
        out.mkdir(parents=True, exist_ok=True)
        return Path(shutil.move(wheel, out / wheel.name))


def _write_project(model: Model, version: str, place: Path) -> None:
    text = model.licence.read_text(encoding="utf-8")
    spdx = _SPDX.match(text)
    fingerprint = model.fingerprint.hex()
    inside = {
        str(model.folder.resolve() / one): f"{model.package}/{model.name}/{one.as_posix()}"
        for one in files(model.folder)
    }
    inside[str(model.licence.resolve())] = (
        f"{model.package}/{model.name}/{LICENCE}"  # a copied folder keeps it
    )
    project = _PROJECT.format(
        name=json.dumps(model.distribution),
        version=json.dumps(version),
        description=json.dumps(f"Weights of the model {model.name}, fingerprint {fingerprint}, for rdeic"),
        licence=f"license = {json.dumps(spdx[1].strip())}\n" if spdx else "",
        group=model_wheels.GROUP,
        entry=json.dumps(f"{model.name}-{fingerprint}"),
        package=json.dumps(model.package),
        files="\n".join(f"{json.dumps(path)} = {json.dumps(target)}" for path, target in inside.items()),
    )
    (place / "pyproject.toml").write_text(project, encoding="utf-8")
    readme = _README.format(
        distribution=model.distribution, model=model.name, fingerprint=fingerprint, licence=text.strip()
    )
    (place / "README.md").write_text(readme, encoding="utf-8")
    (place / LICENCE).write_text(text, encoding="utf-8")
    (place / model.package).mkdir()
    module = (
        f'"""Weights of {model.name}, fingerprint {fingerprint}; rdeic reads the files beside this one."""\n'
    )
    (place / model.package / "__init__.py").write_text(module, encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("model", help="name of an installed model, or a model folder")
    parser.add_argument("--name", help="in the wheel; default: the one in config.json")
    parser.add_argument("--version", default="1.0", help="of the packaging, not of the weights")
    parser.add_argument("--licence", type=Path, help=f"of the weights; default: {LICENCE} in the folder")
    parser.add_argument("-o", "--out", type=Path, default=Path("dist"))
    arguments = parser.parse_args()
    try:
        model = look(arguments.model, arguments.name, arguments.licence)
        wheel = build(model, arguments.version, arguments.out)
    except (RdeicError, OSError) as error:
        sys.exit(f"model_wheel: {error}")
    size = wheel.stat().st_size
    print(f"{wheel}: {size / 1e6:.1f} MB; pip install {wheel}")
    if size > _INDEX_LIMIT:
        print(
            f"above the {_INDEX_LIMIT / 1e6:.0f} MB that PyPI takes unasked: serve it from an index of your own"
        )


if __name__ == "__main__":
    main()

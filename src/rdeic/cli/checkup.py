"""`rdeic doctor`: everything is tried, whatever else is wrong."""

from __future__ import annotations

import functools
import importlib.metadata
import json
import os
import platform
import re
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import typer

from rdeic.checkpoints import registry
from rdeic.cli.console import say
from rdeic.errors import RdeicError, VerifyError

_REQUIREMENT = re.compile(r"""([\w.-]+)[^;]*(?:;.*extra\s*==\s*['"]([\w-]+)['"])?""")
_DEVELOPERS = ("dev", "fuzz", "parity")  # extras that nobody needs to use rdeic
_WIDTH, _HEIGHT = 192, 128  # of the self-test's picture
_FAR = 60  # mean difference of a restored picture from the original, of 255, that no working model makes
_REINSTALL = "pip install --force-reinstall rdeic"


class Finding(NamedTuple):
    """One line of the checkup."""

    part: str  # versions, extras, devices, models, self-test
    name: str
    found: str
    remedy: str = ""  # what to do about it; "" if nothing is wrong


def doctor(device: str | None, as_json: bool) -> None:
    """Prints what is found, on stdout. Raises typer.Exit(1) if something is wrong."""
    parts = (_versions, _extras, _devices, _models, functools.partial(_self_test, device))
    findings = [finding for part in parts for finding in part()]
    wrong = [finding for finding in findings if finding.remedy]
    if as_json:
        say(json.dumps({"sound": not wrong, "findings": [one._asdict() for one in findings]}), sys.stdout)
    else:
        for finding in findings:
            say(f"{'WRONG' if finding.remedy else 'ok   '}  {_line(finding)}", sys.stdout)
        for finding in wrong:
            say(f"to mend {finding.part} {finding.name}: {finding.remedy}", sys.stdout)
    if wrong:
        raise typer.Exit(1)


def _line(finding: Finding) -> str:
    return f"{finding.part:9}  {finding.name}: {finding.found}"


def _tried(part: str, name: str, look: Callable[[], str], remedy: str) -> Finding:
    """What `look` finds; a finding too if it fails. `remedy` is for errors of ours: others mean a broken package."""
    try:
        return Finding(part, name, look())
    except RdeicError as error:
        return Finding(part, name, str(error), remedy)
    except Exception as error:  # of broken installations, anything
        return Finding(part, name, f"{type(error).__name__}: {' '.join(str(error).split())}", _REINSTALL)


def _versions() -> Iterator[Finding]:
    import rdeic

    yield Finding("versions", "rdeic", f"{rdeic.__version__} in {Path(rdeic.__file__).parent}")
    system = f"{platform.system()} {platform.release()} {platform.machine()}"
    yield Finding("versions", "Python", f"{platform.python_version()} {sys.executable}, {system}")
    for package, extra in _requirements():
        if not extra:
            version = _installed(package)
            remedy = "" if version else f"python -m pip install {package}"
            yield Finding("versions", package, version or "not installed", remedy)


def _extras() -> Iterator[Finding]:
    """Optional packages; none that is missing is wrong."""
    for extra in sorted({extra for _, extra in _requirements()} - {"", *_DEVELOPERS}):
        packages = [package for package, of in _requirements() if of == extra]
        there = {package: _installed(package) for package in packages}
        missing = [package for package, version in there.items() if version is None]
        if missing:
            found = f"not installed: {', '.join(missing)} (pip install 'rdeic[{extra}]')"
        else:
            found = ", ".join(f"{package} {version}" for package, version in there.items())
        yield Finding("extras", extra, found)


def _requirements() -> list[tuple[str, str]]:
    """(package, extra that it is for or "") of all that this distribution names; none where it was never installed."""
    try:
        lines = importlib.metadata.requires("rdeic") or []
    except importlib.metadata.PackageNotFoundError:
        return []
    matches = (_REQUIREMENT.match(line) for line in lines)
    return [(match[1], match[2] or "") for match in matches if match]


def _installed(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _devices() -> Iterator[Finding]:
    names: list[str] = []
    looked = _tried("devices", "torch", lambda: _find_devices(names), _REINSTALL)
    if looked.remedy:
        yield looked._replace(remedy="install torch again: https://pytorch.org/get-started/locally")
    for name in names:
        yield _tried("devices", name, functools.partial(_described, name), "choose another with --device")


def _find_devices(names: list[str]) -> str:
    from rdeic.system import devices

    names += devices.there()
    return ", ".join(names)


def _described(name: str) -> str:
    from rdeic.system import devices

    chosen, default = devices.choose(name), devices.choose(None)
    can = devices.remark(chosen) or "can do everything"
    threads = f", {os.cpu_count()} cores" if chosen.type == "cpu" else ""
    return f"{can}{threads}{', used by default' if chosen.type == default.type else ''}"


def _models() -> Iterator[Finding]:
    named = os.environ.get(registry.MODELS_VARIABLE)
    if named and not Path(named).is_dir():
        remedy = f"set {registry.MODELS_VARIABLE} to a folder of model folders, or unset it"
        yield Finding("models", registry.MODELS_VARIABLE, f"{named} is no folder", remedy)
    for folder in registry.folders():
        remedy = f"replace {folder} by a sound copy, or remove it"
        yield _tried("models", folder.name, functools.partial(_fitting, folder), remedy)
    for wheel in registry.hollow():
        remedy = f"pip install --force-reinstall {wheel.distribution}, or uninstall it"
        yield Finding("models", wheel.distribution, f"{wheel.version} holds no model", remedy)


def _fitting(folder: Path) -> str:
    from rdeic.checkpoints import checkpoints

    rates = registry.rates(folder)
    for rate in rates:
        checkpoints.check(rate)
    prints = ", ".join(registry.fingerprint(rate).hex() for rate in rates)
    return f"{prints}, {registry.describe(folder).weight_bytes / 1e6:.1f} MB, weights fit, {folder}"


def _self_test(device: str | None) -> Iterator[Finding]:
    name = f"{_WIDTH}x{_HEIGHT} there and back"
    remedy = "see what is wrong above; otherwise try --device cpu, and " + _REINSTALL
    yield _tried("self-test", name, functools.partial(_there_and_back, device), remedy)


def _there_and_back(device: str | None) -> str:
    """Raises VerifyError, or what the codec raises."""
    import numpy as np

    from rdeic.codec.codec import load
    from rdeic.evaluation.bench.times import synthetic

    begun = time.perf_counter()
    codec, picture = load(device=device), synthetic(_WIDTH, _HEIGHT)[0].picture
    blob = codec.compress(picture, verify=True)  # raises unless every bit decodes to what was meant
    restored = np.asarray(codec.decompress(blob))
    seconds = time.perf_counter() - begun
    far = float(np.abs(restored.astype(float) - picture).mean())
    if restored.shape != picture.shape or far > _FAR:
        raise VerifyError(f"the restored picture is {far:.0f} levels from the original: not the same picture")
    return f"{len(blob)} bytes, every bit decodes, {far:.1f} levels of 255 apart, {seconds:.1f} s on {codec.device}"

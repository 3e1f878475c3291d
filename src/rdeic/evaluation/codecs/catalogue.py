"""Codecs by name: `avif`, `avif/2` at half the size, `webp:q0,q10` at settings of one's own, `my.toml`."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path
from typing import NamedTuple

from rdeic.errors import ConfigError
from rdeic.evaluation.codecs import commands, learned, own, pillow, vvc
from rdeic.evaluation.codecs.commands import Template
from rdeic.evaluation.codecs.downscaled import Downscaled
from rdeic.evaluation.types import Codec, UnavailableCodec

OWN = "rdeic"
BPG = Template(
    name="bpg",
    encode="bpgenc -m 9 -q {value} -o {output} {input}",
    decode="bpgdec -o {output} {input}",
    settings=("q51", "q48", "q45", "q42", "q39"),
    timeout=600,
    file="",
    restored="",
    folder=None,
)
NAMES = (OWN, *pillow.FORMATS, BPG.name, "vvc", *learned.NAMES)
_TOML = ".toml"
_HIGHEST_BPG = 51  # QP
_FACTORS = range(2, 9)


class Options(NamedTuple):
    """What holds for several codecs."""

    models: tuple[str, ...]  # installed models or model folders, of which OWN makes a codec each
    own_settings: tuple[str, ...]  # of theirs; none: the default ones
    device: str | None  # for them; None: the first GPU, or else the CPU
    timeout: float  # seconds a picture may take, where the codec has no limit of its own


class _Wanted(NamedTuple):
    name: str
    factor: int  # 1: full size
    settings: tuple[str, ...]


def create(wanted: str, options: Options) -> list[Codec | UnavailableCodec]:
    """The codecs that `NAME[/FACTOR][:SETTING,...]` or the path of a TOML file stands for.

    Raises ConfigError for an unknown name and a setting that the codec does not have.
    """
    if wanted.endswith(_TOML):
        return [commands.create(commands.read(Path(wanted)))]
    name, factor, settings = _parse(wanted)
    if name == OWN:
        chosen = settings or options.own_settings
        made: list[Codec | UnavailableCodec] = [
            own.create(model, chosen, options.device, options.timeout) for model in options.models
        ]
    elif name in pillow.FORMATS:
        made = [pillow.create(name, settings, options.timeout)]
    elif name == BPG.name:
        commands.check_parameters(name, settings, _HIGHEST_BPG)
        template = dataclasses.replace(BPG, settings=settings or BPG.settings, timeout=options.timeout)
        made = [commands.create(template)]
    elif name == "vvc":
        made = [vvc.create(settings, options.timeout)]
    else:
        made = [learned.create(name, settings, options.timeout)]
    return [_downscaled(one, factor) for one in made]


def _downscaled(codec: Codec | UnavailableCodec, factor: int) -> Codec | UnavailableCodec:
    if factor == 1:
        return codec
    if isinstance(codec, UnavailableCodec):
        return codec._replace(codec=f"{codec.codec}/{factor}")
    return Downscaled(codec, factor)


def _parse(wanted: str) -> _Wanted:
    found = re.fullmatch(r"([\w-]+)(?:/(\d+))?(?::([^:]+))?", wanted)
    if found is None or found[1] not in NAMES:
        raise ConfigError(f"no codec {wanted!r}: choose from {', '.join(NAMES)}, or name a {_TOML} file")
    factor = int(found[2] or 1)
    if factor != 1 and factor not in _FACTORS:
        raise ConfigError(f"{wanted}: scale down by {_FACTORS.start} to {_FACTORS.stop - 1}")
    return _Wanted(found[1], factor, tuple(filter(None, (found[3] or "").split(","))))

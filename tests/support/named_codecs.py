"""Codecs by name."""

from __future__ import annotations

from pathlib import Path

import pytest

from rdeic.evaluation.codecs import catalogue
from rdeic.evaluation.codecs.catalogue import Options
from rdeic.evaluation.types import Codec, UnavailableCodec


def made(name: str, options: Options) -> Codec:
    (codec,) = catalogue.create(name, options)
    assert not isinstance(codec, UnavailableCodec), codec.reason
    return codec


@pytest.fixture
def options(tiny_folder: Path) -> Options:
    return Options(models=(str(tiny_folder),), own_settings=(), device="cpu", timeout=60)

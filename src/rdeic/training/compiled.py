"""The networks of a stage translated by torch.compile, which fuses what lies between matrix products."""

from __future__ import annotations

import contextlib
import importlib.util
import os
import shutil
from collections.abc import Sequence
from contextlib import AbstractContextManager

import torch
from torch import nn

from rdeic.errors import ConfigError

BACKEND = "inductor"
COMPILERS = ("c++", "g++", "clang++", "cc", "gcc", "clang")


def compile_networks(networks: Sequence[nn.Module]) -> None:
    """Makes calls of these networks run translated; the first in training takes a minute or more.

    Names of parameters do not change. Shapes are taken as fixed: every batch of a run has the same.
    """
    for network in networks:
        network.compile(backend=BACKEND, dynamic=False)


def untranslated(compiled: bool) -> AbstractContextManager[object]:
    """Inside the `with` block networks run as they are written: other shapes and modes are not worth a translation."""
    return torch.compiler.set_stance("force_eager") if compiled else contextlib.nullcontext()


def require_compiler(device: torch.device) -> None:
    """Raises ConfigError unless this machine has what a translation for `device` needs."""
    lacking = []
    if not any(map(shutil.which, filter(None, (os.environ.get("CXX"), os.environ.get("CC"), *COMPILERS)))):
        lacking.append("a C++ compiler")
    if device.type == "cuda" and importlib.util.find_spec("triton") is None:
        lacking.append("the package triton")
    if lacking:
        raise ConfigError(
            f"compile = true needs {' and '.join(lacking)} here, and there is none; install it, or set compile = false"
        )

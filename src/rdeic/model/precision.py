"""The floating-point format that networks compute in, where the caller leaves the choice open.

This never concerns the networks that make and read bits: those are exact whatever is chosen here.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from rdeic.errors import ConfigError

if TYPE_CHECKING:
    import torch

AUTO = "auto"
PRECISIONS = (AUTO, "fp32", "bf16", "fp16")
_NATIVE = ("avx512_bf16", "amx_bf16", "sve_bf16")  # the last of server Arm, for which torch has kernels


def check(name: str) -> str:
    """`name` itself. Raises ConfigError unless it is one of PRECISIONS."""
    if name not in PRECISIONS:
        raise ConfigError(f"precision {name!r} is none of {', '.join(PRECISIONS)}")
    return name


def asked(name: str) -> torch.dtype | None:
    """The format of that name; None for "auto"."""
    import torch

    formats = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
    return formats.get(name)


def capabilities() -> Mapping[str, object]:
    """What this machine's processor can do, as torch names it; nothing where torch is too old to say."""
    import torch

    return torch.cpu.get_capabilities() if hasattr(torch.cpu, "get_capabilities") else {}


def automatic(device: torch.device, processor: Mapping[str, object]) -> torch.dtype | None:
    """bfloat16 on a processor that multiplies it itself, by its `capabilities`; None elsewhere, as before it was known.

    A processor without would take it apart and be slower than in float32.
    """
    import torch

    native = device.type == "cpu" and any(processor.get(name) for name in _NATIVE)
    return torch.bfloat16 if native else None

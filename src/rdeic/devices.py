"""Where the networks run: the choice of a device, and what it lacks."""

from __future__ import annotations

import torch

from rdeic.errors import ConfigError

CPU = torch.device("cpu")
_MISSING = (RuntimeError, AssertionError, ImportError)  # as backends that are not there raise


def choose(name: str | None) -> torch.device:
    """The device of that name, such as "cpu" or "cuda:1"; without one the first CUDA GPU, or else the CPU.

    Raises ConfigError, which says what there is, if it cannot be used.
    """
    wanted = name or ("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(wanted)
    except RuntimeError as error:
        raise ConfigError(_unusable(wanted, "torch knows none of that name")) from error
    try:
        # Memory alone proves nothing: a GPU may be too old for the kernels that torch was built with.
        torch.ones(1, device=device).item()
    except _MISSING as error:
        raise ConfigError(_unusable(wanted, str(error).split("\n")[0].split(". ")[0])) from error
    return device


def there() -> list[str]:
    """The devices of this machine, as `choose` takes them."""
    accelerator = torch.accelerator.current_accelerator() if torch.accelerator.is_available() else None
    if accelerator is None:
        return [CPU.type]
    return [CPU.type, *(f"{accelerator.type}:{index}" for index in range(torch.accelerator.device_count()))]


def _unusable(name: str, reason: str) -> str:
    return f"device {name!r} cannot be used here ({reason}); there is {', '.join(there())}"


def exact_home(device: torch.device) -> torch.device:
    """Where exact arithmetic runs for networks on `device`: there, or on the CPU if it has no float64, as Apple's."""
    try:
        torch.ones(1, dtype=torch.float64, device=device)
    except (TypeError, RuntimeError):
        return CPU
    return device


def remark(device: torch.device) -> str:
    """A line on what runs elsewhere because `device` cannot do it; empty if it can do everything."""
    home = exact_home(device)
    if home == device:
        return ""
    return (
        f"device {device} has no float64: what makes and reads bits runs on the {home}, in double precision"
    )

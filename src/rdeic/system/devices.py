"""Where the networks run: the choice of a device, what it lacks, and what happens when its memory is full."""

from __future__ import annotations

import contextlib
import traceback
from collections.abc import Iterator

import torch

from rdeic.errors import ConfigError, ImageError, RdeicError
from rdeic.system import forks
from rdeic.system.memory import exhausted

CPU = torch.device("cpu")
_MISSING = (RuntimeError, AssertionError, ImportError)  # as backends that are not there raise
_HOST = "DefaultCPUAllocator"  # what torch names where it is the host that has no memory left
_OTHERS = "use --device cpu, or end other programs that use the device"


def choose(name: str | None) -> torch.device:
    """The device of that name, such as "cpu" or "cuda:1"; without one the first CUDA GPU, or else the CPU.

    Raises ConfigError, which says what there is, if it cannot be used.
    """
    wanted = name or ("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(wanted)
    except RuntimeError as error:
        raise ConfigError(_unusable(wanted, "torch knows none of that name")) from error
    forks.check_device(device.type)
    try:
        # Memory alone proves nothing: a GPU may be too old for the kernels that torch was built with.
        torch.ones(1, device=device).item()
    except _MISSING as error:
        if exhausted(error):
            raise ConfigError(f"device {wanted!r} has no memory left; {_OTHERS}") from error
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
    except (TypeError, RuntimeError) as error:
        if exhausted(error):
            raise
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


@contextlib.contextmanager
def enough_for_picture(device: torch.device, width: int, height: int) -> Iterator[None]:
    """Turns running out of memory into an ImageError that says so, with nothing left behind on the device.

    What the picture took there goes back to the driver, so that the next one, and other programs, find it free.
    """
    with _enough(device, ImageError, f"a picture of {width}x{height}", "scale it down or cut it up"):
        yield


@contextlib.contextmanager
def enough_for_weights(device: torch.device, model: str) -> Iterator[None]:
    """As `enough_for_picture` for the weights of a model, but a ConfigError: no other picture would fare better."""
    with _enough(device, ConfigError, f"the weights of model {model}", "choose a smaller model"):
        yield


@contextlib.contextmanager
def _enough(device: torch.device, kind: type[RdeicError], what: str, remedy: str) -> Iterator[None]:
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        if not exhausted(error):
            raise
        _release(device, error)
        if device.type == "cpu" or isinstance(error, MemoryError) or _HOST in str(error):
            raise kind(f"not enough memory for {what}; {remedy}") from error
        raise kind(f"not enough memory on {device} for {what}; {remedy}, {_OTHERS}") from error


def _release(device: torch.device, error: Exception) -> None:
    """Frees what the functions that `error` ended had in their variables, and then what torch keeps for later."""
    traceback.clear_frames(error.__traceback__)
    module = torch.get_device_module(device)
    if hasattr(module, "empty_cache"):  # the CPU's has none
        module.empty_cache()

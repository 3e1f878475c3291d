"""Checks of what callers pass to the public functions: made once, here, so that no code below meets a wrong type.

Numbers may be Python's or numpy's; True and False are not numbers. A value that makes no sense raises an RdeicError.
"""

from __future__ import annotations

import contextlib
import math
import operator
import os
import re
import sys
from typing import Any, Protocol, TypeAlias, runtime_checkable

from rdeic.errors import ConfigError, RdeicError


@runtime_checkable
class Readable(Protocol):
    """An open binary file, or whatever reads like one."""

    def read(self) -> bytes:
        """All that is left of the file."""
        ...


_BYTES = re.compile(r"([0-9]{1,15}(?:\.[0-9]{1,9})?) ?(?:([kmgt])(i)?)?b?")
_SHOWN = 40  # characters of a value that errors repeat
_SHOWN_BITS = 128

Buffer: TypeAlias = bytes | bytearray | memoryview
PathLike: TypeAlias = str | os.PathLike[str]


def whole(name: str, value: Any, low: int, high: float = math.inf, said: str = "{name} {number} is") -> int:
    """A whole number within `low`..`high`. Raises ConfigError, which begins as `said`."""
    number = _number(name, value)
    if isinstance(number, float):
        if not number.is_integer():  # nor are nan and inf
            raise ConfigError(f"{name} {number} is not a whole number")
        number = int(number)
    if not low <= number <= high:
        reach = f"within {low}..{high}" if math.isfinite(high) else f"{low} or more"
        raise ConfigError(f"{said.format(name=name, number=_short(number))} not {reach}")
    return number


def real(name: str, value: Any, low: float, high: float) -> float:
    """A number within `low`..`high`. Raises ConfigError, also for NaN."""
    number = _number(name, value)
    if not low <= number <= high:  # before float(), which has no room for every whole number
        raise ConfigError(f"{name} {_short(number)} is not within {low:g}..{high:g}")
    return float(number)


def positive(name: str, value: Any) -> float:
    """A finite number above 0. Raises ConfigError."""
    number = _number(name, value)
    if not 0 < number <= sys.float_info.max:
        raise ConfigError(f"{name} {_short(number)} is not a positive number")
    return number


def byte_count(name: str, value: Any) -> int:
    """A number of bytes, at least 1, or a text such as "2GB", "1.5 GiB" or "800 MB". Raises ConfigError."""
    if not isinstance(value, str):
        return whole(name, value, 1)
    found = _BYTES.fullmatch(value.strip().lower())
    if found is None:
        raise ConfigError(f"{name} {_short(value)} is no amount of memory; write it as 2GB, 800MB or 1.5GiB")
    number, unit, binary = found.groups()
    count = int(float(number) * (1024 if binary else 1000) ** " kmgt".index(unit or " "))
    return whole(name, count, 1)


def flag(name: str, value: Any) -> bool:
    """True or False, also numpy's. Raises ConfigError."""
    if not _is_truth_value(value):
        raise ConfigError(f"{name} must be True or False, not {_kind(value)}")
    return bool(value)


def device(value: Any) -> str:
    """The name of a torch device, given as that or as a `torch.device`. Raises ConfigError."""
    if isinstance(value, str) or type(value).__name__ == "device":  # without importing torch
        return str(value)
    raise ConfigError(f'device must be a name such as "cpu" or "cuda:1", not {_kind(value)}')


def path(value: PathLike, error: type[RdeicError]) -> str:
    """The text of a path. Raises `error` for one that no file can have."""
    try:
        text = os.fsdecode(os.fspath(value))
        os.fsencode(text)
    except Exception as cause:  # of a caller's own `__fspath__`, too
        raise error(f"{value!r} is no path: {cause}") from cause
    if "\0" in text:
        raise error(f"{text!r} is no path: it holds a zero character")
    return text


def content(value: Buffer | Readable | PathLike, what: str, error: type[RdeicError]) -> bytes | str:
    """The bytes of a file, from memory or from an open file; the text of a path. `what` says which file is wanted.

    Raises `error` for anything else, for what cannot be read, and for files opened as text.
    """
    if isinstance(value, str | os.PathLike):  # the latter is whatever has `__fspath__`
        return path(value, error)
    try:
        return value if isinstance(value, bytes) else bytes(memoryview(value))  # type: ignore[arg-type]
    except (TypeError, ValueError, BufferError):  # no buffer, or one without bytes
        pass
    if not isinstance(value, Readable) or isinstance(value, type):
        raise error(f"expected {what}, as bytes, a path or an open file, not {_kind(value)}")
    try:
        data: object = value.read()
    except Exception as cause:  # whatever the caller's object raises
        raise error(f"{what}: the open file cannot be read: {cause}") from cause
    if not isinstance(data, bytes | bytearray | memoryview):
        remedy = 'open it with mode "rb"' if isinstance(data, str) else "give the bytes themselves"
        raise error(f"{what}: reading the open file gives {_kind(data)}; {remedy}")
    return bytes(data)


def _number(name: str, value: Any) -> int | float:
    """Whatever counts as one number, text and truth values excepted."""
    plain = not isinstance(value, str | bytes | bytearray | complex) and not _is_truth_value(value)
    if plain and getattr(value, "ndim", 0) == 0:  # numpy would still take an array of one number, and warn
        for kind in (operator.index, float):
            with contextlib.suppress(Exception):  # of a caller's own type, too
                return kind(value)
    raise ConfigError(f"{name} must be a number, not {_kind(value)}")


def _is_truth_value(value: Any) -> bool:
    if isinstance(value, bool):
        return True
    dtype = getattr(value, "dtype", None)  # of numpy's, which this module need not import
    return getattr(dtype, "kind", "") == "b" and getattr(value, "ndim", 1) == 0


def _kind(value: object) -> str:
    return "None" if value is None else f"{type(value).__name__} {_short(value)}".rstrip()


def _short(value: object) -> str:
    """A number or a short text as it is; of anything larger the type says enough."""
    if isinstance(value, int) and value.bit_length() > _SHOWN_BITS:  # Python itself refuses to print some
        return f"of {value.bit_length()} bits"
    shown = repr(value) if isinstance(value, int | float | str | complex) else ""
    return shown if len(shown) <= _SHOWN else ""

"""What has been measured so far, line by line, so that a run that is killed loses nothing but what it was doing."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from rdeic.errors import ConfigError
from rdeic.evaluation import results
from rdeic.evaluation.types import Measurement

JOURNAL_FILE = "measurements.jsonl"
_UNKNOWN = "a machine that the journal does not name"


class Key(NamedTuple):
    """What a measurement is of. Another of any of these is another measurement."""

    codec: str
    version: str  # of the codec
    setting: str
    image: str
    digest: str  # of the image's file
    protocol: str


class Entry(NamedTuple):
    """One line."""

    labels: tuple[str, ...]  # of the metrics that were measured
    hardware: str  # that its times are of, one line
    measurement: Measurement


class Journal:
    """The journal of a report folder."""

    def __init__(self, folder: Path) -> None:
        """Reads what there is; lines torn by a kill count as not there. Raises ConfigError if it cannot be read."""
        self._path = folder / JOURNAL_FILE
        self._entries: dict[Key, Entry] = {}
        try:
            content = self._path.read_bytes() if self._path.exists() else b""
        except OSError as error:
            raise ConfigError(f"{self._path}: cannot be read: {error.strerror}") from error
        for line in content.splitlines():
            try:
                key, entry = _parse(json.loads(line))
            except (KeyError, TypeError, ValueError, AttributeError):
                continue
            self._entries[key] = entry
        self._torn = not content.endswith(b"\n") and bool(content)

    def find(self, key: Key, labels: Sequence[str]) -> Entry | None:
        """A measurement that succeeded and has all of `labels`."""
        entry = self._entries.get(key)
        if entry is None or entry.measurement.error or not set(labels) <= set(entry.labels):
            return None
        return entry

    def add(self, key: Key, entry: Entry) -> None:
        """Writes one more line, on the disk when this returns. Raises OSError."""
        self._entries[key] = entry
        content = {
            "key": key._asdict(),
            "labels": list(entry.labels),
            "hardware": entry.hardware,
            "measurement": results.plain(entry.measurement),
        }
        # In ASCII: the name of a file need not be UTF-8.
        line = ("\n" if self._torn else "") + json.dumps(content) + "\n"
        with self._path.open("ab") as stream:
            stream.write(line.encode())
            stream.flush()
            os.fsync(stream.fileno())
        self._torn = False


def _parse(content: dict[str, Any]) -> tuple[Key, Entry]:
    measurement = results.measurement(content["measurement"])
    hardware = content.get("hardware", _UNKNOWN)
    return Key(**content["key"]), Entry(tuple(content["labels"]), hardware, measurement)

"""What became of each picture: parquet files in one folder or bucket, added to and never changed.

A run that was killed loses at most the rows of its last seconds; their outputs are there, and are made again.
"""

from __future__ import annotations

import io
import secrets
import time
from collections.abc import Sequence
from typing import NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from rdeic.errors import ConfigError
from rdeic.ray.stores import Found, Store


class Row(NamedTuple):
    """What a run did with one picture."""

    path: str  # of the input, from its store's top
    input_bytes: int
    modified: int  # the input's time, nanoseconds since 1970
    output: str  # from the output store's top
    digest: str | None  # SHA-256 of the input, hex
    bytes: int | None  # of the .rdeic file
    bpp: float | None
    seconds: float
    failure: str | None  # None: the output is there


SCHEMA = pa.schema(
    [
        ("path", pa.string()),
        ("input_bytes", pa.int64()),
        ("modified", pa.int64()),
        ("output", pa.string()),
        ("digest", pa.string()),
        ("bytes", pa.int64()),
        ("bpp", pa.float64()),
        ("seconds", pa.float64()),
        ("failure", pa.string()),
    ]
)


class Manifest:
    """The rows at one address."""

    def __init__(self, address: str) -> None:
        """Reads nothing yet. Raises ConfigError if the address cannot be reached."""
        self._store = Store(address)

    def rows(self) -> dict[str, Row]:
        """The newest row of each path. Raises ConfigError for a file that is no manifest's."""
        newest: dict[str, Row] = {}
        for part in self._store.find({".parquet"}):  # their names sort by time
            for row in self._read(part.path):
                newest[row.path] = row
        return newest

    def append(self, rows: Sequence[Row]) -> None:
        """Writes the rows as one more parquet file. Raises OSError."""
        if not rows:
            return
        stream = io.BytesIO()
        pq.write_table(pa.Table.from_pylist([row._asdict() for row in rows], SCHEMA), stream)
        self._store.write(f"part-{time.time_ns():020d}-{secrets.token_hex(4)}.parquet", stream.getvalue())

    def _read(self, part: str) -> list[Row]:
        try:
            table = pq.read_table(io.BytesIO(self._store.read(part)), schema=SCHEMA)
        except (pa.ArrowException, OSError, ValueError) as error:
            raise ConfigError(f"{self._store.address}/{part}: is no part of a manifest: {error}") from error
        return [Row(**row) for row in table.to_pylist()]


def unfinished(inputs: Sequence[Found], rows: dict[str, Row]) -> list[Found]:
    """The inputs without an output that was made of the file as it is now; those that failed count as unfinished."""

    def finished(one: Found) -> bool:
        row = rows.get(one.path)
        return row is not None and row.failure is None and (row.input_bytes, row.modified) == one[1:]

    return [one for one in inputs if not finished(one)]

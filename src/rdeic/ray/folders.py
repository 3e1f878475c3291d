"""Whole folders and buckets through a cluster, with a manifest; started again, a run goes on where it ended.

list -> leave out what the manifest knows -> read, Compress or Decompress, write, all on actors -> manifest, here
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, NamedTuple

import pyarrow as pa
import ray.data

from rdeic.pictures import images
from rdeic.ray.actors import Compress, Decompress
from rdeic.ray.manifest import SCHEMA, Manifest, Row, unfinished
from rdeic.ray.stores import Found, Store

_FLUSH_ROWS, _FLUSH_SECONDS = 1000, 10.0  # of the manifest: whichever comes first
_THREADS = 8  # of an actor, for reading and writing
_MOST_BLOCKS = 1 << 14  # of the listing: each costs the scheduler memory


@dataclass(frozen=True)
class Workers:
    """The actors of a run, and what each may use of the cluster."""

    actors: int = 1
    cpus: float = 1.0  # of each; so many threads it computes in
    gpus: float = 0.0  # of each; a fraction shares a GPU
    batch: int = 8  # pictures at a time: what a killed worker has to do again


class Summary(NamedTuple):
    """How many pictures a run did, and in what time."""

    done: int
    finished_before: int
    failed: int
    seconds: float


def compress(
    source: str,
    out: str,
    manifest: str,
    workers: Workers = Workers(),
    model: str = "mini",
    quality: float | None = None,
    bpp: float | None = None,
    max_bytes: int | None = None,
    metadata: bool = False,
) -> Summary:
    """Every picture below `source` => `out`/its path + ".rdeic". All three addresses are folders or URIs of buckets.

    Raises ConfigError for settings, addresses and manifests that make no sense; ray's errors where the cluster fails.
    """
    settings = {"model": model, "quality": quality, "bpp": bpp, "max_bytes": max_bytes, "metadata": metadata}
    return _run(
        _Places(source, out, ".rdeic", manifest), images.readable_suffixes(), Compress, settings, workers
    )


def decompress(
    source: str,
    out: str,
    manifest: str,
    workers: Workers = Workers(),
    model: str = "mini",
    format: str = "png",
    detail: float = 1.0,
    steps: int | None = None,
) -> Summary:
    """Every .rdeic file below `source` => `out`/its path + "." + format. As `compress`."""
    settings = {"model": model, "format": format, "detail": detail, "steps": steps}
    return _run(_Places(source, out, f".{format}", manifest), {".rdeic"}, Decompress, settings, workers)


class _Places(NamedTuple):
    source: str
    out: str
    suffix: str  # goes after the whole name: no input can take another's output
    manifest: str


def _run(
    places: _Places,
    suffixes: Collection[str],
    kind: type[Compress] | type[Decompress],
    settings: dict[str, Any],
    workers: Workers,
) -> Summary:
    start = time.perf_counter()
    source, out, manifest = Store(places.source), Store(places.out), Manifest(places.manifest)
    out.sweep()
    found = source.find(suffixes)
    todo = unfinished(found, manifest.rows())
    failed = 0
    if todo:
        kind(**settings)  # what is wrong for every picture is found here, and not by a cluster
        for rows in _grouped(_rows(_table(todo, places.suffix), source, out, kind, settings, workers)):
            manifest.append(rows)
            failed += sum(row.failure is not None for row in rows)
    return Summary(len(todo) - failed, len(found) - len(todo), failed, time.perf_counter() - start)


def _table(todo: Sequence[Found], suffix: str) -> pa.Table:
    path, size, modified = zip(*todo, strict=True)
    return pa.table(
        {
            "path": path,
            "input_bytes": size,
            "modified": modified,
            "output": [name + suffix for name in path],
        }
    )


def _rows(
    table: pa.Table,
    source: Store,
    out: Store,
    kind: type[Compress] | type[Decompress],
    settings: dict[str, Any],
    workers: Workers,
) -> Iterator[Row]:
    """As they are done."""
    # Cut here: tasks that cut it there would wait for ever where the actors have every CPU.
    rows = max(workers.batch, -(-table.num_rows // _MOST_BLOCKS))
    blocks = [table.slice(start, rows) for start in range(0, table.num_rows, rows)]
    done = ray.data.from_arrow(blocks).map_batches(
        _Worker,
        fn_constructor_args=(source, out, kind, settings),
        batch_size=workers.batch,
        batch_format="pyarrow",
        compute=ray.data.ActorPoolStrategy(size=workers.actors),
        num_cpus=workers.cpus,
        num_gpus=workers.gpus,
    )
    for row in done.iter_rows():
        yield Row(**row)


class _Worker:
    """Paths => rows of the manifest. It reads ahead of the coding and writes behind it, in threads.

    Ray's tasks for either would take half of the processor: it ends their processes, where there are more than CPUs,
    as soon as they are idle, and starts others for the next batch.
    """

    def __init__(
        self, source: Store, out: Store, kind: type[Compress] | type[Decompress], settings: dict[str, Any]
    ) -> None:
        self._source, self._out, self._code = source, out, kind(**settings)
        self._threads = ThreadPoolExecutor(_THREADS)

    def __call__(self, batch: pa.Table) -> pa.Table:
        reading = [self._threads.submit(self._read, path) for path in batch["path"].to_pylist()]
        writing = []
        for number, read in enumerate(reading):
            content, unread = read.result()
            row = batch.slice(number, 1).append_column("bytes", pa.array([content], pa.binary()))
            (coded,) = self._code(row).to_pylist()
            writing.append(self._threads.submit(self._write, coded, unread))
        return pa.Table.from_pylist([written.result() for written in writing], SCHEMA)

    def _read(self, path: str) -> tuple[bytes | None, str | None]:
        """A file's content, or why there is none."""
        try:
            return self._source.read(path), None
        except OSError as error:
            return None, f"cannot be read: {error.strerror or error}"

    def _write(self, row: dict[str, Any], unread: str | None) -> dict[str, Any]:
        """Writes the result; the row with the reason why there is no output, if there is none."""
        if row["result"] is None:
            return row | {"failure": unread or row["failure"]}
        try:
            self._out.write(row["output"], row["result"])
        except OSError as error:
            return row | {"failure": f"{row['output']}: cannot be written: {error.strerror or error}"}
        return row


def _grouped(rows: Iterator[Row], clock: Callable[[], float] = time.monotonic) -> Iterator[list[Row]]:
    """Lists that are worth a file of their own."""
    group: list[Row] = []
    since = clock()
    for row in rows:
        group.append(row)
        if len(group) >= _FLUSH_ROWS or clock() - since >= _FLUSH_SECONDS:
            yield group
            group, since = [], clock()
    if group:
        yield group

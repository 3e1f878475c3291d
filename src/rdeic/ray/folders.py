"""Whole folders and buckets through a cluster, with a manifest; started again, a run goes on where it ended.

list -> leave out what the manifest knows -> read -> Compress or Decompress, on actors -> write -> manifest, here
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import pyarrow as pa
import ray.data

from rdeic.pictures import images
from rdeic.ray.actors import Compress, Decompress
from rdeic.ray.manifest import Manifest, Row, unfinished
from rdeic.ray.stores import Found, Store

_FLUSH_ROWS, _FLUSH_SECONDS = 1000, 10.0  # of the manifest: whichever comes first
_READERS = 2  # for each actor
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
    # Cut here: tasks that cut it there would wait for ever where the actors have every CPU, as reading would.
    rows = max(workers.batch, -(-table.num_rows // _MOST_BLOCKS))
    blocks = [table.slice(start, rows) for start in range(0, table.num_rows, rows)]
    # Without a limit, Ray would start a process for each of the tasks that need no CPU, all at once.
    done = (
        ray.data.from_arrow(blocks)
        .map_batches(
            _Read(source),
            batch_size=workers.batch,
            batch_format="pyarrow",
            compute=ray.data.TaskPoolStrategy(size=_READERS * workers.actors),
            num_cpus=0,
        )
        .map_batches(
            kind,
            fn_constructor_kwargs=settings,
            batch_size=workers.batch,
            batch_format="pyarrow",
            compute=ray.data.ActorPoolStrategy(size=workers.actors),
            num_cpus=workers.cpus,
            num_gpus=workers.gpus,
        )
        .map_batches(
            _Write(out),
            batch_size=None,
            batch_format="pyarrow",
            compute=ray.data.TaskPoolStrategy(size=workers.actors),
            num_cpus=0,
        )
    )
    for row in done.iter_rows():
        yield Row(**row)


class _Read:
    """path => bytes; a file that cannot be read has none, and says why in `unread`."""

    def __init__(self, source: Store) -> None:
        self._source = source

    def __call__(self, batch: pa.Table) -> pa.Table:
        content, unread = zip(*(self._one(path.as_py()) for path in batch["path"]), strict=True)
        batch = batch.append_column("bytes", pa.array(content, pa.binary()))
        return batch.append_column("unread", pa.array(unread, pa.string()))

    def _one(self, path: str) -> tuple[bytes | None, str | None]:
        try:
            return self._source.read(path), None
        except OSError as error:
            return None, f"cannot be read: {error.strerror or error}"


class _Write:
    """result => the output's file, and the columns of a manifest's row."""

    def __init__(self, out: Store) -> None:
        self._out = out

    def __call__(self, batch: pa.Table) -> pa.Table:
        failures = [
            self._one(row) for row in batch.select(["output", "result", "unread", "failure"]).to_pylist()
        ]
        batch = batch.drop_columns(["result", "unread", "failure"])
        return batch.append_column("failure", pa.array(failures, pa.string()))

    def _one(self, row: dict[str, Any]) -> str | None:
        if row["result"] is None:
            return str(row["unread"] or row["failure"])
        try:
            self._out.write(row["output"], row["result"])
        except OSError as error:
            return f"{row['output']}: cannot be written: {error.strerror or error}"
        return None


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

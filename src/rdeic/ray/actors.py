"""What a worker of `Dataset.map_batches` does: tables of pictures or files in, tables of results out.

The model is loaded once for each actor. A picture that cannot be coded is a row that says why; no other row suffers.
"""

from __future__ import annotations

import hashlib
import io
import time
from collections.abc import Callable
from typing import NamedTuple, TypeAlias

import numpy as np
import pyarrow as pa
import ray
from numpy.typing import NDArray

from rdeic.codec import codec
from rdeic.container.info import inspect
from rdeic.errors import CheckpointError, ConfigError, RdeicError
from rdeic.pictures import exif
from rdeic.system import threads

Batch: TypeAlias = pa.Table | dict[str, NDArray[np.object_]]
FORMATS = ("png", "webp", "jpg")
_PILLOW_NAMES = {"png": "PNG", "webp": "WEBP", "jpg": "JPEG"}
_LOSSY_QUALITY = 95  # of WebP and JPEG, which hold a restored picture


class Result(NamedTuple):
    """What became of one row; its fields become the row's new columns."""

    result: bytes | None  # the .rdeic file, or the restored picture's; None where it failed
    digest: str | None  # SHA-256 of the input, hex; None where there was none
    bytes: int | None  # of the .rdeic file
    bpp: float | None  # bits per pixel of the original picture
    seconds: float  # that it took
    failure: str | None  # why there is no result; None where there is one


COLUMNS = pa.schema(
    [
        ("result", pa.binary()),
        ("digest", pa.string()),
        ("bytes", pa.int64()),
        ("bpp", pa.float64()),
        ("seconds", pa.float64()),
        ("failure", pa.string()),
    ]
)


class Compress:
    """Pictures => .rdeic files: a class for `map_batches`. `Result` has the columns that come in the input's place."""

    def __init__(
        self,
        model: str = codec.DEFAULT_MODEL,
        quality: float | None = None,
        bpp: float | None = None,
        max_bytes: int | None = None,
        metadata: bool = False,
        column: str = "bytes",
        device: str | None = None,
    ) -> None:
        """See `rdeic.load` and `Codec.compress`. `column` holds the content of picture files, such as JPEG.

        With `metadata` the files keep what the pictures say of themselves, but not where they were taken. `device` None
        is the GPU that Ray gave this actor, or else the CPU. Raises ConfigError for what would fail for every picture,
        CheckpointError for broken weights.
        """
        _take_threads()
        self._codec, self._column = codec.load(model, device), column
        self._goal, self._metadata = (quality, bpp, max_bytes), metadata
        self._codec.compress(
            np.zeros((64, 64, 3), np.uint8), quality=quality
        )  # wrong settings, broken weights

    def __call__(self, batch: Batch) -> pa.Table:
        """A batch with the column => the same rows with the columns of `Result` instead of it."""
        return _each(batch, self._column, self._compress)

    def _compress(self, picture: bytes) -> tuple[bytes, bytes]:
        quality, bpp, max_bytes = self._goal
        described = exif.read(picture, location=False) if self._metadata else None
        blob = self._codec.compress(picture, quality, bpp, max_bytes, metadata=described)
        return blob, blob


class Decompress:
    """.rdeic files => pictures: a class for `map_batches`."""

    def __init__(
        self,
        model: str = codec.DEFAULT_MODEL,
        format: str = "png",
        detail: float = 1.0,
        steps: int | None = None,
        column: str = "bytes",
        device: str | None = None,
    ) -> None:
        """See `rdeic.load` and `Codec.decompress`. `format` of the pictures is one of FORMATS.

        Raises ConfigError for what would fail for every file, CheckpointError for broken weights.
        """
        if format not in FORMATS:
            raise ConfigError(f"format {format!r} is none of {', '.join(FORMATS)}")
        _take_threads()
        self._codec, self._column, self._format = codec.load(model, device), column, format
        self._detail, self._steps = detail, steps
        blank = self._codec.compress(np.zeros((64, 64, 3), np.uint8))
        self._codec.decompress(blank, detail=detail, steps=steps)

    def __call__(self, batch: Batch) -> pa.Table:
        """A batch with the column => the same rows with the columns of `Result` instead of it."""
        return _each(batch, self._column, self._decompress)

    def _decompress(self, blob: bytes) -> tuple[bytes, bytes]:
        image = self._codec.decompress(blob, detail=self._detail, steps=self._steps)
        stream = io.BytesIO()
        image.save(stream, _PILLOW_NAMES[self._format], quality=_LOSSY_QUALITY, exif=image.info["exif"])
        return stream.getvalue(), blob


def _take_threads() -> None:
    """In an actor, as many threads as it has CPUs. Ray does so only on nodes that do not set OMP_NUM_THREADS."""
    if ray.is_initialized() and ray.get_runtime_context().get_actor_id():
        threads.use(max(1, int(ray.get_runtime_context().get_assigned_resources().get("CPU", 1))))


def _each(batch: Batch, column: str, work: Callable[[bytes], tuple[bytes, bytes]]) -> pa.Table:
    """`work` takes the input to the result and the .rdeic file."""
    table = batch if isinstance(batch, pa.Table) else pa.table(batch)
    if column not in table.column_names:
        raise ConfigError(
            f"no column {column!r}; there is {', '.join(table.column_names)}; choose with column="
        )
    rows = [_one(value.as_py(), work) for value in table[column]]
    rest = table.drop_columns([column])
    for place, field in enumerate(COLUMNS):
        rest = rest.append_column(field, pa.array([row[place] for row in rows], field.type))
    return rest


def _one(content: bytes | None, work: Callable[[bytes], tuple[bytes, bytes]]) -> Result:
    if content is None:
        return Result(None, None, None, None, 0.0, "no content")
    digest, start = hashlib.sha256(content).hexdigest(), time.perf_counter()
    try:
        result, blob = work(content)
    except (ConfigError, CheckpointError):
        raise
    except RdeicError as error:
        return Result(None, digest, None, None, time.perf_counter() - start, str(error))
    return Result(result, digest, len(blob), inspect(blob).bpp, time.perf_counter() - start, None)

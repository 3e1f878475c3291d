"""Speed of entropy coding on one core, beside what the paper's published code does with the same symbols.

    pip install --no-deps compressai    # of it only the compiled rANS coder is used
    python benchmarks/rans_baseline.py [--size 768x512] [--runs 5]

From integers and sigmas to bytes and back. That code finds the index of each sigma by 63 comparisons of whole tensors
and hands Python lists to CompressAI's coder: to the encoder once a picture, to the decoder once for each half of a
slice, and at every call all 64 cumulative distributions become lists again. The second baseline makes these lists
only once. Sigmas are log-normal, such that the file would have about 0.06 bits a pixel; both coders have the same
probabilities. Times are the fastest of the runs.
"""

from __future__ import annotations

import functools
import importlib.util
import sys
import time
from collections.abc import Callable, Iterator
from importlib.machinery import PathFinder
from typing import Any, NamedTuple, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

import program
from rdeic.config import SD21
from rdeic.entropy import tables
from rdeic.entropy.coder import SymbolDecoder, SymbolEncoder
from rdeic.evaluation import report

MEDIAN_SIGMA = 0.05
Made = TypeVar("Made")


class Pass(NamedTuple):
    """One half of one slice."""

    symbols: NDArray[np.int32]
    sigma: NDArray[np.float64]


class Lists(NamedTuple):
    """The tables as CompressAI's coder takes them."""

    cdfs: list[list[int]]
    lengths: list[int]
    offsets: list[int]


class Tables(NamedTuple):
    cdfs: Tensor  # (64, longest), padded with zeros
    lengths: Tensor
    offsets: Tensor

    def lists(self) -> Lists:
        return Lists(self.cdfs.tolist(), self.lengths.tolist(), self.offsets.tolist())


class Theirs:
    """CompressAI's coder as the published code drives it; `lists` gives the tables for one call."""

    def __init__(self, extension: Any, passes: list[Pass], lists: Callable[[], Lists]) -> None:
        self.extension, self.lists = extension, lists
        self.passes = [(torch.from_numpy(one.symbols), torch.from_numpy(one.sigma).float()) for one in passes]
        self.table = torch.tensor(tables.SCALES, dtype=torch.float32)

    def encode(self) -> bytes:
        coder = self.extension.BufferedRansEncoder()
        symbols: list[int] = []
        indexes: list[int] = []
        for values, sigma in self.passes:
            symbols.extend(values.tolist())
            indexes.extend(self.indexes(sigma).tolist())
        coder.encode_with_indexes(symbols, indexes, *self.lists())
        data: bytes = coder.flush()
        return data

    def decode(self, data: bytes) -> list[NDArray[np.int32]]:
        coder = self.extension.RansDecoder()
        coder.set_stream(data)
        return [
            torch.tensor(
                coder.decode_stream(self.indexes(sigma).tolist(), *self.lists()), dtype=torch.int32
            ).numpy()
            for _, sigma in self.passes
        ]

    def indexes(self, sigma: Tensor) -> Tensor:
        found = torch.full(sigma.shape, len(self.table) - 1, dtype=torch.int32)
        for threshold in self.table[:-1]:
            found -= (sigma <= threshold).int()
        return found


class Ours:
    def __init__(self, passes: list[Pass]) -> None:
        self.passes = passes

    def encode(self) -> bytes:
        coder = SymbolEncoder()
        for one in self.passes:
            coder.encode(one.symbols, tables.scale_index(one.sigma))
        return coder.finish()

    def decode(self, data: bytes) -> list[NDArray[np.int32]]:
        coder = SymbolDecoder(data)
        found = [coder.decode(tables.scale_index(one.sigma)) for one in self.passes]
        coder.finish()
        return found


class Row(NamedTuple):
    coder: str
    encode: float  # seconds
    decode: float
    size: int  # bytes


def compressai_extension() -> Any:
    """CompressAI's compiled module; the package itself would ask for all that it trains with."""
    package = importlib.util.find_spec("compressai")
    spec = package and PathFinder.find_spec("ans", package.submodule_search_locations)
    if spec is None or spec.loader is None:
        sys.exit("rans_baseline: no compressai here; pip install --no-deps compressai")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def our_tables() -> Tables:
    cumulative = [np.concatenate([[0], np.cumsum(tables.pmf(i))]) for i in range(len(tables.SCALES))]
    lengths = torch.tensor([len(one) for one in cumulative])
    cdfs = torch.zeros(len(cumulative), int(lengths.max()), dtype=torch.int32)
    for row, one in zip(cdfs, cumulative, strict=True):
        row[: len(one)] = torch.from_numpy(one)
    return Tables(cdfs, lengths, -torch.from_numpy(np.array(tables.CENTRES)))


def picture(width: int, height: int) -> list[Pass]:
    """As many symbols as y of a picture has, in coding order."""
    random = np.random.default_rng(0)
    positions = -(-width // SD21.hyper_stride) * -(-height // SD21.hyper_stride) * 16
    passes = []
    for channels in SD21.compression.slices:
        for _ in range(2):
            count = channels * positions // 2
            # Single precision, which both sides can hold: a sigma between two tables must not decide otherwise.
            sigma = np.exp(random.normal(np.log(MEDIAN_SIGMA), 1.0, count)).astype(np.float32)
            symbols = np.rint(random.normal(size=count) * sigma).astype(np.int32)
            passes.append(Pass(symbols, sigma.astype(np.float64)))
    return passes


def fastest(runs: int, work: Callable[[], Made]) -> tuple[float, Made]:
    def timed() -> Iterator[tuple[float, Made]]:
        for _ in range(runs):
            start = time.perf_counter()
            made = work()
            yield time.perf_counter() - start, made

    return min(timed(), key=lambda one: one[0])


def measure(name: str, coder: Ours | Theirs, passes: list[Pass], runs: int) -> Row:
    encoding, data = fastest(runs, coder.encode)
    decoding, found = fastest(runs, functools.partial(coder.decode, data))
    if not all(np.array_equal(a, b.symbols) for a, b in zip(found, passes, strict=True)):
        sys.exit(f"rans_baseline: {name} returned other symbols than it was given")
    return Row(name, encoding, decoding, len(data))


def run(width: int, height: int, runs: int) -> None:
    torch.set_num_threads(1)
    extension, passes, theirs = compressai_extension(), picture(width, height), our_tables()
    once = theirs.lists()
    rows = [
        measure("rdeic", Ours(passes), passes, runs),
        measure("published code", Theirs(extension, passes, theirs.lists), passes, runs),
        measure("the same, lists made once", Theirs(extension, passes, lambda: once), passes, runs),
    ]
    ours = rows[0]
    lines = [
        (
            row.coder,
            f"{1e3 * row.encode:.1f} ms",
            f"{row.encode / ours.encode:.1f}",
            f"{1e3 * row.decode:.1f} ms",
            f"{row.decode / ours.decode:.1f}",
            f"{(row.encode + row.decode) / (ours.encode + ours.decode):.1f}",
            f"{row.size}",
        )
        for row in rows
    ]
    header = ("coder", "encode", "ratio", "decode", "ratio", "both, ratio", "bytes")
    count = sum(one.symbols.size for one in passes)
    remarks = [f"{width}x{height}: {count} symbols", f"`{report.command()}`", report.machine()]
    print(report.markdown(header, lines), *remarks, sep="\n\n")


def main() -> None:
    options = program.parser(__doc__, "--runs")
    options.add_argument("--size", type=program.size, default="768x512", metavar="WxH")
    chosen = options.parse_args()
    width, height = chosen.size
    run(width, height, chosen.runs)


if __name__ == "__main__":
    program.leave(main)

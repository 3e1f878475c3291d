"""Speed of the symbol coder on one core, beside constriction's per-symbol Gaussian family in the same run.

    python benchmarks/entropy_coder.py [symbols]

The mix is that of a coded picture: passes of 15,000 symbols whose scales are log-normal around 0.5, most of
them near zero. Printed are million symbols per second (best of five, checks for hostile streams included) and the ratio
to the baseline. Exits 1 if decoding falls below the 5 million symbols per second that the project promises.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable
from typing import Any

import constriction
import numpy as np
from numpy.typing import NDArray

import program
from rdeic.entropy.coder import SymbolDecoder, SymbolEncoder
from rdeic.entropy.tables import CENTRES, SCALES, scale_index
from rdeic.evaluation import report

PASS = 15_000
REPEATS = 5
PROMISED = 5.0  # million symbols decoded per second


def best_rate(count: int, run: Callable[[], Any]) -> tuple[float, Any]:
    """Million symbols per second of the fastest of REPEATS runs, and what the last one returned."""
    fastest = float("inf")
    for _ in range(REPEATS):
        start = time.perf_counter()
        result = run()
        fastest = min(fastest, time.perf_counter() - start)
    return count / fastest / 1e6, result


def encode(symbols: NDArray[np.int32], scales: NDArray[np.int64]) -> bytes:
    encoder = SymbolEncoder()
    for start in range(0, symbols.size, PASS):
        encoder.encode(symbols[start : start + PASS], scales[start : start + PASS])
    return encoder.finish()


def decode(data: bytes, scales: NDArray[np.int64]) -> NDArray[np.int32]:
    decoder = SymbolDecoder(data)
    parts = [decoder.decode(scales[start : start + PASS]) for start in range(0, scales.size, PASS)]
    decoder.finish()
    return np.concatenate(parts)


def main(count: int) -> None:
    if hasattr(os, "sched_setaffinity"):  # Linux
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    random = np.random.default_rng(0)
    scales = scale_index(np.exp(random.normal(np.log(0.5), 1.0, count)))
    sigmas = SCALES[scales]
    symbols = np.rint(random.normal(size=count) * sigmas).astype(np.int32)
    limit = int(max(np.abs(symbols).max(), CENTRES[scales].max()))
    family = constriction.stream.model.QuantizedGaussian(-limit, limit)
    means = np.zeros(count)

    def baseline_encode() -> NDArray[np.uint32]:
        encoder = constriction.stream.queue.RangeEncoder()
        encoder.encode(symbols, family, means, sigmas)
        words: NDArray[np.uint32] = encoder.get_compressed()
        return words

    base_encode_rate, words = best_rate(count, baseline_encode)
    base_decode_rate, theirs = best_rate(
        count, lambda: constriction.stream.queue.RangeDecoder(words).decode(family, means, sigmas)
    )
    encode_rate, data = best_rate(count, lambda: encode(symbols, scales))
    decode_rate, ours = best_rate(count, lambda: decode(data, scales))
    if not (np.array_equal(ours, symbols) and np.array_equal(theirs, symbols)):
        raise SystemExit("a coder returned other symbols than it was given")
    print(f"{count} symbols, million symbols/s: rdeic vs constriction QuantizedGaussian family")
    print(f"encode {encode_rate:8.2f} vs {base_encode_rate:6.2f}  = {encode_rate / base_encode_rate:5.1f}x")
    print(f"decode {decode_rate:8.2f} vs {base_decode_rate:6.2f}  = {decode_rate / base_decode_rate:5.1f}x")
    print(f"bytes  {len(data):8d} vs {4 * len(words):6d}  = {len(data) / (4 * len(words)):6.4f}x")
    met = decode_rate >= PROMISED
    print(f"decoding at least {PROMISED:g} million symbols/s on one core: {'yes' if met else 'no'}")
    print(f"{report.command()}; {report.machine()}")
    if not met:
        sys.exit(1)


if __name__ == "__main__":
    options = program.parser(__doc__)
    options.add_argument("count", type=int, nargs="?", default=1_000_000, help="symbols")
    main(options.parse_args().count)

"""Many clients at once against `rdeic serve`: what it answers, whether its memory grows, whether its files are right.

    python benchmarks/serve_load.py examples/kodim23.png --clients 64 --seconds 60

Each client sends pictures of several sizes to be compressed and files to be restored, one after the other, and waits as
long as a refusal asks it to. Exits with 1 unless every answer is 200 or a refusal (429, 503) that says when to come
again, the largest memory in the last quarter is at most 10% above that in the second, and every file that came back is
byte for byte what the package makes of the picture here, and restores to the same pixels, and the server had nothing
to log.
"""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import io
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

import program
import rdeic

_SIZES = ((384, 256), (256, 256), (130, 96))
_QUALITIES = (0, 50, 100)
_GROWTH = 1.10
_MAX_WAIT = 20.0  # seconds, whatever a refusal says


class Call(NamedTuple):
    """One request, and what must come back."""

    path: str
    body: bytes
    expected: bytes  # of a file its bytes, of a picture its pixels


def calls(picture: Path) -> list[Call]:
    """Of each size: to compress at each quality, and to restore what comes of it."""
    codec = rdeic.load(device="cpu")
    found = []
    for size in _SIZES:
        buffer = io.BytesIO()
        Image.open(picture).convert("RGB").resize(size).save(buffer, "PNG")
        for quality in _QUALITIES:
            blob = codec.compress(buffer.getvalue(), quality=quality)
            found.append(Call(f"/v1/compress?quality={quality}", buffer.getvalue(), blob))
            found.append(Call("/v1/decompress", blob, codec.decompress(blob).tobytes()))
    return found


class Server(NamedTuple):
    """`rdeic serve` as a program."""

    process: int
    port: int
    said: list[str]  # lines on stderr


@contextlib.contextmanager
def server(arguments: list[str]) -> Iterator[Server]:
    """Runs it."""
    command = [sys.executable, "-m", "rdeic", "serve", "--port", "0", "--device", "cpu", *arguments]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        line, said = process.stderr.readline(), list[str]()
        # A full pipe would stop the server.
        reader = threading.Thread(target=said.extend, args=(process.stderr,))
        reader.start()
        try:
            yield Server(process.pid, int(line.partition("/;")[0].rpartition(":")[2]), said)
        finally:
            process.terminate()
            reader.join()


class Tally:
    """What came back."""

    def __init__(self) -> None:
        self.statuses: Counter[int] = Counter()
        self.wrong: list[str] = []
        self.seconds: list[float] = []  # of requests that were served

    def add(
        self, call: Call, status: int, headers: http.client.HTTPMessage, body: bytes, took: float
    ) -> float:
        """One answer => seconds that the client is to wait."""
        self.statuses[status] += 1
        if status == 200:
            self.seconds.append(took)
            got = body if "compress?" in call.path else np.asarray(Image.open(io.BytesIO(body))).tobytes()
            if got != call.expected:
                self.wrong.append(f"{call.path}: another result")
            return 0.0
        if status not in (429, 503) or not headers.get("Retry-After", "").isdigit():
            self.wrong.append(f"{call.path}: {status} {body[:200]!r}")
            return 1.0
        return min(float(headers["Retry-After"]), _MAX_WAIT)


async def client(number: int, port: int, work: list[Call], end: float, tally: Tally) -> None:
    """One after the other, until the time is over."""
    turn = number
    while time.monotonic() < end:
        call, turn = work[turn % len(work)], turn + 7
        began = time.monotonic()
        answer = await asyncio.to_thread(ask, port, call)
        wait = tally.add(call, *answer, time.monotonic() - began)
        await asyncio.sleep(min(wait, max(0.0, end - time.monotonic())))


def ask(port: int, call: Call) -> tuple[int, http.client.HTTPMessage, bytes]:
    """Over a connection of its own."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=300)
    try:
        connection.request("POST", call.path, call.body)
        answer = connection.getresponse()
        return answer.status, answer.headers, answer.read()
    finally:
        connection.close()


def memory(process: int) -> int:
    """Bytes that a process has in memory."""
    for line in Path(f"/proc/{process}/status").read_text(encoding="ascii").splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) * 1024
    raise OSError(f"no VmRSS of process {process}")


async def watch(process: int, end: float, seen: list[int]) -> None:
    """The memory, twice a second."""
    while time.monotonic() < end:
        seen.append(memory(process))
        await asyncio.sleep(0.5)


async def run(
    process: int, port: int, work: list[Call], clients: int, seconds: float
) -> tuple[Tally, list[int]]:
    """All clients at once => what came back, and the memory over time."""
    from concurrent.futures import ThreadPoolExecutor

    asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(clients))
    tally, seen, end = Tally(), list[int](), time.monotonic() + seconds
    await asyncio.gather(
        watch(process, end, seen), *(client(number, port, work, end, tally) for number in range(clients))
    )
    return tally, seen


def main() -> None:
    parser = program.parser(__doc__)
    parser.add_argument("picture", type=Path)
    parser.add_argument("--clients", type=int, default=64)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--serve", default="", help="options of rdeic serve, such as '--jobs 2'")
    options = parser.parse_args()
    work = calls(options.picture)
    with server(options.serve.split()) as (process, port, said):
        for call in work:  # memory that each size takes once
            ask(port, call)
        tally, seen = asyncio.run(run(process, port, work, options.clients, options.seconds))
    quarter = len(seen) // 4
    before, after = max(seen[quarter : 2 * quarter]), max(seen[-quarter:])
    print(f"answers: {dict(sorted(tally.statuses.items()))}")
    served = sorted(tally.seconds)
    print(
        f"served: {len(served) / options.seconds:.2f} a second, median {served[len(served) // 2]:.2f} s, "
        f"slowest {served[-1]:.2f} s"
    )
    print(
        f"memory: {before / 1e6:.0f} MB in the second quarter, {after / 1e6:.0f} MB in the last: {after / before:.3f}"
    )
    for line in tally.wrong[:20]:
        print(f"wrong: {line}")
    print(f"on stderr: {''.join(said) or 'nothing'}")
    sys.exit(bool(tally.wrong) or bool(said) or after > _GROWTH * before)


if __name__ == "__main__":
    program.leave(main)

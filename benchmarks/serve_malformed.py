"""Malformed requests against `rdeic serve`: none may be the server's failure, leave a file behind, or cost memory.

    python benchmarks/serve_malformed.py --requests 10000

A part is drawn by schemathesis from the server's own description (pip install 'rdeic[browser]' has it), a part is made
by hand: bodies cut short or with bytes changed, heads that make no sense, parameters out of range, clients that leave
in the middle. Exits with 1 on any answer of 500 and above other than 503, any answer that is no problem of RFC 9457
although it is an error, anything that the server logs, any file that is open or new afterwards, and memory that grew by
more than 10%.
"""

from __future__ import annotations

import os
import random
import socket
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple
from urllib.parse import quote

import program
import rdeic
from serve_load import memory, server

_PATHS = ("/v1/compress", "/v1/decompress", "/v1/inspect", "/v1/compare", "/v1/show")
_VALUES = (
    *("", "0", "-1", "1e999", "nan", "inf", "50", "2", "0x10", "1.5", "99999999999999999999", "true", "null"),
    *("white", "\0", "\x1b[2J", "é" * 50, "../../etc/passwd", "'\"<>", "%", "avif", "a" * 3000),
)
_NAMES = (
    *(
        "quality",
        "bpp",
        "max_bytes",
        "seed",
        "scale",
        "metadata",
        "background",
        "detail",
        "steps",
        "codec",
        "bytes",
    ),
    *("file", "path", "QUALITY"),
)
_HEADERS = (
    *(
        "Content-Type: image/png",
        "Content-Type: text/html",
        "Content-Type: ;;;",
        "Accept: image/webp;q=x",
        "Accept: ,",
    ),
    *(
        "Accept: image/png;q=0.0001",
        "Accept: " + "a/b," * 900,
        "Host: evil.example",
        "Origin: null",
        "Origin: http://[",
    ),
    *(
        "Content-Encoding: gzip",
        "Transfer-Encoding: chunked",
        "Content-Length: -5",
        "Content-Length: 99999999999999",
    ),
    *("Authorization: Bearer \xff", "Request-Name: ../../x", "Expect: 100-continue", "Range: bytes=0-1"),
    *(
        "Cookie: " + "c" * 4000,
        "X: " + "x" * 70_000,
        "Upgrade: websocket\r\nConnection: Upgrade",
        "no colon here",
    ),
)
_TARGETS = (
    "/",
    "/..%2f..%2fetc/passwd",
    "/assets/%00",
    "//",
    "*",
    "http://evil.example/",
    "/v1/progress/%ff%fe",
)
_HEALTH = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
_TIMEOUT = 3600.0  # seconds until the whole is given up
_BREAK = b"\r\n"


class Request(NamedTuple):
    """As it goes over the wire."""

    content: bytes
    ends: bool = False  # the client sends no more; the server may take it for gone
    leaves: bool = False  # the client does not wait for the answer


def hand_made(count: int, seeds: list[bytes]) -> Iterator[Request]:
    """As many requests, the same each time."""
    chance = random.Random(0)
    for _ in range(count):
        body = mangled(chance, chance.choice(seeds))
        target = chance.choice(_PATHS) if chance.random() < 0.85 else chance.choice(_TARGETS)
        names = chance.sample(_NAMES, chance.choice((0, 0, 1, 1, 2)))
        query = "&".join(f"{name}={quote(chance.choice(_VALUES))}" for name in names)
        method = chance.choice(("POST",) * 12 + ("GET", "PUT", "HEAD", "OPTIONS", "BREW"))
        headers = chance.sample(_HEADERS, chance.choice((0, 0, 0, 1, 1, 2)))
        if not any(header.startswith("Host") for header in headers):
            headers.append("Host: localhost")
        if not any(header.startswith(("Content-Length", "Transfer")) for header in headers):
            headers.append(f"Content-Length: {max(0, len(body) + -(chance.random() < 0.03))}")
        head = f"{method} {target}{'?' if query else ''}{query} HTTP/1.1\r\nConnection: close\r\n"
        whole = (
            head.encode("latin-1")
            + b"".join(one.encode("latin-1") + _BREAK for one in headers)
            + _BREAK
            + body
        )
        is_mangled = chance.random() < 0.03
        # Where more is announced than comes, the server would wait for it.
        endless = is_mangled or b"Length: 9999999" in whole or b"Transfer-" in whole
        yield Request(mangled(chance, whole) if is_mangled else whole, endless, chance.random() < 0.05)


def mangled(chance: random.Random, data: bytes) -> bytes:
    """Cut short, with bytes changed, doubled, or as it is."""
    kind = chance.randrange(4)
    if kind == 0:
        return data[: chance.randrange(len(data) + 1)]
    if kind == 1:
        changed = bytearray(data)
        for _ in range(chance.randint(1, 8)):
            changed[chance.randrange(len(changed))] = chance.randrange(256)
        return bytes(changed)
    return data * 2 if kind == 2 else data


def answer(port: int, request: Request) -> bytes:
    """What the server says to it; nothing if the client leaves or the server hangs up."""
    with socket.create_connection(("127.0.0.1", port), timeout=_TIMEOUT) as connection:
        parts = []
        try:
            connection.sendall(request.content)
            if request.leaves:
                return b""
            if request.ends:
                connection.shutdown(socket.SHUT_WR)
            while part := connection.recv(1 << 16):
                parts.append(part)
        except (ConnectionResetError, BrokenPipeError):
            pass
        return b"".join(parts)


def judge(said: bytes) -> tuple[str, str]:
    """An answer => its status, and what is wrong with it, or ""."""
    if not said:
        return "none", ""
    lines = said.split(_BREAK)
    while lines and lines[0].startswith(b"HTTP/1.1 100"):
        lines = lines[2:]
    status = lines[0].split(b" ")[1].decode() if lines and lines[0].startswith(b"HTTP/1.1 ") else "garbage"
    if status == "garbage" or (status >= "500" and status != "503"):
        return status, said[:300].decode("latin-1")
    is_problem = b"application/problem+json" in said
    # What is not HTTP is refused in plain text before the application sees it.
    if status >= "400" and not is_problem and not (status == "400" and b"text/plain" in said):
        return status, f"no problem: {said[:300].decode('latin-1')}"
    return status, ""


def by_schemathesis(port: int, examples: int, folder: Path) -> tuple[int, str]:
    """=> exit status and the end of its report."""
    program = Path(sys.executable).with_name("st")
    command = [str(program), "run", f"http://127.0.0.1:{port}/openapi.json", "--max-examples", str(examples)]
    command += ["--checks", "not_a_server_error,status_code_conformance,content_type_conformance"]
    command += ["--phases", "fuzzing", "--mode", "all", "--seed", "1", "--request-timeout", "120"]
    command += ["--generation-database", "none"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=folder)
    return done.returncode, "\n".join((done.stdout + done.stderr).splitlines()[-40:])


def open_files(process: int) -> set[str]:
    """Of a process, sockets and pipes left out."""
    found = (os.readlink(link) for link in Path(f"/proc/{process}/fd").iterdir())
    return {name for name in found if name.startswith("/")}


def main() -> None:
    parser = program.parser(__doc__)
    parser.add_argument("--requests", type=int, default=10_000, help="made by hand")
    parser.add_argument("--examples", type=int, default=150, help="of schemathesis for each path and method")
    parser.add_argument("--serve", default="", help="options of rdeic serve, such as '--model DIR'")
    options = parser.parse_args()
    from PIL import Image

    with tempfile.TemporaryDirectory() as place:
        picture = Path(place) / "seed.png"
        Image.linear_gradient("L").convert("RGB").resize((64, 48)).save(picture)
        seeds = [picture.read_bytes(), b"not a picture", b"GIF89a" + bytes(40)]
        folder = Path(place) / "work"
        folder.mkdir()
        os.environ["TMPDIR"] = str(folder)  # where the server would leave files
        with server(options.serve.split()) as (process, port, said):
            wrong, statuses = list[str](), Counter[str]()
            blob = answer(port, _post("/v1/compress", seeds[0])).partition(_BREAK * 2)[2]
            assert rdeic.inspect(blob).width == 64
            before_files, before = open_files(process), 0
            for number, request in enumerate(hand_made(options.requests, [*seeds, blob, blob])):
                if number == options.requests // 4:
                    before = memory(process)
                status, fault = judge(answer(port, request))
                statuses[status] += 1
                wrong += [f"{fault}  <=  {request.content[:200]!r}"] if fault else []
            after = memory(process)
            print(f"made by hand: {dict(sorted(statuses.items()))}")
            code, report = (
                by_schemathesis(port, options.examples, Path(place)) if options.examples else (0, "")
            )
            print(report)
            left = sorted(map(str, folder.iterdir())) + sorted(open_files(process) - before_files)
            healthy = b" 200 OK" in answer(port, Request(_HEALTH))
    print(
        f"memory: {before / 1e6:.0f} MB after a quarter, {after / 1e6:.0f} MB at the end: {after / before:.3f}"
    )
    print(f"files left: {left or 'none'}; schemathesis: {'failed' if code else 'nothing found'}")
    print(f"on stderr: {''.join(said[:100]) or 'nothing'}")
    for line in wrong[:20]:
        print(f"wrong: {line}")
    sys.exit(bool(wrong or said or left or code or not healthy or after > 1.1 * before))


def _post(path: str, body: bytes) -> Request:
    head = (
        f"POST {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    return Request(head.encode() + body)


if __name__ == "__main__":
    program.leave(main)

"""`rdeic serve` as a program: signals, slow clients, clients that leave, a full queue."""

from __future__ import annotations

import contextlib
import http.client
import json
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

import serve_malformed

pytest.importorskip("fastapi")  # of rdeic[serve]

from rdeic.errors import ConfigError
from rdeic.pictures import images
from rdeic.serve.settings import Settings
from support import serving
from support.program_runs import Program, program

__all__ = ["program"]  # a fixture

Send = Callable[[int, bytes, str], http.client.HTTPConnection]
_PATIENCE = 120.0  # seconds until a test gives up


@pytest.fixture(scope="module")
def large(photo: images.Picture) -> bytes:
    """A picture that takes the tiny model a while."""
    return images.encode(images.pad(photo, 1024), "png")


@pytest.fixture(scope="module")
def port(tiny_folder: Path) -> Iterator[int]:
    with serving.program("--model", str(tiny_folder), "--device", "cpu", "--waiting", "1") as (_, found):
        yield found


def get(port: int, path: str) -> tuple[int, bytes]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=_PATIENCE)
    try:
        connection.request("GET", path)
        answer = connection.getresponse()
        return answer.status, answer.read()
    finally:
        connection.close()


@pytest.fixture
def send() -> Iterator[Send]:
    """Sends a picture to be compressed, without waiting for the answer."""
    with contextlib.ExitStack() as stack:

        def begin(port: int, content: bytes, name: str) -> http.client.HTTPConnection:
            connection = http.client.HTTPConnection("127.0.0.1", port, timeout=_PATIENCE)
            stack.callback(connection.close)
            headers = {"Content-Type": "image/png", "Request-Name": name}
            connection.request("POST", "/v1/compress?quality=50", content, headers)
            return connection

        yield begin


def answer(connection: http.client.HTTPConnection) -> tuple[int, bytes]:
    with connection.getresponse() as found:
        return found.status, found.read()


def await_state(port: int, name: str, state: str) -> None:
    """Until the request is in that state; "unknown": until it is not there any more."""
    end = time.monotonic() + _PATIENCE
    while time.monotonic() < end:
        _, said = get(port, f"/v1/progress/{name}")
        if json.loads(said)["state"] == state:
            return
    raise AssertionError(f"{name} is not {state}")


def test_who_comes_when_all_places_are_taken_hears_when_to_come_again(
    port: int, large: bytes, send: Send
) -> None:
    working = send(port, large, "at-work-1")
    await_state(port, "at-work-1", "working")
    waiting = send(port, large, "waiting-1")
    await_state(port, "waiting-1", "waiting")
    with send(port, large, "too-late-1").getresponse() as refused:
        assert refused.status == 429
        assert int(refused.headers["Retry-After"]) >= 1
        assert json.loads(refused.read())["type"] == "urn:rdeic:problem:queue-full"
    assert get(port, "/healthz")[0] == 200  # which needs no place
    assert {answer(working)[0], answer(waiting)[0]} == {200}


def test_who_hangs_up_frees_the_place(port: int, large: bytes, send: Send) -> None:
    working = send(port, large, "at-work-2")
    await_state(port, "at-work-2", "working")
    waiting = send(port, large, "waiting-2")
    await_state(port, "waiting-2", "waiting")
    for connection, name in ((waiting, "waiting-2"), (working, "at-work-2")):
        connection.close()
        await_state(port, name, "unknown")
    assert b'rdeic_requests_total{path="/v1/compress",status="499"} 2.0' in get(port, "/metrics")[1]
    assert answer(send(port, large, "afterwards"))[0] == 200


def test_told_to_stop_it_finishes_what_it_took(tiny_folder: Path, large: bytes, send: Send) -> None:
    with serving.program("--model", str(tiny_folder), "--device", "cpu") as (process, port):
        first, second = send(port, large, "at-work-3"), send(port, large, "waiting-3")
        await_state(port, "at-work-3", "working")
        await_state(port, "waiting-3", "waiting")
        process.send_signal(signal.SIGTERM)
        answers = [answer(connection) for connection in (first, second)]
        assert [(status, content[:3]) for status, content in answers] == [(200, b"RDE")] * 2
        assert process.wait(_PATIENCE) == 0
        with pytest.raises(OSError, match="refused"):
            get(port, "/healthz")


@pytest.mark.slow
@pytest.mark.parametrize(
    "sent",
    [
        b"",
        b"GET / HT",
        b"POST /v1/inspect HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100\r\n\r\nRDE",
        b"POST /nothing HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100\r\n\r\nRDE",
    ],
)
def test_who_sends_nothing_more_loses_the_connection(port: int, sent: bytes) -> None:
    with socket.create_connection(("127.0.0.1", port), timeout=30) as connection:
        connection.sendall(sent)
        while connection.recv(4096):  # an answer at most, and then the end
            pass


@pytest.mark.slow
def test_who_takes_no_answer_loses_the_connection(port: int) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (1500, 1500, 3), np.uint8)  # more than sockets hold
    large = images.encode(noise, "png")
    with socket.create_connection(("127.0.0.1", port), timeout=60) as connection:
        head = f"POST /v1/show HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(large)}\r\n\r\n"
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        connection.sendall(head.encode() + large)
        got = connection.recv(4096)
        threading.Event().wait(45)  # the client sleeps, that is what this is about
        with contextlib.suppress(ConnectionResetError):
            while part := connection.recv(1 << 20):
                got += part
    head, _, received = got.partition(b"\r\n\r\n")
    length = int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0])
    assert len(received) < length


def test_who_leaves_or_garbles_the_rest_is_no_failure_of_the_server(tiny_folder: Path) -> None:
    head = b"POST %s HTTP/1.1\r\nHost: localhost\r\n"
    cut_short = b"Content-Length: 100\r\n\r\nRDE"
    no_chunk = b"Transfer-Encoding: chunked\r\n\r\nnot a length\r\n"
    with serving.program("--model", str(tiny_folder), "--device", "cpu") as (process, port):
        for path in (b"/", b"/v1/inspect", b"/v1/compress", b"/v1/show"):
            with socket.create_connection(("127.0.0.1", port), timeout=_PATIENCE) as leaving:
                leaving.sendall(head % path + cut_short)
            with socket.create_connection(("127.0.0.1", port), timeout=_PATIENCE) as other:
                other.sendall(head % path + no_chunk)
                assert other.recv(4096).startswith(b"HTTP/1.1 400 ")
        counted = get(port, "/metrics")[1]
        assert b'status="499"' in counted and b'status="500"' not in counted
        process.terminate()
        assert process.stderr is not None and process.stderr.read() == ""


def test_a_port_that_is_taken_is_named(program: Program) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        done = program("serve", "--port", str(port))
        assert (done.code, len(done.failures)) == (1, 1)
        assert f"port {port}" in done.failures[0] and "--port" in done.failures[0]


def test_an_open_server_needs_a_token() -> None:
    with pytest.raises(ConfigError, match="token"):
        Settings(host="0.0.0.0")
    with pytest.raises(ConfigError, match="ASCII"):
        Settings(token="päss")
    assert Settings(host="::1").local and Settings(host="localhost").local
    assert not Settings(host="localhost.example", token="x").local


def test_without_the_extra_the_command_says_what_to_install() -> None:
    code = "import sys; sys.modules['uvicorn'] = None; sys.argv[1:] = ['serve']; from rdeic.cli import main; main()"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr.startswith("rdeic: ") and "pip install 'rdeic[serve]'" in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_malformed_requests_are_refused_and_leave_nothing(port: int, large: bytes) -> None:
    """A sample of benchmarks/serve_malformed.py."""
    small = images.encode(images.read(large)[:40, :50], "png")
    seen = set()
    for request in serve_malformed.hand_made(150, [small, b"RDE\1rubbish"]):
        status, fault = serve_malformed.judge(serve_malformed.answer(port, request))
        assert not fault, request.content[:200]
        seen.add(status)
    assert {"400", "404", "405", "415", "422"} <= seen
    assert get(port, "/healthz")[0] == 200

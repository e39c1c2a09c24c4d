"""A server with a toy application in a thread of its own, and a raw client for it."""

from __future__ import annotations

import asyncio
import os
import socket
import ssl
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import uvloop

from objectstore_app.protocol.errors import S3Error
from objectstore_app.runtime.context import ServerLimits
from objectstore_app.runtime.http import FileRange, Request, Response
from objectstore_app.runtime.listeners import bind_listeners
from objectstore_app.runtime.metrics import Counters
from objectstore_app.runtime.server import HttpServer

QUICK = ServerLimits(
    header_timeout_s=0.5,
    keep_alive_timeout_s=1.0,
    body_stall_timeout_s=1.0,
    linger_timeout_s=0.3,
    sweep_interval_s=0.05,
)
ROOMY = ServerLimits(linger_timeout_s=0.3, sweep_interval_s=0.05)
"""Time-outs that a busy machine does not reach, for tests of anything else."""


class ToyFile:
    """A file as a source of bytes; every third window has to be waited for."""

    def __init__(self, path: Path) -> None:
        self.file = path.open("rb")
        self.windows = 0

    def read(self, start: int, length: int, *, wait: bool = False) -> memoryview | None:
        self.windows += 1
        if not wait and self.windows % 3 == 0:
            return None
        data = os.pread(self.file.fileno(), length, start)
        if len(data) < length:
            raise EOFError("the file is too short")
        return memoryview(data)

    async def fetch(self, start: int, length: int) -> None:
        await asyncio.sleep(0.001)


@dataclass
class Toy:
    """The server under test. `gate` holds `/wait` requests until it is set."""

    port: int = 0
    loop: asyncio.AbstractEventLoop | None = None
    server: HttpServer | None = None
    gate: asyncio.Event | None = None
    counters: Counters = field(default_factory=lambda: Counters("test"))
    closed_streams: int = 0
    waiting: int = 0
    file: Path | None = None
    content: bytes = b""
    ranges_given: int = 0
    range_bytes: int = 300_000

    def call(self, function: Callable[[], object]) -> None:
        assert self.loop is not None
        self.loop.call_soon_threadsafe(function)

    def drain(self, timeout_s: float = 5.0) -> bool:
        assert self.loop is not None
        assert self.server is not None
        coroutine = self.server.drain(0, timeout_s)
        return asyncio.run_coroutine_threadsafe(coroutine, self.loop).result(10)

    async def handle(self, request: Request) -> Response:
        path = request.target.partition(b"?")[0]
        request.note["operation"] = "Toy"
        if path == b"/echo":
            pieces = []
            while piece := await request.body.read():
                pieces.append(piece)
            return Response(200, [("X-Secure", str(request.secure))], b"".join(pieces))
        if path == b"/refuse":
            raise S3Error("AccessDenied")
        if path == b"/ignore":
            return Response(200, [], b"not read")
        if path == b"/crash":
            raise ValueError("a bug")
        if path == b"/bad-header":
            return Response(200, [("X-Bad", "a\nb")], b"x")
        if path == b"/wait":
            assert self.gate is not None
            self.waiting += 1
            await self.gate.wait()
            return Response(200, [], b"waited")
        if path.startswith(b"/stream/"):
            size = int(path.rpartition(b"/")[2])
            chunked = request.target.endswith(b"?chunked")
            return Response(200, [], self.pieces(size), None if chunked else size)
        if path == b"/file":
            assert self.file is not None
            return Response(200, [], self.ranges(self.file), len(self.content))
        if path == b"/short":
            return Response(200, [], self.pieces(100), 200)
        if path == b"/break":
            return Response(200, [], self.breaking(), 200)
        return Response(404, [], b"nothing here")

    async def pieces(self, size: int) -> AsyncIterator[bytes]:
        try:
            while size > 0:
                yield b"x" * min(size, 65536)
                size -= 65536
        finally:
            self.closed_streams += 1

    async def ranges(self, path: Path) -> AsyncIterator[bytes | FileRange]:
        """Bytes, ranges of the file, bytes; a range that the file does not have if it shrank."""
        data = self.content
        source = ToyFile(path)
        try:
            yield data[:1000]
            for start in range(1000, len(data) - 1000, self.range_bytes):
                self.ranges_given += 1
                yield FileRange(source, start, min(self.range_bytes, len(data) - 1000 - start))
            yield data[-1000:]
        finally:
            source.file.close()
            self.closed_streams += 1

    async def breaking(self) -> AsyncIterator[bytes]:
        yield b"y" * 50
        raise ValueError("a bug in a stream")


@contextmanager
def serving(limits: ServerLimits = ROOMY, tls: ssl.SSLContext | None = None) -> Iterator[Toy]:
    """Run a toy server on a free port of 127.0.0.1."""
    toy = Toy()
    ready = threading.Event()
    listener = bind_listeners("127.0.0.1", 0, 1)[0]
    toy.port = listener.getsockname()[1]

    async def main() -> None:
        toy.loop = asyncio.get_running_loop()
        toy.gate = asyncio.Event()
        stop = asyncio.Event()
        stops.append(stop)
        toy.server = HttpServer(toy.handle, counters=toy.counters, tls=tls, limits=limits)
        toy.server.listen(listener)
        ready.set()
        await stop.wait()
        await toy.server.drain(0, 1.0)

    stops: list[asyncio.Event] = []
    thread = threading.Thread(target=lambda: uvloop.run(main()))
    thread.start()
    try:
        assert ready.wait(10)
        yield toy
    finally:
        toy.call(stops[0].set)
        thread.join(10)
        assert not thread.is_alive()


class Client:
    """A raw connection: sends bytes, reads whole responses."""

    def __init__(self, port: int, tls: ssl.SSLContext | None = None) -> None:
        raw = socket.create_connection(("127.0.0.1", port), timeout=10)
        self.socket = tls.wrap_socket(raw, server_hostname="localhost") if tls else raw
        self.buffer = b""

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_exc: object) -> None:
        self.socket.close()

    def send(self, data: bytes) -> None:
        self.socket.sendall(data)

    def get(self, path: str, *headers: str) -> Answer:
        self.send(request("GET", path, *headers))
        return self.answer()

    def put(self, path: str, body: bytes, *headers: str) -> Answer:
        self.send(request("PUT", path, f"Content-Length: {len(body)}", *headers) + body)
        return self.answer()

    def answer(self, *, head_only: bool = False) -> Answer:
        """Read one response. Raises: EOFError when the server closed instead."""
        while (end := self.buffer.find(b"\r\n\r\n")) < 0:
            self._more()
        lines = self.buffer[:end].decode("latin-1").split("\r\n")
        self.buffer = self.buffer[end + 4 :]
        headers = {}
        for line in lines[1:]:
            name, _, value = line.partition(":")
            headers[name.lower()] = value.strip()
        status = int(lines[0].split(" ")[1])
        if head_only or status in (100, 204, 304):
            return Answer(status, headers, b"")
        if headers.get("transfer-encoding") == "chunked":
            return Answer(status, headers, self._chunks())
        return Answer(status, headers, self._take(int(headers.get("content-length", "0"))))

    def _chunks(self) -> bytes:
        body = b""
        while True:
            while (end := self.buffer.find(b"\r\n")) < 0:
                self._more()
            size = int(self.buffer[:end], 16)
            self.buffer = self.buffer[end + 2 :]
            body += self._take(size)
            assert self._take(2) == b"\r\n"
            if size == 0:
                return body

    def _take(self, size: int) -> bytes:
        while len(self.buffer) < size:
            self._more()
        taken, self.buffer = self.buffer[:size], self.buffer[size:]
        return taken

    def _more(self) -> None:
        data = self.socket.recv(65536)
        if not data:
            raise EOFError
        self.buffer += data

    def ended(self) -> bool:
        """Whether the server closes the connection without sending more."""
        try:
            return self.buffer == b"" and self.socket.recv(1) == b""
        except ConnectionError:
            return True


@dataclass(frozen=True)
class Answer:
    status: int
    headers: dict[str, str]
    body: bytes


def request(method: str, path: str, *headers: str) -> bytes:
    lines = [f"{method} {path} HTTP/1.1", "Host: localhost", *headers]
    return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")


def until(condition: Callable[[], bool], timeout_s: float = 10.0) -> None:
    """Wait for a condition; fail when it does not come true."""
    end = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < end, "the condition never came true"
        time.sleep(0.005)

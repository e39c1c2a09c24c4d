"""A load generator that costs little: connections that send prepared requests as fast as answered.

Requests are signed before the clock starts. A connection sends the next one in the callback that
completes the answer before; nothing is parsed but the status and Content-Length (or chunks' end).
The client's own processor time is reported, so that a result limited by the client shows.
"""

from __future__ import annotations

import asyncio
import resource
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import partial
from typing import cast

import uvloop


@dataclass
class Outcome:
    """What a timed run gave. Latencies are milliseconds, sorted."""

    operations: int
    body_bytes: int
    seconds: float
    latencies_ms: list[float]
    client_cpu_s: float
    failures: dict[int, int] = field(default_factory=dict)

    def percentile(self, share: float) -> float:
        if not self.latencies_ms:
            return 0.0
        return self.latencies_ms[min(int(len(self.latencies_ms) * share), -1 + self.operations)]


class Run:
    """Shared by a run's connections: where requests come from, when to stop, what was seen."""

    def __init__(self, requests: Iterator[bytes], seconds: float | None) -> None:
        self.requests = requests
        self.seconds = seconds
        self.started = 0.0
        self.stop_at = float("inf")
        self.latencies: list[float] = []
        self.body_bytes = 0
        self.failures: dict[int, int] = {}
        self.last = 0.0


class Worker(asyncio.Protocol):
    def __init__(self, run: Run, done: asyncio.Future[None]) -> None:
        self._run = run
        self._done = done
        self._buffer = bytearray()
        self._sent = 0.0
        self._need = 0
        self._status = 0
        self._chunked = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._next()

    def _next(self) -> None:
        now = time.perf_counter()
        request = next(self._run.requests, None) if now < self._run.stop_at else None
        if request is None:
            self._transport.close()
            return
        self._sent = now
        self._need = 0
        self._transport.write(request)

    def data_received(self, data: bytes) -> None:
        buffer = self._buffer
        buffer += data
        if not self._need:
            end = buffer.find(b"\r\n\r\n")
            if end < 0:
                return
            self._read_head(bytes(buffer[: end + 2]), end + 4)
        if self._chunked:
            if not buffer.endswith(b"0\r\n\r\n"):
                return
        elif len(buffer) < self._need:
            return
        run = self._run
        run.last = now = time.perf_counter()
        run.latencies.append(now - self._sent)
        run.body_bytes += len(buffer)
        if self._status not in (200, 204):
            run.failures[self._status] = run.failures.get(self._status, 0) + 1
        buffer.clear()
        self._next()

    def _read_head(self, head: bytes, start: int) -> None:
        self._status = int(head[9:12])
        lowered = head.lower()
        place = lowered.find(b"\r\ncontent-length:")
        self._chunked = place < 0 and b"transfer-encoding: chunked" in lowered
        length = int(lowered[place + 17 : lowered.find(b"\r\n", place + 17)]) if place >= 0 else 0
        self._need = start + length

    def connection_lost(self, exc: Exception | None) -> None:
        if not self._done.done():
            if exc is not None or self._buffer:
                self._done.set_exception(exc or ConnectionError("closed within an answer"))
            else:
                self._done.set_result(None)


def measure(
    host: str,
    port: int,
    requests: Iterator[bytes],
    *,
    connections: int,
    seconds: float | None = None,
) -> Outcome:
    """Send requests over `connections` until they run out or `seconds` have passed."""

    async def main() -> Outcome:
        loop = asyncio.get_running_loop()
        run = Run(requests, seconds)
        before = resource.getrusage(resource.RUSAGE_SELF)
        run.started = time.perf_counter()
        if seconds is not None:
            run.stop_at = run.started + seconds
        done = []
        for _ in range(connections):
            future: asyncio.Future[None] = loop.create_future()
            done.append(future)
            await loop.create_connection(partial(Worker, run, future), host, port)
        await asyncio.gather(*done)
        after = resource.getrusage(resource.RUSAGE_SELF)
        return Outcome(
            operations=len(run.latencies),
            body_bytes=run.body_bytes,
            seconds=run.last - run.started,
            latencies_ms=sorted(value * 1000 for value in run.latencies),
            client_cpu_s=after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime,
            failures=run.failures,
        )

    return uvloop.run(main())

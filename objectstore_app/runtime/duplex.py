"""Flow control of one transport: writing with back-pressure, pausing reads, one waiting task.

The part of a connection that knows nothing of HTTP. Callbacks call `_wake`, the one task that
serves the connection sleeps in `_wait` and looks again at what it waits for.
"""

from __future__ import annotations

import asyncio
import math

from .metrics import Counters


class ConnectionCutError(Exception):
    """The client is gone or the response cannot be completed: stop serving this connection."""


class Duplex(asyncio.Protocol):
    """A protocol whose task waits on whatever its callbacks bring. `deadline` bounds the wait."""

    def __init__(
        self, loop: asyncio.AbstractEventLoop, counters: Counters, stall_timeout_s: float
    ) -> None:
        self.deadline = math.inf
        self._loop = loop
        self._counters = counters
        self._stall_timeout_s = stall_timeout_s
        self._transport: asyncio.Transport
        self._waiter: asyncio.Future[None] | None = None
        self._lost = False
        self._reading_paused = False
        self._writing_paused = False
        self._write_mark = 0

    def pause_writing(self) -> None:
        self._writing_paused = True

    def resume_writing(self) -> None:
        self._writing_paused = False
        self._wake()

    def abort(self) -> None:
        """Cut the connection at once."""
        self._transport.abort()

    def _expire_write(self, now: float) -> None:
        """Cut a peer that takes nothing of what was written; one that is slow goes on."""
        waiting = self._transport.get_write_buffer_size()
        if waiting < self._write_mark:
            self._write_mark = waiting
            self.deadline = now + self._stall_timeout_s
        else:
            self._transport.abort()

    def _write(self, data: bytes | memoryview) -> None:
        """Raises: ConnectionCutError."""
        if self._lost or self._transport.is_closing():
            raise ConnectionCutError
        self._counters.bytes_out += len(data)
        self._transport.write(data)

    async def _drain(self) -> None:
        """Wait until the peer has taken enough of what was written. Raises: ConnectionCutError."""
        self._write_mark = self._transport.get_write_buffer_size()
        self.deadline = self._loop.time() + self._stall_timeout_s
        while self._writing_paused and not self._lost:
            await self._wait()
        self.deadline = math.inf
        if self._lost:
            raise ConnectionCutError

    def _pause_reading(self) -> None:
        if not (self._reading_paused or self._transport.is_closing()):
            self._reading_paused = True
            self._transport.pause_reading()

    def _resume_reading(self) -> None:
        self._reading_paused = False
        if not self._transport.is_closing():
            self._transport.resume_reading()

    async def _wait(self) -> None:
        self._waiter = self._loop.create_future()
        try:
            await self._waiter
        finally:
            self._waiter = None

    def _wake(self) -> None:
        waiter = self._waiter
        if waiter is not None and not waiter.done():
            waiter.set_result(None)

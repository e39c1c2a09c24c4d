"""Flow control of one transport: writing with back-pressure, pausing reads, one waiting task.

The part of a connection that knows nothing of HTTP. Callbacks call `_wake`, the one task that
serves the connection sleeps in `_wait` and looks again at what it waits for.

Ranges of files go past the transport: once it has nothing left to write, they are read and written
window by window on the connection's socket, by a descriptor of our own (the loop lets nobody else
wait on its own). What the socket does not take is dropped and read again when it has room.
"""

from __future__ import annotations

import asyncio
import fcntl
import math
import os
import struct
import termios

from ..core.limits import SEND_WINDOW_BYTES_MAX, SEND_WINDOW_BYTES_MIN
from .http import FileRange, read_bytes
from .metrics import Counters

_INT = struct.Struct("i")


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
        self._own_socket = -1

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
        waiting = self._untaken()
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
        self._write_mark = self._untaken()
        self.deadline = self._loop.time() + self._stall_timeout_s
        while self._writing_paused and not self._lost:
            await self._wait()
        self.deadline = math.inf
        if self._lost:
            raise ConnectionCutError

    def _untaken(self) -> int:
        """Bytes written that the peer has not taken yet."""
        if self._own_socket < 0:
            return self._transport.get_write_buffer_size()
        (queued,) = _INT.unpack(fcntl.ioctl(self._own_socket, termios.TIOCOUTQ, bytes(_INT.size)))
        return int(queued)

    async def _send_file(self, piece: FileRange) -> None:
        """Send a range of a file. Raises: ConnectionCutError and what the source raises."""
        if self._own_socket < 0:
            await self._begin_files()
        source, start, end = piece.source, piece.start, piece.start + piece.length
        window = SEND_WINDOW_BYTES_MAX
        while start < end:
            size = min(window, end - start)
            data = await read_bytes(source, start, size)
            if self._lost or self._transport.is_closing():
                raise ConnectionCutError
            sent = self._send_now(data)
            start += sent
            self._counters.bytes_out += sent
            if sent == size:
                window = min(2 * window, SEND_WINDOW_BYTES_MAX)
                await asyncio.sleep(0)  # who takes all at once must not keep the others waiting
            else:
                window = max(window // 2, SEND_WINDOW_BYTES_MIN)
                self._writing_paused = True
                self._loop.add_writer(self._own_socket, self._writable)
                await self._drain()

    def _send_now(self, data: memoryview) -> int:
        """How much of it the socket took. Raises: ConnectionCutError."""
        try:
            return os.write(self._own_socket, data)
        except BlockingIOError:
            return 0
        except OSError as error:
            raise ConnectionCutError from error

    async def _begin_files(self) -> None:
        # The loop may hold back small writes to the end of its turn, where no call can see them.
        self._transport.set_write_buffer_limits(high=0)
        await asyncio.sleep(0)
        if self._writing_paused:
            await self._drain()
        self._transport.set_write_buffer_limits()
        if self._lost or self._transport.is_closing():
            raise ConnectionCutError
        self._own_socket = os.dup(self._transport.get_extra_info("socket").fileno())

    def _end_files(self) -> None:
        """Give the socket back to the transport."""
        if self._own_socket >= 0:
            self._loop.remove_writer(self._own_socket)
            os.close(self._own_socket)
            self._own_socket = -1

    def _writable(self) -> None:
        self._loop.remove_writer(self._own_socket)
        self.resume_writing()

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

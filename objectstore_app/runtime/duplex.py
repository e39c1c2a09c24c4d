"""Flow control of one transport: writing with back-pressure, pausing reads, one waiting task.

The part of a connection that knows nothing of HTTP. Callbacks call `_wake`, the one task that
serves the connection sleeps in `_wait` and looks again at what it waits for.

Ranges of files go past the transport: once it has nothing left to write, they are read and written
window by window on the connection's socket, by a descriptor of our own (the loop lets nobody else
wait on its own). What is short, and what a slow client has room for, is sent on the loop if the
page cache has it. A long range is sent by a thread for as long as the client keeps up: that takes
no turns of the loop, and connections that the kernel gave to the same process use all processors
nevertheless. What the socket does not take is dropped and read again when it has room.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import functools
import math
import os
import select
import socket
import struct
import termios

from ..core.limits import (
    LOOP_WINDOW_BYTES_MAX,
    NEAR_RTT_US_MAX,
    NEAR_SEND_BUFFER_BYTES,
    SEND_ON_LOOP_BYTES_MAX,
    SEND_PATIENCE_S,
    SEND_WINDOW_BYTES_MAX,
)
from .http import ByteSource, FileRange
from .metrics import Counters

_INT = struct.Struct("i")
_TCP_INFO_MIN_RTT = struct.Struct("148xI")


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
        self._sends_long = False

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
        quick = piece.length > SEND_ON_LOOP_BYTES_MAX
        if quick and not self._sends_long:
            self._sends_long = True
            _bound_send_buffer(self._own_socket)
        while start < end:
            reached = start
            if not quick:
                some = min(start + SEND_ON_LOOP_BYTES_MAX, end)
                reached = _send_range(self._own_socket, source, start, some, wait=False)
                quick = reached == some
            if reached == start:
                reached = await self._send_in_thread(source, start, end)
                quick = False
            if self._lost or self._transport.is_closing():
                raise ConnectionCutError
            self._counters.bytes_out += reached - start
            start = reached
            if start < end:
                self._writing_paused = True
                self._loop.add_writer(self._own_socket, self._writable)
                await self._drain()

    async def _send_in_thread(self, source: ByteSource, start: int, end: int) -> int:
        """`_send_range` in a thread. Who is cancelled waits for it all the same, as it uses what
        is given back next; it never takes long.
        """
        sending = self._loop.run_in_executor(
            None, functools.partial(_send_range, self._own_socket, source, start, end, wait=True)
        )
        try:
            return await asyncio.shield(sending)
        except asyncio.CancelledError:
            while not sending.done():
                with contextlib.suppress(asyncio.CancelledError):
                    await asyncio.wait([sending])
            raise

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


def _send_range(fd: int, source: ByteSource, start: int, end: int, *, wait: bool) -> int:
    """Send from `start` on and return where to go on: at `end`, or before it because the client
    takes no more at present, or, unless told to `wait`, because the disk would have to be waited
    for. Raises: ConnectionCutError and what the source raises.
    """
    window = SEND_WINDOW_BYTES_MAX if wait else LOOP_WINDOW_BYTES_MAX
    while start < end:
        data = source.read(start, min(window, end - start), wait=wait)
        if data is None:
            return start
        while data:
            try:
                sent = os.write(fd, data)
            except BlockingIOError:
                if wait and _gets_room(fd):
                    continue
                return start
            except OSError as error:
                raise ConnectionCutError from error
            start += sent
            data = data[sent:]
    return start


def _gets_room(fd: int) -> bool:
    """Whether the client takes something within a moment; threads are few."""
    poll = select.poll()
    poll.register(fd, select.POLLOUT)
    return bool(poll.poll(SEND_PATIENCE_S * 1000))


def _bound_send_buffer(fd: int) -> None:
    """Let little be under way to a client that is near: what is copied anew into the same memory
    stays in the processor's cache. To others the kernel finds out how much there has to be.
    """
    with socket.socket(fileno=os.dup(fd)) as own:
        size = _TCP_INFO_MIN_RTT.size
        info = own.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, size)
        if len(info) == size and _TCP_INFO_MIN_RTT.unpack(info)[0] <= NEAR_RTT_US_MAX:
            own.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, NEAR_SEND_BUFFER_BYTES)

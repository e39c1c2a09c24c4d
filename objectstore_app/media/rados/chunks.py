"""Chunks on RADOS: what a front end writes itself.

Theory of operation. As on a local directory a process owns its chunk segments, here objects made
exclusively, and places in them are handed out on the loop. A segment is made in a thread, which
asks for room first, while its first chunks gather what they are to write. A chunk begins where a
block of the OSDs' disks does: where a write touches part of a block that holds something already,
each replica reads that first. Pieces are sent as they come, many at a time: an operation that is
answered is durable, so `flush` only waits for those under way. How many bytes may be under way is
bounded over all chunks of the process. A write that failed leaves a hole that nothing names; the
segment is left then, and the chunk given up.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass

from ...core.errors import invariant
from ...core.limits import (
    CHUNK_BYTES_MAX,
    CHUNK_SEGMENT_S_MAX,
    CHUNKS_FREE_BYTES_MIN,
    RADOS_CHUNK_ALIGN_BYTES,
    RADOS_ROOM_MARGIN_BYTES,
    RADOS_SEGMENT_BYTES_MAX,
    RADOS_UNWRITTEN_BYTES_MAX,
)
from ..api import Also, Buffer, ChunkWriter, Extent, nothing
from ..errors import MediaError, MediaFailedError, MediaFullError
from ..segments import (
    TableBuilder,
    checksum,
    chunk_segment,
    encode_header,
    table_bytes,
)
from .heap import Heap
from .names import object_name
from .pool import Pool


@dataclass(slots=True, eq=False)
class _Segment:
    """`number` is known once the object is made."""

    number: asyncio.Future[int]
    begun_ms: int
    size: int = RADOS_CHUNK_ALIGN_BYTES


class RadosChunks(ChunkWriter):
    """ChunkWriter of one process. Belongs to one loop."""

    def __init__(self, pool: Pool, heap: Heap, now_ms: Callable[[], int]) -> None:
        self._pool = pool
        self._heap = heap
        self._now_ms = now_ms
        self._loop = asyncio.get_running_loop()
        self._segment: _Segment | None = None
        self._under_way: set[asyncio.Future[None]] = set()
        self._unwritten = 0
        self._room_made = asyncio.Event()
        self._making: set[asyncio.Future[int]] = set()
        self._closed = False

    @property
    def chunk_bytes_max(self) -> int:
        return CHUNK_BYTES_MAX

    @property
    def streams(self) -> bool:
        return True

    def begin(self, length: int) -> RadosChunk:
        if self._closed:
            raise MediaFailedError("write chunk", "pool", "closed")
        invariant(0 < length <= CHUNK_BYTES_MAX, "a chunk has 1 to CHUNK_BYTES_MAX bytes")
        total = length + table_bytes(length)
        total += -total % RADOS_CHUNK_ALIGN_BYTES
        segment = self._segment
        if (
            segment is None
            or segment.size + total > RADOS_SEGMENT_BYTES_MAX
            or self._now_ms() - segment.begun_ms > CHUNK_SEGMENT_S_MAX * 1000
        ):
            segment = self._segment = self._begin_segment()
        offset = segment.size
        segment.size += total
        return RadosChunk(self, segment, offset, length)

    async def flush(self) -> None:
        """What failed is told to whoever wrote it, as all of it is waited for there, too."""
        if self._under_way:
            await asyncio.wait(set(self._under_way))

    async def close(self) -> None:
        self._closed = True
        if self._making:
            await asyncio.wait(set(self._making))
        await self.flush()

    async def reserve(self, size: int) -> None:
        """Wait until so many bytes more may be under way, before they are copied. Whoever does not
        `send` them says so by `release`.
        """
        while self._unwritten and self._unwritten + size > RADOS_UNWRITTEN_BYTES_MAX:
            self._room_made.clear()
            await self._room_made.wait()
        self._unwritten += size

    def release(self, size: int) -> None:
        self._unwritten -= size
        self._room_made.set()

    def send(self, segment: _Segment, data: bytes, offset: int) -> asyncio.Future[None]:
        """Begin a write of bytes that were reserved to a segment that is made; the future says what
        became of it.
        """
        sent: asyncio.Future[None] = self._loop.create_future()
        self._under_way.add(sent)
        size = len(data)
        self._heap.used()

        def settle(error: MediaError | None) -> None:
            self.release(size)
            self._under_way.discard(sent)
            if error is None:
                sent.set_result(None)
                return
            self.leave(segment)
            sent.set_exception(error)
            sent.exception()  # a chunk that was given up asks no more

        def done(error: MediaError | None) -> None:
            with suppress(RuntimeError):  # the loop is closed, so nobody waits any more
                self._loop.call_soon_threadsafe(settle, error)

        try:
            self._pool.start_write(object_name(segment.number.result()), data, offset, done)
        except MediaError as error:
            settle(error)
        return sent

    def leave(self, segment: _Segment) -> None:
        """Write no further chunks to a segment."""
        if self._segment is segment:
            self._segment = None

    def _begin_segment(self) -> _Segment:
        making = self._loop.run_in_executor(None, self._make)
        segment = _Segment(making, self._now_ms())
        self._making.add(making)

        def made(_: asyncio.Future[int]) -> None:
            self._making.discard(making)
            if making.cancelled() or making.exception() is not None:
                self.leave(segment)

        making.add_done_callback(made)
        return segment

    def _make(self) -> int:
        """Runs in a thread. Raises MediaFullError, MediaFailedError."""
        free = self._pool.free_bytes()
        if free < CHUNKS_FREE_BYTES_MIN + RADOS_ROOM_MARGIN_BYTES:
            raise MediaFullError("write chunk", "pool", f"{free} bytes are free")
        while True:
            number = chunk_segment(self._now_ms(), secrets.randbits(20))
            header = encode_header(number, RADOS_CHUNK_ALIGN_BYTES)
            if self._pool.create(object_name(number), header):
                return number


class RadosChunk:
    """ChunkInProgress at a place in a segment object."""

    def __init__(self, writer: RadosChunks, segment: _Segment, offset: int, length: int) -> None:
        self._writer = writer
        self._segment = segment
        self._offset = offset
        self._length = length
        self._done = 0
        self._table = TableBuilder()
        self._sent: list[asyncio.Future[None]] = []

    async def append(self, pieces: Sequence[Buffer], also: Also = nothing) -> None:
        await self._run(pieces, also, last=False)

    async def finish(self, pieces: Sequence[Buffer], also: Also = nothing) -> Extent:
        await self._run(pieces, also, last=True)
        invariant(self._done == self._length, "a chunk has the length it began with")
        crc = checksum(self._table.encode())
        number = self._segment.number.result()
        return Extent(number, self._offset, self._length, crc, blocks=True)

    async def settle(self) -> None:
        # Who flushes waits for what is under way; who wrote learns here that it failed. Cancelling
        # us must not end what others wait for.
        await asyncio.wait(self._sent)
        for sent in self._sent:
            sent.result()

    def close(self) -> None:
        """What was sent may still arrive: nothing names it."""
        self._sent.clear()

    async def _run(self, pieces: Sequence[Buffer], also: Also, *, last: bool) -> None:
        size = sum(map(len, pieces))
        place = self._offset + self._done
        self._done += size
        total = size + (table_bytes(self._length) if last else 0)
        # Cancelling us must not end what others wait for, here as in `finish`.
        await asyncio.wait([self._segment.number])
        self._segment.number.result()
        await self._writer.reserve(total)
        try:
            loop = asyncio.get_running_loop()
            data = await loop.run_in_executor(None, _gather, pieces, self._table, also, last)
        except BaseException:
            self._writer.release(total)
            raise
        self._sent.append(self._writer.send(self._segment, data, place))


def _gather(pieces: Sequence[Buffer], table: TableBuilder, also: Also, last: bool) -> bytes:
    """One pass over pieces that the processor's cache still holds, then the copy to be sent."""
    for piece in pieces:
        also(piece)
        table.update(piece)
    return b"".join([*pieces, table.encode()] if last else pieces)

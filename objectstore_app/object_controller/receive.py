"""Taking a body in: bounded memory, hashed once, small bodies kept whole, large ones as chunks.

Theory of operation. A body of at most RECORD_BODY_BYTES_MAX stays in memory and goes along in its
record. A larger one is stored as chunks while it comes. What has come is gathered, without a copy,
into a *load*; a load is hashed and written in one pass in a thread while the next one is gathered,
so a body holds two loads of memory at most. Loads get smaller the more bodies are under way, and
when the smallest ones would not fit the process's `UploadMemory`, bodies wait for their turn: they
are not read from, which their clients' sockets feel, and nobody is told an error.

Nothing names the chunks until the caller, having checked every digest, puts a version that does: a
body that turns out wrong leaves only bytes that nobody refers to.
"""

from __future__ import annotations

import asyncio
import ctypes
from collections import deque
from collections.abc import Mapping
from contextlib import AbstractAsyncContextManager, ExitStack
from types import TracebackType
from typing import Protocol

import msgspec

from ..core.errors import invariant
from ..core.limits import (
    KIB,
    RECORD_BODY_BYTES_MAX,
    UPLOAD_MEMORY_BYTES,
    UPLOAD_PIECE_BYTES_MAX,
    UPLOAD_PIECE_BYTES_MIN,
)
from ..media.api import ChunkInProgress, ChunkWriter, Extent
from ..metadata_service.api import Coding

JOINED_PIECE_BYTES_MAX = 8 * KIB
"""A piece up to this size is copied: lists of small ones cost more memory than their bytes."""

CROWD_OF_BODIES = 8

_malloc_trim = ctypes.CDLL(None).malloc_trim
_AS_LONG = "a payload has the length it tells"

Piece = bytes | bytearray | memoryview


class Payload(Protocol):
    """An object's bytes as they come: framing and signatures are already dealt with.

    `length` is how many there are. `trailers` are those of the body, complete once it was read to
    its end.
    """

    @property
    def length(self) -> int: ...

    @property
    def trailers(self) -> Mapping[str, str]: ...

    async def read(self) -> bytes | memoryview:
        """The next piece, `b""` at the end. Raises when the body is not what was promised."""


class Hashing(Protocol):
    """Everything that is computed over a body."""

    def update(self, data: Piece, /) -> None: ...


class Received(msgspec.Struct, frozen=True, gc=False):
    """A body taken in: `data` when small, else `extents` of chunks that are not flushed yet; as
    they are unless there is a `coding`.
    """

    size: int
    data: bytes = b""
    extents: tuple[Extent, ...] = ()
    coding: tuple[Coding, ...] = ()


class UploadMemory(AbstractAsyncContextManager["UploadMemory"]):
    """What large bodies under way may hold in this process; entered once for each of them."""

    def __init__(self, limit: int = UPLOAD_MEMORY_BYTES) -> None:
        self._limit = limit
        self._bodies = 0
        self._crowded = False
        self._turns = asyncio.Semaphore(limit // (2 * UPLOAD_PIECE_BYTES_MIN))

    @property
    def load_bytes(self) -> int:
        """The size of a load at present: two of them for each body are within the limit."""
        fair = self._limit // (2 * max(1, self._bodies))
        return max(UPLOAD_PIECE_BYTES_MIN, min(UPLOAD_PIECE_BYTES_MAX, fair))

    async def __aenter__(self) -> UploadMemory:
        await self._turns.acquire()
        self._bodies += 1
        self._crowded = self._crowded or self._bodies >= CROWD_OF_BODIES
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._bodies -= 1
        self._turns.release()
        if not self._bodies and self._crowded:
            # What many bodies held stays with the allocator otherwise, in holes of its heap.
            self._crowded = False
            _malloc_trim(0)


async def receive(
    payload: Payload, hashing: Hashing, chunks: ChunkWriter, memory: UploadMemory
) -> Received:
    """Read the payload to its end. Raises: what the payload raises, MediaFullError."""
    pieces: deque[Piece] = deque()
    size = 0
    while size <= RECORD_BODY_BYTES_MAX:
        piece = await payload.read()
        if not piece:
            data = bytes(pieces[0]) if len(pieces) == 1 else b"".join(pieces)
            hashing.update(data)
            return Received(size, data)
        pieces.append(piece)
        size += len(piece)
    invariant(size <= payload.length, _AS_LONG)
    async with memory:
        return await _Storing(payload, pieces, hashing, chunks, memory).run()


class _Storing:
    """Stores one large body."""

    def __init__(
        self,
        payload: Payload,
        held: deque[Piece],
        hashing: Hashing,
        chunks: ChunkWriter,
        memory: UploadMemory,
    ) -> None:
        self._payload = payload
        self._held = held
        self._hashing = hashing
        self._chunks = chunks
        self._memory = memory

        self._open = ExitStack()
        self._gathered: tuple[ChunkInProgress, list[Piece], bool] | None = None
        self._extents: list[Extent] = []

    async def run(self) -> Received:
        left = self._payload.length
        with self._open:
            while left:
                size = min(left, self._chunks.chunk_bytes_max)
                await self._store_chunk(size)
                left -= size
            await self._write()
        invariant(not await self._payload.read(), _AS_LONG)
        return Received(self._payload.length, b"", tuple(self._extents))

    async def _store_chunk(self, size: int) -> None:
        """Gather the chunk's loads, each while the one before it is written; the last one is
        written with what comes next.
        """
        chunk = self._chunks.begin(size)
        self._open.callback(chunk.close)
        left = size
        while left:
            wanted = min(left, self._memory.load_bytes)
            load, written = await asyncio.gather(
                self._gather(wanted), self._write(), return_exceptions=True
            )
            if isinstance(load, BaseException):
                try:
                    raise load
                finally:
                    del load  # or frame and error would keep each other, and what was gathered
            if isinstance(written, BaseException):
                try:
                    raise written
                finally:
                    del written
            left -= wanted
            self._gathered = chunk, load, not left

    async def _write(self) -> None:
        gathered, self._gathered = self._gathered, None
        if gathered is None:
            return
        chunk, load, last = gathered
        if last:
            self._extents.append(await chunk.finish(load, self._hashing.update))
        else:
            await chunk.append(load, self._hashing.update)

    async def _gather(self, wanted: int) -> list[Piece]:
        """The next bytes, as many as wanted; small pieces are put together."""
        load: list[Piece] = []
        while wanted:
            piece = self._held.popleft() if self._held else await self._payload.read()
            invariant(len(piece) > 0, _AS_LONG)
            if len(piece) > wanted:
                view = memoryview(piece)
                self._held.appendleft(view[wanted:])
                piece = view[:wanted]
            wanted -= len(piece)
            if len(piece) > JOINED_PIECE_BYTES_MAX:
                load.append(piece)
            elif load and isinstance(load[-1], bytearray):
                load[-1] += piece
            else:
                load.append(bytearray(piece))
        return load

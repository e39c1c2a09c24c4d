"""Taking a body in: bounded memory, hashed once, small bodies kept whole, large ones as chunks.

Theory of operation. A body of at most RECORD_BODY_BYTES_MAX stays in memory and goes along in its
record. A larger one is cut into chunks; while one chunk is hashed and written in threads the next
one is received, so a body holds two chunks of memory at most. Nothing names the chunks until the
caller, having checked every digest, puts a version that does: a body that turns out wrong leaves
only bytes that nobody refers to.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Mapping
from typing import Protocol

import msgspec

from ..core.limits import RECORD_BODY_BYTES_MAX, UPLOAD_CHUNK_BYTES
from ..media.api import ChunkWriter, Extent
from ..runtime.driving import inside_task

Piece = bytes | bytearray | memoryview


class Payload(Protocol):
    """An object's bytes as they come: framing and signatures are already dealt with.

    `trailers` are those of the body, complete once it was read to its end.
    """

    @property
    def trailers(self) -> Mapping[str, str]: ...

    async def read(self) -> bytes:
        """The next piece, `b""` at the end. Raises when the body is not what was promised."""


class Hashing(Protocol):
    """Everything that is computed over a body."""

    def update(self, data: Piece) -> None: ...


class Received(msgspec.Struct, frozen=True, gc=False):
    """A body taken in: `data` when small, else `extents` of chunks that are not flushed yet."""

    size: int
    data: bytes = b""
    extents: tuple[Extent, ...] = ()


async def receive(payload: Payload, hashing: Hashing, chunks: ChunkWriter) -> Received:
    """Read the payload to its end. Raises: what the payload raises, MediaFullError."""
    pieces: list[bytes] = []
    size = 0
    while size <= RECORD_BODY_BYTES_MAX:
        piece = await payload.read()
        if not piece:
            data = pieces[0] if len(pieces) == 1 else b"".join(pieces)
            hashing.update(data)
            return Received(size, data)
        pieces.append(piece)
        size += len(piece)
    return await _receive_chunks(_Cutter(payload, pieces), hashing, chunks)


async def _receive_chunks(cutter: _Cutter, hashing: Hashing, chunks: ChunkWriter) -> Received:
    extents: list[Extent] = []
    size = 0
    await inside_task()
    try:
        async with asyncio.TaskGroup() as group:
            storing: asyncio.Task[Extent] | None = None
            while chunk := await cutter.next():
                size += len(chunk)
                if storing is not None:
                    extents.append(await storing)
                storing = group.create_task(_store(chunk, hashing, chunks.write))
            if storing is not None:
                extents.append(await storing)
    except ExceptionGroup as failed:
        raise failed.exceptions[0] from failed
    return Received(size, b"", tuple(extents))


async def _store(
    chunk: bytearray,
    hashing: Hashing,
    write: Callable[[memoryview], Awaitable[Extent]],
) -> Extent:
    loop = asyncio.get_running_loop()
    hashed = loop.run_in_executor(None, hashing.update, chunk)
    try:
        return await write(memoryview(chunk))
    finally:
        await hashed


class _Cutter:
    """Cuts a payload into chunks of UPLOAD_CHUNK_BYTES; the last one may be shorter."""

    def __init__(self, payload: Payload, held: list[bytes]) -> None:
        self._payload = payload
        self._held: deque[Piece] = deque(held)

    async def next(self) -> bytearray:
        """The next chunk; empty at the end."""
        chunk = bytearray()
        while True:
            piece = self._held.popleft() if self._held else await self._payload.read()
            if not piece:
                return chunk
            room = UPLOAD_CHUNK_BYTES - len(chunk)
            if len(piece) < room:
                chunk += piece
                continue
            view = memoryview(piece)
            chunk += view[:room]
            if len(piece) > room:
                self._held.appendleft(view[room:])
            return chunk

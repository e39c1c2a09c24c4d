"""Taking a body in: bounded memory, hashed once, small bodies kept whole, large ones as chunks.

Theory of operation. A body of at most RECORD_BODY_BYTES_MAX stays in memory and goes along in its
record. A larger one is stored as chunks while it comes. What has come is gathered, without a copy,
into a *load*; a load is hashed and written in one pass in a thread while the next one is gathered,
so a body holds two loads of memory at most. Loads get smaller the more bodies are under way, and
when the smallest ones would not fit the process's `UploadMemory`, bodies wait for their turn: they
are not read from, which their clients' sockets feel, and nobody is told an error. A turn is for
those who send: who has not filled a load in `UPLOAD_TURN_S` while others wait has what came
written, and leaves its turn until more has come.

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
    UPLOAD_TURN_S,
)
from ..media.api import ChunkInProgress, ChunkWriter, Extent
from ..metadata_service.api import Coding

JOINED_PIECE_BYTES_MAX = 8 * KIB
"""A piece up to this size is copied: lists of small ones cost more memory than their bytes."""

CROWD_OF_BODIES = 8
_LOOK_S = 0.25

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


class UploadMemory:
    """What large bodies under way may hold in this process, in turns."""

    def __init__(self, limit: int = UPLOAD_MEMORY_BYTES) -> None:
        self._limit = limit
        self._bodies = 0
        self._crowded = False
        self._turns_max = limit // (2 * UPLOAD_PIECE_BYTES_MIN)
        self._turns = asyncio.Semaphore(self._turns_max)

    @property
    def load_bytes(self) -> int:
        """The size of a load at present: two of them for each body are within the limit. Whole
        multiples of the smallest are cheaper for the medium.
        """
        fair = self._limit // (2 * max(1, self._bodies))
        fair -= fair % UPLOAD_PIECE_BYTES_MIN
        return max(UPLOAD_PIECE_BYTES_MIN, min(UPLOAD_PIECE_BYTES_MAX, fair))

    @property
    def scarce(self) -> bool:
        """Whether it may soon matter who has a turn: half of them are taken."""
        return 2 * self._bodies >= self._turns_max

    @property
    def wanted(self) -> bool:
        """Whether bodies wait for a turn."""
        return self._turns.locked()

    async def take(self) -> None:
        """Wait for a turn; whoever got one leaves it."""
        await self._turns.acquire()
        self._bodies += 1
        self._crowded = self._crowded or self._bodies >= CROWD_OF_BODIES

    def leave(self) -> None:
        self._bodies -= 1
        self._turns.release()
        if not self._bodies and self._crowded:
            # What many bodies held stays with the allocator otherwise, in holes of its heap.
            self._crowded = False
            _malloc_trim(0)


class Turn(AbstractAsyncContextManager["Turn"]):
    """One body's turn; left at the end, whether it was had at the time or not."""

    def __init__(self, memory: UploadMemory) -> None:
        self.memory = memory
        self._had = False

    async def __aenter__(self) -> Turn:
        await self.memory.take()
        self._had = True
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._had:
            self.memory.leave()

    async def without(self, awaited: asyncio.Future[tuple[bytes | memoryview]]) -> None:
        """Leave the turn until that has come, and take one again."""
        self._had = False
        self.memory.leave()
        await asyncio.wait([awaited])
        await self.__aenter__()


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
    async with Turn(memory) as turn:
        return await _Storing(payload, pieces, hashing, chunks, turn).run()


class _Storing:
    """Stores one large body."""

    def __init__(
        self,
        payload: Payload,
        held: deque[Piece],
        hashing: Hashing,
        chunks: ChunkWriter,
        turn: Turn,
    ) -> None:
        self._payload = payload
        self._held = held
        self._hashing = hashing
        self._chunks = chunks
        self._memory = turn.memory
        self._turn = turn
        self._loop = asyncio.get_running_loop()

        self._open = ExitStack()
        self._gathered: tuple[ChunkInProgress, list[Piece], bool] | None = None
        self._reading: asyncio.Future[tuple[bytes | memoryview]] | None = None
        self._extents: list[Extent] = []
        self._finished: deque[ChunkInProgress] = deque()

    async def run(self) -> Received:
        left = self._payload.length
        with self._open:
            try:
                while left:
                    size = min(left, self._chunks.chunk_bytes_max)
                    await self._store_chunk(size)
                    left -= size
            finally:
                await self._stop_reading()
            await self._write()
            await self._settle(0)
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
            left -= sum(map(len, load))
            if load:
                self._gathered = chunk, load, not left
            if self._reading is not None:
                await self._write()
                await self._turn.without(self._reading)

    async def _write(self) -> None:
        gathered, self._gathered = self._gathered, None
        if gathered is None:
            return
        chunk, load, last = gathered
        if last:
            self._extents.append(await chunk.finish(load, self._hashing.update))
            self._finished.append(chunk)
            await self._settle(1)
        else:
            await chunk.append(load, self._hashing.update)

    async def _settle(self, behind: int) -> None:
        """Wait until all finished chunks but so many are written."""
        while len(self._finished) > behind:
            await self._finished.popleft().settle()

    async def _gather(self, wanted: int) -> list[Piece]:
        """The next bytes, as many as wanted; small pieces are put together. Fewer, maybe none, when
        they do not come in time and the turn is to be left: then `_reading` has what comes next.
        """
        load: list[Piece] = []
        until = self._loop.time() + UPLOAD_TURN_S
        while wanted:
            if self._held:
                piece = self._held.popleft()
            elif self._reading is None and not (self._chunks.streams and self._memory.scarce):
                piece = await self._payload.read()
            elif not await self._came(until):
                break
            else:
                continue
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

    async def _came(self, until: float) -> bool:
        """Whether the next piece is there, which is held then; False when it is not in time and
        others wait.
        """
        reading = self._reading
        if reading is None:
            reading = self._reading = asyncio.gather(self._payload.read())
        while not reading.done():
            await asyncio.wait([reading], timeout=max(until - self._loop.time(), _LOOK_S))
            late = self._loop.time() >= until and not reading.done()
            if late and self._memory.wanted:
                return False
        self._reading = None
        (piece,) = reading.result()
        invariant(len(piece) > 0, _AS_LONG)
        self._held.append(piece)
        return True

    async def _stop_reading(self) -> None:
        """Nobody else may read the payload before this is over."""
        if self._reading is not None:
            self._reading.cancel()
            await asyncio.wait([self._reading])

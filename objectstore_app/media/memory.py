"""The media in memory, for tests: the same interfaces, and a plan of faults for the log.

A `MemoryStore` outlives the writers opened on it, as a disk outlives processes. `MemoryLog.append`
asks its `Faults` what survives of an append when the power fails in the midst of it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

from ..core.errors import invariant
from ..core.ids import ShardId
from ..core.limits import CHUNK_BYTES_MAX, COMMIT_BYTES_MAX, LOG_SEGMENT_BYTES_MAX
from .api import Also, Buffer, ChunkWriter, Extent, LogPiece, nothing
from .errors import CorruptDataError, MediaFailedError, MediaFullError
from .segments import (
    SEGMENT_HEADER_BYTES,
    check_blocks,
    check_header,
    checksum,
    chunk_segment,
    corrupt,
    encode_header,
    encode_table,
    log_segment,
    table_bytes,
)


class PowerLossError(MediaFailedError):
    """The planned fault: the process is to be taken for dead."""


@dataclass(slots=True)
class Faults:
    """At append number `power_loss_at` (from 1) only `keep_bytes` of its bytes survive, those in
    `holes` (start, end, relative to the append) as zeros. At append number `full_at` there is no
    room, once. `room` is what the medium says is free.
    """

    power_loss_at: int = 0
    keep_bytes: int = 0
    holes: tuple[tuple[int, int], ...] = ()
    full_at: int = 0
    room: int = 1 << 40


@dataclass(slots=True)
class MemoryStore:
    """The bytes of all segments by number."""

    segments: dict[int, bytearray] = field(default_factory=dict)

    def logs(self, shard: ShardId) -> list[int]:
        return sorted(number for number in self.segments if number >> 32 == shard)


class MemoryLog:
    """LogMedium over a MemoryStore."""

    def __init__(
        self,
        store: MemoryStore,
        shard: ShardId,
        *,
        segment_bytes_max: int = LOG_SEGMENT_BYTES_MAX,
        zeros_ahead: int = 0,
        faults: Faults | None = None,
    ) -> None:
        """New segments are filled with `zeros_ahead` zeros."""
        self._store = store
        self._segment_bytes_max = segment_bytes_max
        self._zeros_ahead = zeros_ahead
        self._faults = faults or Faults()
        self._appends = 0
        self._dead = False
        logs = store.logs(shard)
        self._current = logs[-1] if logs else log_segment(shard, 1)
        self._size = 0
        if not logs:
            self._start(self._current)

    def append(self, buffers: Sequence[bytes | memoryview]) -> tuple[int, int]:
        if self._dead:
            raise PowerLossError("append", "memory log")
        self._appends += 1
        if self._appends == self._faults.full_at:
            raise MediaFullError("append", "memory log")
        segment, offset = self.position()
        data = bytearray().join(buffers)
        if self._appends == self._faults.power_loss_at:
            self._dead = True
            for start, end in self._faults.holes:
                data[start:end] = bytes(len(data[start:end]))
            del data[self._faults.keep_bytes :]
        self._size += len(data)
        self._store.segments[segment][offset : self._size] = data
        if self._dead:
            raise PowerLossError("append", "memory log")
        return segment, offset

    def scan(self, segment: int, offset: int) -> Iterator[LogPiece]:
        for number in self._store.logs(ShardId(self._current >> 32)):
            if number < segment:
                continue
            start = offset if number == segment else SEGMENT_HEADER_BYTES
            content = bytes(self._store.segments[number])
            start = min(start, len(content))
            salt = check_header(number, content[:SEGMENT_HEADER_BYTES])
            yield LogPiece(number, start, memoryview(content)[start:], salt)

    def resume(self, segment: int, offset: int, *, torn: bool) -> None:
        invariant(segment == self._current, "recovery reads to the last segment")
        if torn:
            del self._store.segments[segment][offset:]
        self._size = offset

    def position(self) -> tuple[int, int]:
        invariant(self._size > 0, "a log that was there before is resumed first")
        size = self._size
        if size + COMMIT_BYTES_MAX > self._segment_bytes_max and size > SEGMENT_HEADER_BYTES:
            self._current += 1
            self._start(self._current)
        return self._current, self._size

    @property
    def contested(self) -> bool:
        return False

    def confirm(self) -> bool:
        return True

    def epoch_after(self, epoch: int) -> int:
        return epoch + 1

    def room(self) -> int:
        return self._faults.room

    @property
    def salt(self) -> int:
        return _salt(self._current)

    def release(self) -> None:
        """Nobody waits for it: the store is this process's."""

    def close(self) -> None:
        self._dead = True

    def _start(self, segment: int) -> None:
        header = encode_header(segment, _salt(segment))
        self._store.segments[segment] = bytearray(header) + bytes(self._zeros_ahead)
        self._size = SEGMENT_HEADER_BYTES


def _salt(segment: int) -> int:
    return checksum(segment.to_bytes(8, "little"))


class MemoryChunk:
    """ChunkInProgress that is put into the store when it is whole."""

    def __init__(self, length: int, put: Callable[[bytes], Extent]) -> None:
        self._data = bytearray()
        self._length = length
        self._put = put

    async def append(self, pieces: Sequence[Buffer], also: Also = nothing) -> None:
        for piece in pieces:
            also(piece)
            self._data += piece

    async def finish(self, pieces: Sequence[Buffer], also: Also = nothing) -> Extent:
        await self.append(pieces, also)
        invariant(len(self._data) == self._length, "a chunk has the length it began with")
        # Whoever writes a body may hold on to its chunks until the last one, not to their bytes.
        data, self._data = bytes(self._data), bytearray()
        return self._put(data)

    async def settle(self) -> None:
        """It is there."""

    def close(self) -> None:
        """Nothing names what was not put."""


class MemoryChunks(ChunkWriter):
    """ChunkWriter over a MemoryStore; each writer has one segment of its own."""

    def __init__(self, store: MemoryStore) -> None:
        self._store = store
        self._segment = chunk_segment(time.time_ns() // 1_000_000, len(store.segments))
        store.segments[self._segment] = bytearray(encode_header(self._segment))

    @property
    def chunk_bytes_max(self) -> int:
        return CHUNK_BYTES_MAX

    @property
    def streams(self) -> bool:
        return True

    def begin(self, length: int) -> MemoryChunk:
        return MemoryChunk(length, self.put)

    async def flush(self) -> None:
        return None

    async def close(self) -> None:
        return None

    def put(self, data: bytes) -> Extent:
        content = self._store.segments[self._segment]
        offset = len(content)
        table = encode_table(memoryview(data))
        content += data
        content += table
        return Extent(self._segment, offset, len(data), checksum(table), blocks=True)


class MemoryReader:
    """ExtentReader over a MemoryStore; always verifies the whole extent."""

    def __init__(self, store: MemoryStore) -> None:
        self._store = store

    async def read(self, extent: Extent, start: int, length: int) -> bytes | memoryview:
        content = self._store.segments.get(extent.segment)
        if content is None:
            raise CorruptDataError("read", f"segment {extent.segment:#x}", "there is none")
        end = extent.offset + extent.length
        data = memoryview(bytes(content[extent.offset : end]))
        if extent.blocks:
            table = bytes(content[end : end + table_bytes(extent.length)])
            if checksum(table) != extent.crc or len(data) != extent.length:
                raise corrupt(extent.segment, end, "a chunk's table")
            check_blocks(data, table, 0, extent.segment, extent.offset)
        elif checksum(data) != extent.crc or len(data) != extent.length:
            raise corrupt(extent.segment, extent.offset, "a record's body")
        return data[start : start + length]

    @property
    def ahead(self) -> None:
        """It is all there."""

    def file_of(self, extent: Extent) -> None:
        """Memory is no file."""

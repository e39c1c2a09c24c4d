"""The media in memory, for tests: the same interfaces, and a plan of faults for the log.

A `MemoryStore` outlives the writers opened on it, as a disk outlives processes. `MemoryLog.append`
asks its `Faults` what survives of an append when the power fails in the midst of it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from ..core.ids import ShardId
from ..core.limits import COMMIT_BYTES_MAX, SEGMENT_BYTES_MAX
from .api import Extent
from .errors import CorruptDataError, MediaFailedError, MediaFullError
from .segments import (
    CHUNK_BIT,
    SEGMENT_HEADER_BYTES,
    check_blocks,
    checksum,
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
    room, once.
    """

    power_loss_at: int = 0
    keep_bytes: int = 0
    holes: tuple[tuple[int, int], ...] = ()
    full_at: int = 0


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
        segment_bytes_max: int = SEGMENT_BYTES_MAX,
        faults: Faults | None = None,
    ) -> None:
        self._store = store
        self._segment_bytes_max = segment_bytes_max
        self._faults = faults or Faults()
        self._appends = 0
        self._dead = False
        logs = store.logs(shard)
        self._current = logs[-1] if logs else log_segment(shard, 1)
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
            self._store.segments[segment] += data[: self._faults.keep_bytes]
            raise PowerLossError("append", "memory log")
        self._store.segments[segment] += data
        return segment, offset

    def scan(self, segment: int, offset: int) -> Iterator[tuple[int, int, memoryview]]:
        for number in self._store.logs(ShardId(self._current >> 32)):
            if number < segment:
                continue
            start = offset if number == segment else SEGMENT_HEADER_BYTES
            start = min(start, len(self._store.segments[number]))
            yield number, start, memoryview(bytes(self._store.segments[number]))[start:]

    def truncate(self, segment: int, offset: int) -> None:
        for number in self._store.logs(ShardId(self._current >> 32)):
            if number > segment:
                del self._store.segments[number]
        del self._store.segments[segment][offset:]
        self._current = segment

    def position(self) -> tuple[int, int]:
        size = len(self._store.segments[self._current])
        if size + COMMIT_BYTES_MAX > self._segment_bytes_max and size > SEGMENT_HEADER_BYTES:
            self._current += 1
            self._start(self._current)
            size = SEGMENT_HEADER_BYTES
        return self._current, size

    def close(self) -> None:
        self._dead = True

    def _start(self, segment: int) -> None:
        self._store.segments[segment] = bytearray(encode_header(segment))


class MemoryChunks:
    """ChunkWriter over a MemoryStore; each writer has one segment of its own."""

    def __init__(self, store: MemoryStore) -> None:
        self._store = store
        self._segment = CHUNK_BIT | len(store.segments) + 1
        store.segments[self._segment] = bytearray(encode_header(self._segment))

    async def write(self, data: bytes | memoryview) -> Extent:
        content = self._store.segments[self._segment]
        offset = len(content)
        table = encode_table(memoryview(data))
        content += data
        content += table
        return Extent(self._segment, offset, len(data), checksum(table), blocks=True)

    async def flush(self) -> None:
        return None

    async def close(self) -> None:
        return None


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

"""Chunks and extents on a local directory: what a front end writes itself, and how it reads.

`LocalChunks` owns its segment files, made with O_EXCL at the first write, so processes need no
agreement. Places are handed out on the loop, bytes are written in threads as they come; a place
whose write failed stays a hole that nothing names, one that was given up is handed out again if it
is the last. A thread goes on when its caller is cancelled: a place is given up, and a segment
closed, once no thread writes or flushes it any more, for its descriptor's number may be another
file's a moment later. What a thread wrote is on its way to the disk at once, so that the flush
before the acknowledgement has little left to wait for. `LocalReader` verifies what it returns: a
record's body whole, of a chunk only the blocks that the range touches.
"""

from __future__ import annotations

import asyncio
import ctypes
import os
import secrets
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from ..core.errors import invariant
from ..core.limits import (
    CHECKSUM_BLOCK_BYTES,
    CHUNK_BYTES_MAX,
    CHUNK_SEGMENT_S_MAX,
    CHUNKS_FREE_BYTES_MIN,
    KIB,
    OPEN_SEGMENTS_MAX,
    SEGMENT_BYTES_MAX,
)
from ..runtime.logging import event
from .api import Also, Buffer, ChunkWriter, Extent, nothing
from .errors import CorruptDataError, MediaFailedError, MediaFullError
from .files import LocalChunkFile
from .local import NO_ROOM
from .segments import (
    SEGMENT_HEADER_BYTES,
    TableBuilder,
    check_blocks,
    checksum,
    chunk_segment,
    chunk_segment_made_ms,
    corrupt,
    encode_header,
    segment_path,
    table_bytes,
)
from .store import check_room, sync_folder, write_all

INLINE_READ_BYTES_MAX = 256 * KIB

_sync_file_range = ctypes.CDLL(None).sync_file_range
_sync_file_range.argtypes = (ctypes.c_int, ctypes.c_int64, ctypes.c_int64, ctypes.c_uint)
_SYNC_FILE_RANGE_WRITE = 2
_IOV_MAX = 1024


@dataclass(slots=True, eq=False)
class _Segment:
    """`size` is where the next chunk goes, `written` the end of what was written whole, `open` how
    many chunks are being written.
    """

    number: int
    path: Path
    fd: int
    size: int = SEGMENT_HEADER_BYTES
    written: int = SEGMENT_HEADER_BYTES
    open: int = 0
    sealed: bool = False


class LocalChunks(ChunkWriter):
    """ChunkWriter of one process."""

    def __init__(
        self,
        data_dir: Path,
        now_ms: Callable[[], int],
        *,
        segment_bytes_max: int = SEGMENT_BYTES_MAX,
        on_failed_flush: Callable[[], None] = lambda: None,
    ) -> None:
        """After a failed flush nothing can be written any more: `on_failed_flush` has to see to it
        that the process ends.
        """
        self._data_dir = data_dir
        self._now_ms = now_ms
        self._segment_bytes_max = segment_bytes_max
        self._on_failed_flush = on_failed_flush
        self._segment: _Segment | None = None
        self._dirty: set[_Segment] = set()
        self._in_flush: set[_Segment] = set()
        self._written = 0
        self._flushed = 0
        self._flushing: asyncio.Future[None] | None = None
        self._failed = False

    @property
    def chunk_bytes_max(self) -> int:
        return CHUNK_BYTES_MAX

    @property
    def streams(self) -> bool:
        return True

    def begin(self, length: int) -> LocalChunk:
        self._check()
        invariant(0 < length <= CHUNK_BYTES_MAX, "a chunk has 1 to CHUNK_BYTES_MAX bytes")
        self._check_room()
        total = length + table_bytes(length)
        segment = self._segment
        if segment is None or segment.sealed or segment.size + total > self._segment_bytes_max:
            segment = self._roll()
        elif self._now_ms() - chunk_segment_made_ms(segment.number) > CHUNK_SEGMENT_S_MAX * 1000:
            segment = self._roll()  # a writer refuses chunks of old segments
        offset = segment.size
        segment.size += total
        segment.open += 1
        return LocalChunk(self, segment, offset, length)

    async def flush(self) -> None:
        wanted = self._written
        while self._flushed < wanted:
            self._check()
            if self._flushing is None:
                self._start_flush()
            if self._flushing is not None:
                await asyncio.wait([self._flushing])
        self._check()

    async def close(self) -> None:
        if not self._failed:
            await self.flush()
        if self._segment is not None:
            self._segment.sealed = True
            self._close_if_done(self._segment)
        self._segment = None
        self._failed = True

    def _check(self) -> None:
        if self._failed:
            raise MediaFailedError("write chunk", str(self._data_dir), "closed or flush failed")

    def ended(self, segment: _Segment, offset: int, end: int, *, failed: bool, whole: bool) -> None:
        """A chunk's place is used no more; what lies there is `whole` or worth nothing."""
        segment.open -= 1
        if failed:
            segment.sealed = True
        elif whole:
            segment.written = max(segment.written, end)
            self._dirty.add(segment)
            self._written += 1
        elif segment.size == end:
            segment.size = offset
        self._close_if_done(segment)

    def _close_if_done(self, segment: _Segment) -> None:
        """Close a sealed segment that no thread uses and no flush waits for."""
        if not segment.sealed or segment.open or segment.fd < 0:
            return
        if segment in self._dirty or segment in self._in_flush:
            return
        try:
            if segment.written == SEGMENT_HEADER_BYTES:
                segment.path.unlink()
            elif segment.written < segment.size:
                os.ftruncate(segment.fd, segment.written)  # what a failed write left takes room
        except OSError as error:
            event("chunk_segment_not_trimmed", file=segment.path.name, reason=str(error))
        os.close(segment.fd)
        segment.fd = -1

    def _check_room(self) -> None:
        try:
            check_room(self._data_dir, CHUNKS_FREE_BYTES_MIN)
        except OSError as error:
            raise MediaFailedError("write chunk", str(self._data_dir), str(error)) from error

    def _start_flush(self) -> None:
        """Flush what is written now; who writes later waits for the next flush."""
        covered, dirty = self._written, tuple(self._dirty)
        self._dirty.clear()
        self._in_flush.update(dirty)
        loop = asyncio.get_running_loop()
        flushing = loop.run_in_executor(None, _sync_all, [segment.fd for segment in dirty])

        def done(future: asyncio.Future[None]) -> None:
            self._flushing = None
            self._in_flush.clear()
            if future.cancelled() or future.exception() is not None:
                self._failed = True
                event("chunk_flush_failed", reason=str(future.exception()))
                self._on_failed_flush()
                return
            self._flushed = covered
            for segment in dirty:
                self._close_if_done(segment)

        flushing.add_done_callback(done)
        self._flushing = flushing

    def _roll(self) -> _Segment:
        if self._segment is not None:
            self._segment.sealed = True
            self._close_if_done(self._segment)
        try:
            self._segment = self._create()
        except OSError as error:
            self._segment = None
            kind = MediaFullError if error.errno in NO_ROOM else MediaFailedError
            raise kind("start chunk segment", str(self._data_dir), str(error)) from error
        return self._segment

    def _create(self) -> _Segment:
        while True:
            number = chunk_segment(self._now_ms(), secrets.randbits(20))
            path = segment_path(self._data_dir, number)
            try:
                fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644)
            except FileExistsError:
                continue
            try:
                write_all(fd, encode_header(number), 0)
                sync_folder(path.parent)
            except OSError:
                os.close(fd)
                raise
            return _Segment(number, path, fd)


class LocalChunk:
    """ChunkInProgress at a place in a segment. At most one of its threads runs at a time."""

    def __init__(self, writer: LocalChunks, segment: _Segment, offset: int, length: int) -> None:
        self._writer = writer
        self._segment = segment
        self._offset = offset
        self._length = length
        self._done = 0
        self._table = TableBuilder()
        self._writing: asyncio.Future[None] | None = None
        self._failed = False
        self._whole = False

    async def append(self, pieces: Sequence[Buffer], also: Also = nothing) -> None:
        size = sum(map(len, pieces))
        invariant(self._done + size < self._length, "the last bytes of a chunk finish it")
        await self._run(pieces, size, also, last=False)

    async def finish(self, pieces: Sequence[Buffer], also: Also = nothing) -> Extent:
        size = sum(map(len, pieces))
        invariant(self._done + size == self._length, "a chunk has the length it began with")
        await self._run(pieces, size, also, last=True)
        self._whole = True
        crc = checksum(self._table.encode())
        extent = Extent(self._segment.number, self._offset, self._length, crc, blocks=True)
        self.close()
        return extent

    async def settle(self) -> None:
        """`finish` waited."""

    def close(self) -> None:
        if self._writing is not None:
            self._writing.add_done_callback(lambda _: self.close())
        elif self._length:
            end = self._offset + self._length + table_bytes(self._length)
            self._writer.ended(
                self._segment, self._offset, end, failed=self._failed, whole=self._whole
            )
            self._length = 0

    async def _run(self, pieces: Sequence[Buffer], size: int, also: Also, *, last: bool) -> None:
        invariant(self._writing is None, "a chunk is written in order")
        place = self._offset + self._done
        self._done += size
        writing = asyncio.get_running_loop().run_in_executor(
            None, _write_pieces, self._segment.fd, place, pieces, self._table, also, last
        )
        self._writing = writing
        writing.add_done_callback(self._ran)
        try:
            await asyncio.shield(writing)
        except OSError as error:
            kind = MediaFullError if error.errno in NO_ROOM else MediaFailedError
            raise kind("write chunk", f"segment {self._segment.number:#x}", str(error)) from error

    def _ran(self, writing: asyncio.Future[None]) -> None:
        self._writing = None
        if writing.cancelled() or writing.exception() is not None:
            self._failed = True


def _write_pieces(
    fd: int,
    offset: int,
    pieces: Sequence[Buffer],
    table: TableBuilder,
    also: Also,
    last: bool,
) -> None:
    """One pass over pieces that the processor's cache still holds, then the write."""
    start = offset
    left: list[Buffer] = list(pieces)
    for piece in pieces:
        also(piece)
        table.update(piece)
    if last:
        left.append(table.encode())
    while left:
        done = os.pwritev(fd, left[:_IOV_MAX], offset)
        offset += done
        while left and done >= len(left[0]):
            done -= len(left.pop(0))
        if done:
            left[0] = memoryview(left[0])[done:]
    # Only a beginning: whether it went well is told by the flush, which alone makes durable.
    _sync_file_range(fd, start, offset - start, _SYNC_FILE_RANGE_WRITE)


def _sync_all(fds: list[int]) -> None:
    for fd in fds:
        os.fdatasync(fd)


class LocalReader:
    """ExtentReader of one process. Small reads run on the loop: most often the page cache has them,
    and a hop to a thread costs more than they do.
    """

    def __init__(self, data_dir: Path, *, open_files_max: int = OPEN_SEGMENTS_MAX) -> None:
        self._data_dir = data_dir
        self._open_files_max = open_files_max
        self._fds: OrderedDict[int, int] = OrderedDict()

    async def read(self, extent: Extent, start: int, length: int) -> bytes | memoryview:
        fd = self._fds.get(extent.segment)
        if fd is None:
            fd = self._open(extent.segment)
        if not extent.blocks:
            data = _pread(fd, extent.segment, extent.offset, extent.length)
            if checksum(data) != extent.crc:
                raise corrupt(extent.segment, extent.offset, "a record's body")
            return data if length == extent.length else memoryview(data)[start : start + length]
        if length <= INLINE_READ_BYTES_MAX:
            return _read_blocks(fd, extent, start, length)
        # The thread gets a descriptor of its own: the cache may close ours meanwhile. It must run,
        # whatever becomes of its caller, to close it.
        loop = asyncio.get_running_loop()
        own = _duplicate(fd, extent)
        reading = loop.run_in_executor(None, _read_blocks_and_close, own, extent, start, length)
        return await asyncio.shield(reading)

    @property
    def ahead(self) -> None:
        """The kernel does that."""

    def file_of(self, extent: Extent) -> LocalChunkFile | None:
        if not extent.blocks:
            return None
        return LocalChunkFile(segment_path(self._data_dir, extent.segment), extent)

    def close(self) -> None:
        while self._fds:
            os.close(self._fds.popitem()[1])

    def _open(self, segment: int) -> int:
        path = segment_path(self._data_dir, segment)
        try:
            fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError as error:
            raise CorruptDataError("read", str(path), "the segment is missing") from error
        except OSError as error:
            raise MediaFailedError("open segment", str(path), str(error)) from error
        if len(self._fds) >= self._open_files_max:
            os.close(self._fds.popitem(last=False)[1])
        self._fds[segment] = fd
        return fd


def _pread(fd: int, segment: int, offset: int, length: int) -> bytes:
    try:
        data = os.pread(fd, length, offset)
        while len(data) < length:
            more = os.pread(fd, length - len(data), offset + len(data))
            if not more:
                raise CorruptDataError(
                    "read", f"segment {segment:#x} offset {offset}", "the segment is too short"
                )
            data += more
    except OSError as error:
        raise MediaFailedError(
            "read", f"segment {segment:#x} offset {offset}", str(error)
        ) from error
    return data


def _read_blocks(fd: int, extent: Extent, start: int, length: int) -> memoryview:
    table_offset = extent.offset + extent.length
    table = _pread(fd, extent.segment, table_offset, table_bytes(extent.length))
    if checksum(table) != extent.crc:
        raise corrupt(extent.segment, table_offset, "a chunk's table")
    first = start // CHECKSUM_BLOCK_BYTES
    begin = first * CHECKSUM_BLOCK_BYTES
    end = min(-(-(start + length) // CHECKSUM_BLOCK_BYTES) * CHECKSUM_BLOCK_BYTES, extent.length)
    offset = extent.offset + begin
    data = memoryview(_pread(fd, extent.segment, offset, end - begin))
    check_blocks(data, table, first, extent.segment, offset)
    return data[start - begin : start - begin + length]


def _duplicate(fd: int, extent: Extent) -> int:
    try:
        return os.dup(fd)
    except OSError as error:
        raise MediaFailedError("read", f"segment {extent.segment:#x}", str(error)) from error


def _read_blocks_and_close(fd: int, extent: Extent, start: int, length: int) -> memoryview:
    try:
        return _read_blocks(fd, extent, start, length)
    finally:
        os.close(fd)

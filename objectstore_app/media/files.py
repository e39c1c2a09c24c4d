"""Chunks read as they are sent: verified in the memory that the kernel takes them from.

Theory of operation. A window of whole blocks is read into a buffer of the thread's own, compared
with the chunk's table and given out at once, while the processor's cache still holds it. That costs
less than to verify a file's pages and have the kernel send them from there, whose reader has to
fetch them from memory once more; and what was verified is what is sent. The buffer is used again
for the next window of whatever connection, so nothing is kept for a client that takes its time;
until then what lies in it is given out again without a read.

Little that the page cache has is read on the loop, which takes less than a thread's two wake-ups.
What it has not a thread reads, and asks the kernel for what comes next.

A reader holds a shared lock on its chunk's range as long as it is open, and whoever gives ranges of
segments back asks `lock_range` for an exclusive one first. So a download may last longer than any
grace. Where the file system has no such locks, chunks are read without, and nobody makes holes of
them: a segment that is wholly dead is unlinked, which leaves its bytes to who has it open.
"""

from __future__ import annotations

import asyncio
import errno
import fcntl
import functools
import os
import struct
import threading
from pathlib import Path

from ..core.errors import invariant
from ..core.limits import CHECKSUM_BLOCK_BYTES, MIB, SEND_WINDOW_BYTES_MAX
from ..runtime.logging import event
from .api import Extent
from .errors import CorruptDataError, MediaFailedError, UnsupportedError
from .segments import check_blocks, checksum, corrupt, table_bytes

_BUFFER_BYTES = SEND_WINDOW_BYTES_MAX + 2 * CHECKSUM_BLOCK_BYTES
READ_AHEAD_BYTES = 4 * MIB
_FLOCK = struct.Struct("@hhqqi4x")  # struct flock
_NO_LOCKS = (errno.EINVAL, errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP)
_WITHOUT_LOCKS = (
    "this file system has no locks on ranges of open files: room comes back only when all of a "
    "chunk segment is dead"
)


def lock_range(fd: int, start: int, end: int, *, exclusive: bool) -> bool:
    """Lock a range of a file until this opening of it is closed; False when another's lock forbids.

    The lock belongs to the opening, not to the process. A range that ends at 0 is all of the file.
    Raises: OSError, UnsupportedError.
    """
    kind = fcntl.F_WRLCK if exclusive else fcntl.F_RDLCK
    try:
        fcntl.fcntl(fd, fcntl.F_OFD_SETLK, _FLOCK.pack(kind, os.SEEK_SET, start, end - start, 0))
    except BlockingIOError:
        return False
    except OSError as error:
        if error.errno in _NO_LOCKS:
            raise UnsupportedError("lock", "chunks", _WITHOUT_LOCKS) from error
        raise
    return True


@functools.cache
def _say_once(error: str) -> None:
    event("chunks_not_locked", reason=error)


class LocalChunkFile:
    """ChunkFile of a segment on a local directory: an opening of its own, with the range locked."""

    def __init__(self, path: Path, extent: Extent) -> None:
        """Raises: MediaFailedError, CorruptDataError (the segment or the chunk is gone)."""
        end = extent.offset + extent.length + table_bytes(extent.length)
        self.fd = -1
        locked = False
        try:
            self.fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
            try:
                locked = lock_range(self.fd, extent.offset, end, exclusive=False)
            except UnsupportedError as error:
                locked = True
                _say_once(str(error))
        except FileNotFoundError as error:
            raise CorruptDataError("read", str(path), "the segment is missing") from error
        except OSError as error:
            raise MediaFailedError("read", f"segment {extent.segment:#x}", str(error)) from error
        finally:
            if not locked and self.fd >= 0:
                os.close(self.fd)
        if not locked:
            subject = f"segment {extent.segment:#x} offset {extent.offset}"
            raise CorruptDataError("read", subject, "the chunk is being given back")
        self._extent = extent
        self._table = b""
        self._fetching: asyncio.Future[None] | None = None
        self._closed = False

    def read(self, start: int, length: int, *, wait: bool = False) -> memoryview | None:
        data = self._read(start, length, os.RWF_NOWAIT)
        if data is None and wait:
            behind = self._extent.offset + start + length
            os.posix_fadvise(self.fd, behind, READ_AHEAD_BYTES, os.POSIX_FADV_WILLNEED)
            data = self._read(start, length, 0)
        return data

    async def fetch(self, start: int, length: int) -> None:
        loop = asyncio.get_running_loop()
        self._fetching = loop.run_in_executor(None, self._fetch, start, length)
        self._fetching.add_done_callback(self._fetched)
        await asyncio.shield(self._fetching)

    def close(self) -> None:
        """A thread that still reads keeps the descriptor until it is done."""
        self._closed = True
        if self._fetching is None and self.fd >= 0:
            os.close(self.fd)
            self.fd = -1

    def _fetched(self, fetching: asyncio.Future[None]) -> None:
        self._fetching = None
        if self._closed:
            fetching.exception()  # whoever waited for it is gone
            self.close()

    def _fetch(self, start: int, length: int) -> None:
        self.read(start, length, wait=True)

    def _read(self, start: int, length: int, flags: int) -> memoryview | None:
        extent, step = self._extent, CHECKSUM_BLOCK_BYTES
        if not self._table and not self._read_table(flags):
            return None
        first = start // step
        begin, end = first * step, min(-(-(start + length) // step) * step, extent.length)
        invariant(end - begin <= _BUFFER_BYTES, "a window is at most SEND_WINDOW_BYTES_MAX")
        scratch = _scratch
        if scratch.file is not self or begin < scratch.begin or end > scratch.end:
            scratch.file = None
            data = scratch.buffer[: end - begin]
            if not self._fill(data, extent.offset + begin, flags):
                return None
            check_blocks(data, self._table, first, extent.segment, extent.offset + begin)
            scratch.file, scratch.begin, scratch.end = self, begin, end
        at = start - scratch.begin
        return scratch.buffer[at : at + length]

    def _read_table(self, flags: int) -> bool:
        extent = self._extent
        buffer = memoryview(bytearray(table_bytes(extent.length)))
        offset = extent.offset + extent.length
        if not self._fill(buffer, offset, flags):
            return False
        if checksum(buffer) != extent.crc:
            raise corrupt(extent.segment, offset, "a chunk's table")
        self._table = bytes(buffer)
        return True

    def _fill(self, buffer: memoryview, offset: int, flags: int) -> bool:
        """Read all of the buffer; False when the flags forbid to wait for it."""
        subject = f"segment {self._extent.segment:#x} offset {offset}"
        while buffer:
            try:
                done = os.preadv(self.fd, [buffer], offset, flags)
            except BlockingIOError:
                return False
            except OSError as error:
                if flags and error.errno == errno.EOPNOTSUPP:
                    return False
                raise MediaFailedError("read", subject, str(error)) from error
            if not done:
                raise CorruptDataError("read", subject, "the segment is too short")
            buffer = buffer[done:]
            offset += done
        return True


class _Scratch(threading.local):
    """A thread's buffer, and which verified bytes of which chunk lie at its beginning."""

    def __init__(self) -> None:
        self.buffer = memoryview(bytearray(_BUFFER_BYTES))
        self.file: LocalChunkFile | None = None
        self.begin = self.end = 0


_scratch = _Scratch()

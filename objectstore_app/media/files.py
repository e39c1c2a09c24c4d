"""Chunks as ranges of files: verified where they lie, so that they can be sent without a copy.

Theory of operation. A range is read block by block into a small buffer of the thread's own, which
stays in the processor's cache, and compared with the chunk's table; nothing is kept. What the page
cache holds is what was verified, and the kernel sends it from there. (A mapping would cost no copy
at all, but page tables instead, and a read error would be the process's death.)

Between the look and the sending nobody may take the bytes away: a reader holds a shared lock on its
chunk's range as long as it is open, and whoever gives ranges of segments back asks `lock_range` for
an exclusive one first. So a download may last longer than any grace.

What the page cache has is verified on the loop: that takes less than a thread's two wake-ups. At
the first byte that is not there a thread takes over, and the kernel is asked for what comes next.
"""

from __future__ import annotations

import asyncio
import errno
import fcntl
import os
import struct
import threading
from pathlib import Path

from ..core.limits import CHECKSUM_BLOCK_BYTES, MIB
from .api import Extent
from .errors import CorruptDataError, MediaFailedError
from .segments import check_blocks, checksum, corrupt, table_bytes

_BUFFER_BYTES = 2 * CHECKSUM_BLOCK_BYTES
READ_AHEAD_BYTES = 4 * MIB
_FLOCK = struct.Struct("@hhqqi4x")  # struct flock


def lock_range(fd: int, start: int, end: int, *, exclusive: bool) -> bool:
    """Lock a range of a file until this opening of it is closed; False when another's lock forbids.

    The lock belongs to the opening, not to the process. Raises: OSError.
    """
    kind = fcntl.F_WRLCK if exclusive else fcntl.F_RDLCK
    try:
        fcntl.fcntl(fd, fcntl.F_OFD_SETLK, _FLOCK.pack(kind, os.SEEK_SET, start, end - start, 0))
    except BlockingIOError:
        return False
    return True


class LocalChunkFile:
    """ChunkFile of a segment on a local directory: an opening of its own, with the range locked."""

    def __init__(self, path: Path, extent: Extent) -> None:
        """Raises: MediaFailedError, CorruptDataError (the segment or the chunk is gone)."""
        end = extent.offset + extent.length + table_bytes(extent.length)
        try:
            self.fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
            locked = lock_range(self.fd, extent.offset, end, exclusive=False)
        except FileNotFoundError as error:
            raise CorruptDataError("read", str(path), "the segment is missing") from error
        except OSError as error:
            raise MediaFailedError("read", f"segment {extent.segment:#x}", str(error)) from error
        if not locked:
            os.close(self.fd)
            subject = f"segment {extent.segment:#x} offset {extent.offset}"
            raise CorruptDataError("read", subject, "the chunk is being given back")
        self._extent = extent
        self._table = b""
        self._verifying: asyncio.Future[None] | None = None
        self._closed = False

    @property
    def offset(self) -> int:
        return self._extent.offset

    async def verify(self, start: int, length: int) -> None:
        step = CHECKSUM_BLOCK_BYTES
        end = min(-(-(start + length) // step) * step, self._extent.length)
        start = self._verify(start - start % step, end, os.RWF_NOWAIT)
        if start < end:
            loop = asyncio.get_running_loop()
            self._verifying = loop.run_in_executor(None, self._verify_cold, start, end)
            self._verifying.add_done_callback(self._verified)
            await asyncio.shield(self._verifying)

    def close(self) -> None:
        """A thread that still reads keeps the descriptor until it is done."""
        self._closed = True
        if self._verifying is None and self.fd >= 0:
            os.close(self.fd)
            self.fd = -1

    def _verified(self, verifying: asyncio.Future[None]) -> None:
        self._verifying = None
        if self._closed:
            verifying.exception()  # whoever waited for it is gone
            self.close()

    def _verify_cold(self, start: int, end: int) -> None:
        os.posix_fadvise(
            self.fd, self._extent.offset + end, READ_AHEAD_BYTES, os.POSIX_FADV_WILLNEED
        )
        self._verify(start, end, 0)

    def _verify(self, start: int, end: int, flags: int) -> int:
        """Verify whole blocks; return where it stopped for want of cached bytes."""
        extent = self._extent
        buffer = _scratch.buffer
        if not self._table and not self._read_table(flags):
            return start
        for place in range(start, end, _BUFFER_BYTES):
            data = buffer[: min(_BUFFER_BYTES, end - place)]
            if not self._fill(data, extent.offset + place, flags):
                return place
            first = place // CHECKSUM_BLOCK_BYTES
            check_blocks(data, self._table, first, extent.segment, extent.offset + place)
        return end

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
    def __init__(self) -> None:
        self.buffer = memoryview(bytearray(_BUFFER_BYTES))


_scratch = _Scratch()

"""A shard's log on a local directory: segment files, `pwrite` and `fdatasync`.

Theory of operation. The newest segment file is open for appending. A segment appears by a rename,
header and name already durable, so a header is never torn. The log rolls as soon as a full commit
may not fit any more; so the place of the next append is known before it is made. It rolls early,
too, from a file that grows into one that was filled with zeros ahead (`spare.py`), whose flushes
take half the time; zeros behind the last record are the end of a segment, whichever it is.

A write that fails for want of room is cut off again and the log stays usable. After a failed flush
the kernel may have dropped the pages it could not write and marked them clean: nothing can be
trusted any more, the log refuses everything and its process must exit and recover.
"""

from __future__ import annotations

import errno
import itertools
import os
import secrets
from collections.abc import Iterator, Sequence
from pathlib import Path

from ..core.errors import invariant
from ..core.ids import ShardId
from ..core.limits import (
    COMMIT_BYTES_MAX,
    LOG_FREE_BYTES_MIN,
    LOG_SEGMENT_BYTES_MAX,
    LOG_SPARE_AFTER_BYTES,
    LOG_SPARE_FREE_BYTES_MIN,
)
from ..core.room import free_bytes
from .api import LogPiece
from .errors import CorruptDataError, MediaFailedError, MediaFullError
from .mapped import map_whole
from .segments import (
    SEGMENT_HEADER_BYTES,
    check_header,
    encode_header,
    log_name,
    log_segment,
)
from .spare import SpareSegment
from .store import sync_folder, write_all

NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_IOV_MAX = 1024
# While there is room in plenty it is looked for now and then.
APPENDS_PER_LOOK = 16


class LocalLog:
    """LogMedium over the segment files of one folder; the only writer of that folder."""

    def __init__(
        self,
        folder: Path,
        shard: ShardId,
        *,
        segment_bytes_max: int = LOG_SEGMENT_BYTES_MAX,
        spare: bool = False,
    ) -> None:
        """With `spare` the next segment is filled with zeros ahead, once the log is in use."""
        self._folder = folder
        self._shard = shard
        self._segment_bytes_max = segment_bytes_max
        self._spare = SpareSegment(folder, segment_bytes_max if spare else 0)
        self._free = 0
        self._ample = False
        self._appends_since_look = 0
        self._announced = False
        self._appended = 0
        self._failed = False
        self._fd = -1
        self._size = 0
        for draft in folder.glob("log-*.seg.tmp"):
            draft.unlink()
        segments = log_segments(folder, shard)
        if segments:
            self._open(segments[-1])
        else:
            self._create(log_segment(shard, 1))

    def append(self, buffers: Sequence[bytes | memoryview]) -> tuple[int, int]:
        if not self._announced:
            self.position()
        self._announced = False
        segment, offset = self._segment, self._size
        if self._failed:
            raise MediaFailedError("append", self._name(), "an earlier write failed")
        total = sum(map(len, buffers))
        try:
            self._write(buffers, offset)
        except OSError as error:
            self._cut_back(offset)
            if error.errno in NO_ROOM:
                raise MediaFullError("append", self._name(), "no space left") from error
            self._failed = True
            raise MediaFailedError("append", self._name(), str(error)) from error
        try:
            os.fdatasync(self._fd)
        except OSError as error:
            self._failed = True
            raise MediaFailedError("flush", self._name(), str(error)) from error
        self._size = offset + total
        self._appended += total
        self._appends_since_look += 1
        if (
            self._ample
            and self._appended > LOG_SPARE_AFTER_BYTES
            and self._written_to - self._size < self._segment_bytes_max // 2
        ):
            self._spare.prepare()
        return segment, offset

    def scan(self, segment: int, offset: int) -> Iterator[LogPiece]:
        return LocalLogReader(self._folder, self._shard).scan(segment, offset)

    def resume(self, segment: int, offset: int, *, torn: bool) -> None:
        invariant(segment == self._segment, "recovery reads to the last segment")
        if torn:
            try:
                os.ftruncate(self._fd, offset)
                os.fsync(self._fd)
            except OSError as error:
                self._failed = True
                raise MediaFailedError("cut torn log", self._name(), str(error)) from error
            self._written_to = offset
        self._size = offset

    def position(self) -> tuple[int, int]:
        invariant(self._size > 0, "a log that was there before is resumed first")
        full = self._size + COMMIT_BYTES_MAX > self._segment_bytes_max
        grows = self._size >= self._written_to
        if self._size > SEGMENT_HEADER_BYTES and (full or (grows and self._spare.ready)):
            self._create(self._segment + 1)
        # The spare may get ready at any moment: what was announced holds until the append.
        self._announced = True
        return self._segment, self._size

    @property
    def contested(self) -> bool:
        return False

    def confirm(self) -> bool:
        return True

    def epoch_after(self, epoch: int) -> int:
        return epoch + 1

    def room(self) -> int:
        if self._ample and self._appends_since_look < APPENDS_PER_LOOK:
            return self._free
        self._appends_since_look = 0
        try:
            free = free_bytes(self._folder)
            if free < LOG_FREE_BYTES_MIN and self._spare.discard():
                free = free_bytes(self._folder)
        except OSError as error:
            raise MediaFailedError("look for room", str(self._folder), str(error)) from error
        self._ample = free >= LOG_SPARE_FREE_BYTES_MIN
        self._free = free
        return free

    @property
    def salt(self) -> int:
        return self._salt

    def release(self) -> None:
        """Nobody waits for it: the folder is locked."""

    def close(self) -> None:
        self._spare.discard()
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1
        self._failed = True

    def _write(self, buffers: Sequence[bytes | memoryview], offset: int) -> None:
        for first in range(0, len(buffers), _IOV_MAX):
            group = buffers[first : first + _IOV_MAX]
            wanted = sum(map(len, group))
            written = os.pwritev(self._fd, group, offset)
            if written < wanted:
                # A short write comes before ENOSPC or at a signal: the rest says which.
                rest = memoryview(b"".join(group))[written:]
                while rest:
                    done = os.pwrite(self._fd, rest, offset + wanted - len(rest))
                    rest = rest[done:]
            offset += wanted

    def _cut_back(self, offset: int) -> None:
        try:
            os.ftruncate(self._fd, offset)
            self._written_to = offset
        except OSError as error:
            self._failed = True
            raise MediaFailedError("cut log back", self._name(), str(error)) from error

    def _open(self, segment: int) -> None:
        path = self._folder / log_name(segment)
        try:
            fd = os.open(path, os.O_RDWR | os.O_CLOEXEC)
        except OSError as error:
            raise MediaFailedError("open log", str(path), str(error)) from error
        try:
            _show_the_disk(fd)
            salt = check_header(segment, os.pread(fd, SEGMENT_HEADER_BYTES, 0))
        except CorruptDataError:
            os.close(fd)
            raise
        except OSError as error:
            os.close(fd)
            raise MediaFailedError("open log", str(path), str(error)) from error
        self._switch(fd, segment, salt, 0)

    def _create(self, segment: int) -> None:
        """Raises MediaFullError, with the log as it was."""
        draft = self._folder / f"{log_name(segment)}.tmp"
        salt = secrets.randbits(32)
        try:
            taken = self._spare.take()
            if taken is not None:
                fd, draft = taken
            else:
                fd = os.open(draft, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o644)
            try:
                write_all(fd, encode_header(segment, salt), 0)
                os.fsync(fd)
                os.rename(draft, self._folder / log_name(segment))
                sync_folder(self._folder)
            except OSError:
                os.close(fd)
                raise
        except OSError as error:
            kind = MediaFullError if error.errno in NO_ROOM else MediaFailedError
            raise kind("start log segment", str(draft), str(error)) from error
        self._switch(fd, segment, salt, SEGMENT_HEADER_BYTES)

    def _switch(self, fd: int, segment: int, salt: int, size: int) -> None:
        if self._fd >= 0:
            os.close(self._fd)
        self._fd = fd
        self._segment = segment
        self._salt = salt
        self._size = size
        self._written_to = os.fstat(fd).st_size

    def _name(self) -> str:
        return str(self._folder / log_name(self._segment))


def _show_the_disk(fd: int) -> None:
    """See to it that what is read from a segment is on the disk. The writer before may have died
    between an append and its flush: then only the kernel's memory holds it, and a view that has
    applied it would be ahead of the log after a power loss. Or its flush failed: then the kernel
    may hold pages for clean that it could not write; they are dropped and read anew.
    """
    os.fdatasync(fd)
    os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)


class LocalLogReader:
    """LogSource over the segment files of one folder, beside their writer or without one."""

    def __init__(self, folder: Path, shard: ShardId) -> None:
        self._folder = folder
        self._shard = shard

    def scan(self, segment: int, offset: int) -> Iterator[LogPiece]:
        numbers = [one for one in log_segments(self._folder, self._shard) if one >= segment]
        for before, after in itertools.pairwise(numbers):
            if after != before + 1:
                name = log_name(before + 1)
                raise CorruptDataError(
                    "read log", str(self._folder), f"{name} is missing: objectstore fsck"
                )
        for number in numbers:
            start = offset if number == segment else SEGMENT_HEADER_BYTES
            path = self._folder / log_name(number)
            with open(path, "rb") as file:
                size = os.fstat(file.fileno()).st_size
                try:
                    salt = check_header(number, file.read(SEGMENT_HEADER_BYTES))
                except OSError as error:
                    raise MediaFailedError("read", str(path), str(error)) from error
                if start >= size:
                    yield LogPiece(number, size, memoryview(b""), salt)
                    continue
                mapped = map_whole(file.fileno(), size, start, str(path))
            data = memoryview(mapped.content)[start:]
            yield LogPiece(number, start, data, salt, mapped.let_go)


def log_segments(folder: Path, shard: ShardId) -> list[int]:
    """The numbers of a shard's log segments in order. Before a base of the view some may be gone:
    what they held is elsewhere or dead (docs/formats/log.md).
    """
    counters = sorted(int(path.name[4:12]) for path in folder.glob("log-????????.seg"))
    return [log_segment(shard, counter) for counter in counters]

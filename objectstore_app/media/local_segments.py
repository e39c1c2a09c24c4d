"""Segments on a local directory: what Atlas gives back, what fsck looks at.

Ranges of chunk segments are given back where they lie, by holes in the files, which cost no copying
and leave offsets as they are. Chunks are large, so next to nothing is lost at the edges of their
blocks. A chunk that a long download still holds open (by a lock on its range, `files.py`) is left.
A file system without holes, or without locks, gives space back when a whole segment is dead.
"""

from __future__ import annotations

import ctypes
import errno
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from ..core.ids import ShardId
from ..core.limits import MIB
from ..core.room import is_short
from .api import Range, WholeSegment
from .errors import CorruptDataError, MediaFailedError, UnsupportedError
from .files import lock_range
from .local import log_segments
from .mapped import map_past_failures
from .segments import SEGMENT_HEADER_BYTES, encode_header, is_chunk, segment_path
from .store import Store, sync_folder, write_all

_KEEP_SIZE, _PUNCH_HOLE = 1, 2
_UNNAMED_BYTES_MIN = 1 * MIB
_WITHOUT_HOLES = (
    "this file system cannot make holes in files: room comes back only when all of a chunk segment "
    "is dead"
)
HOLE_EDGE_BYTES_MAX = 4096
_libc = ctypes.CDLL(None, use_errno=True)
_libc.fallocate.argtypes = (ctypes.c_int, ctypes.c_int, ctypes.c_int64, ctypes.c_int64)


class LocalSegments:
    """Segments of a data folder."""

    def __init__(self, store: Store) -> None:
        self._store = store

    @property
    def tears(self) -> bool:
        return True

    def logs(self, shard: ShardId) -> list[int]:
        return log_segments(self._store.shard(shard), shard)

    def chunks(self) -> list[int]:
        return [int(path.stem, 16) for path in self._store.chunks.glob("*.seg")]

    def whole(self, number: int) -> WholeSegment:
        with _opened(self._path(number), os.O_RDONLY) as fd:
            if fd is None:
                raise CorruptDataError("read log", str(self._path(number)), "the segment is gone")
            size = os.fstat(fd).st_size
            if not size:
                return WholeSegment(memoryview(b""), SEGMENT_HEADER_BYTES, lambda *_: False)
            mapped = map_past_failures(fd, size)
        content = memoryview(mapped.content)
        return WholeSegment(content, SEGMENT_HEADER_BYTES, mapped.lacks, mapped.let_go)

    def mend_header(self, number: int, salt: int) -> None:
        with _opened(self._path(number), os.O_RDWR) as fd:
            if fd is not None:
                write_all(fd, encode_header(number, salt), 0)
                os.fsync(fd)

    def header(self, number: int) -> bytes:
        with _opened(self._path(number), os.O_RDONLY) as fd:
            return b"" if fd is None else os.pread(fd, SEGMENT_HEADER_BYTES, 0)

    @property
    def chunk_align_bytes(self) -> int:
        return 1

    def size(self, number: int) -> int:
        with suppress(FileNotFoundError):
            return self._path(number).stat().st_size
        return 0

    def taken(self, number: int) -> int | None:
        """The file's bytes but for its holes and the rests of blocks at their edges."""
        with _opened(self._path(number), os.O_RDONLY) as fd:
            return None if fd is None else _bytes_taken(fd)

    def unnamed_bytes_min(self, number: int) -> int:
        return _UNNAMED_BYTES_MIN

    def give_back(self, number: int, ranges: Sequence[Range]) -> tuple[list[bool], int]:
        with _opened(self._path(number), os.O_RDWR) as fd:
            if fd is None:
                return [True] * len(ranges), 0
            free = [lock_range(fd, *one, exclusive=True) for one in ranges]
            dead = [one for one, is_free in zip(ranges, free, strict=True) if is_free]
            return free, punch(fd, dead)

    def keep_only(self, number: int, ranges: Sequence[Range]) -> int:
        with _opened(self._path(number), os.O_RDWR) as fd:
            return 0 if fd is None else punch(fd, ranges_between(ranges, os.fstat(fd).st_size))

    def remove(self, number: int) -> int | None:
        """The file is emptied first: front ends keep it open, and the room would not come back
        before they close it. Where there are no locks to tell who reads a chunk, its bytes are left
        to whoever has it open.
        """
        path = self._path(number)
        with _opened(path, os.O_RDWR) as fd:
            if fd is None:
                return 0
            freed = os.fstat(fd).st_blocks * 512
            emptied = True
            if is_chunk(number):
                try:
                    if not lock_range(fd, 0, 0, exclusive=True):
                        return None
                except UnsupportedError:
                    emptied = False
            if emptied:
                os.truncate(path, 0)
            os.unlink(path)
            sync_folder(path.parent)
        return freed

    def is_short(self) -> bool:
        return is_short(self._store.path)

    @property
    def cold(self) -> None:
        """A folder is one place."""

    def _path(self, number: int) -> Path:
        return segment_path(self._store.path, number)


@contextmanager
def _opened(path: Path, flags: int) -> Iterator[int | None]:
    """A segment's file; None when it is gone. What goes wrong with it becomes MediaFailedError."""
    fd = None
    try:
        with suppress(FileNotFoundError):
            fd = os.open(path, flags | os.O_CLOEXEC)
        yield fd
    except OSError as error:
        raise MediaFailedError("work on segment", str(path), str(error)) from error
    finally:
        if fd is not None:
            os.close(fd)


def punch(fd: int, ranges: Sequence[Range]) -> int:
    """Make holes of the ranges, in order; return the bytes that came free. Durable on return: a
    hole that a power loss fills again is no harm, but rows that say so would be gone.
    Raises: OSError, UnsupportedError.
    """
    before = os.fstat(fd).st_blocks
    for start, end in joined(ranges):
        if _libc.fallocate(fd, _KEEP_SIZE | _PUNCH_HOLE, start, end - start):
            number = ctypes.get_errno()
            if number in (errno.EOPNOTSUPP, errno.ENOSYS):
                raise UnsupportedError("free chunks", "chunks", _WITHOUT_HOLES)
            raise OSError(number, os.strerror(number))
    os.fsync(fd)
    return max(0, before - os.fstat(fd).st_blocks) * 512


def joined(ranges: Sequence[Range]) -> Iterator[Range]:
    """Ranges, in order, of which those that touch became one: so the block that two share becomes a
    hole, too.
    """
    start = end = -1
    for first, last in ranges:
        if first <= end:
            end = max(end, last)
            continue
        if end > start:
            yield start, end
        start, end = first, last
    if end > start:
        yield start, end


def ranges_between(ranges: Sequence[Range], size: int) -> list[Range]:
    """What lies between the ranges of a segment of that size, its header aside."""
    gaps = []
    position = SEGMENT_HEADER_BYTES
    for start, end in sorted(ranges):
        if start > position:
            gaps.append((position, start))
        position = max(position, end)
    if size > position:
        gaps.append((position, size))
    return gaps


def _bytes_taken(descriptor: int) -> int:
    size = os.fstat(descriptor).st_size
    taken = end = 0
    while end < size:
        try:
            start = os.lseek(descriptor, end, os.SEEK_DATA)
        except OSError as error:
            if error.errno == errno.ENXIO:
                break  # a hole to the end
            raise
        taken -= 2 * HOLE_EDGE_BYTES_MAX if start > end else 0
        end = os.lseek(descriptor, start, os.SEEK_HOLE)
        taken += end - start
    return taken

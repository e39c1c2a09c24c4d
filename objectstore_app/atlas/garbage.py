"""Garbage in chunk segments: its bytes are given back where they lie, by holes in the files.

Theory of operation. Rows that were deleted or overwritten left garbage rows with the time; after
the grace no reader finds their extents any more, and a chunk that a long download still holds open
(by a lock on its range) is left for a later pass. The range of the file becomes a hole, which
costs no copying and leaves offsets as they are, and only then are the rows forgotten: whatever
happens in between, they are still there and the next pass makes the same holes again. A record that
frees an extent is durable before the view shows it, so no recovery brings a freed one back.

Chunks are large, so next to nothing is lost at the edges of their blocks. Bodies in the log are
small; those segments are emptied by `compaction`. A file system without holes, or without locks,
gives space back when a whole segment is dead (`orphans`).
"""

from __future__ import annotations

import ctypes
import errno
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from ..core.ids import ShardId
from ..media.errors import MediaFailedError, UnsupportedError
from ..media.files import lock_range
from ..media.segments import table_bytes
from ..metadata_service.api import ForgetGarbage
from ..metadata_service.survey import GarbageRow, chunk_garbage_page
from .work import FORGET_ROWS, Work

_KEEP_SIZE, _PUNCH_HOLE = 1, 2
_WITHOUT_HOLES = (
    "this file system cannot make holes in files: room comes back only when all of a chunk segment "
    "is dead"
)
_libc = ctypes.CDLL(None, use_errno=True)
_libc.fallocate.argtypes = (ctypes.c_int, ctypes.c_int, ctypes.c_int64, ctypes.c_int64)


async def collect(work: Work) -> None:
    """Free the chunks whose grace is over. Raises MediaFailedError; UnsupportedError where there
    are no holes, or no locks that say what is being read.
    """
    for shard in work.data_shards:
        await _collect_shard(work, shard)


async def _collect_shard(work: Work, shard: ShardId) -> None:
    view, horizon_ms = work.views[shard], work.horizon_ms
    after = (0, 0)
    while page := chunk_garbage_page(view, after, horizon_ms, FORGET_ROWS):
        for rows in _by_segment(page):
            segment = rows[0].segment
            runs, freed = _punch_unheld(work.path_of(segment), rows)
            work.state.count("bytes_freed", freed)
            for run in runs:
                start, end = run[0].offset, run[-1].offset + 1
                forget = ForgetGarbage(segment=segment, start=start, end=end, freed_ms=horizon_ms)
                await work.ask(shard, [forget])
        after = (page[-1].segment, page[-1].offset)


def _punch_unheld(path: Path, rows: Sequence[GarbageRow]) -> tuple[list[list[GarbageRow]], int]:
    """Make holes of a segment's chunks but of those that readers hold; the runs of neighbouring
    rows whose chunks are gone, and the bytes that came free.
    """
    with opened(path) as fd:
        if fd is None:
            return [list(rows)], 0
        runs: list[list[GarbageRow]] = [[]]
        for row in rows:
            if lock_range(fd, *_range(row), exclusive=True):
                runs[-1].append(row)
            else:
                runs.append([])
        runs = [run for run in runs if run]
        return runs, punch(fd, [_range(row) for run in runs for row in run])


@contextmanager
def opened(path: Path) -> Iterator[int | None]:
    """A segment's file, to lock and to change it; None when it is gone. What goes wrong with it
    becomes MediaFailedError.
    """
    fd = None
    try:
        with suppress(FileNotFoundError):
            fd = os.open(path, os.O_RDWR | os.O_CLOEXEC)
        yield fd
    except OSError as error:
        raise MediaFailedError("free chunks", str(path), str(error)) from error
    finally:
        if fd is not None:
            os.close(fd)


def punch(fd: int, ranges: Sequence[tuple[int, int]]) -> int:
    """Make holes of the ranges (start, end), in order; return the bytes that came free. Durable on
    return: a hole that a power loss fills again is no harm, but rows that say so would be gone.
    Raises: OSError, UnsupportedError.
    """
    before = os.fstat(fd).st_blocks
    for start, end in _joined(ranges):
        if _libc.fallocate(fd, _KEEP_SIZE | _PUNCH_HOLE, start, end - start):
            number = ctypes.get_errno()
            if number in (errno.EOPNOTSUPP, errno.ENOSYS):
                raise UnsupportedError("free chunks", "chunks", _WITHOUT_HOLES)
            raise OSError(number, os.strerror(number))
    os.fsync(fd)
    return max(0, before - os.fstat(fd).st_blocks) * 512


def _range(row: GarbageRow) -> tuple[int, int]:
    """A chunk with its table."""
    return row.offset, row.offset + row.length + table_bytes(row.length)


def _joined(ranges: Sequence[tuple[int, int]]) -> Iterator[tuple[int, int]]:
    """Ranges that touch become one, so that the block they share becomes a hole, too."""
    start = end = -1
    for first, last in ranges:
        if first == end:
            end = last
            continue
        if end > start:
            yield start, end
        start, end = first, last
    if end > start:
        yield start, end


def _by_segment(page: Sequence[GarbageRow]) -> Iterator[list[GarbageRow]]:
    rows: list[GarbageRow] = []
    for row in page:
        if rows and rows[0].segment != row.segment:
            yield rows
            rows = []
        rows.append(row)
    if rows:
        yield rows

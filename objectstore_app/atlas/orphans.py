"""Orphans: bytes of chunk segments that nothing names, left by writes that failed or were cut off.

Theory of operation. A writer refuses extents in a chunk segment that was made more than
CHUNK_NAMED_S_MAX ago, and front ends begin a new segment long before. So what no row names in an
older segment stays unnamed for ever, and no process writes to it any more: the file is unlinked
when all of it is unnamed, else holes are made of the ranges in between. Only segments that take
more room than rows account for are looked at closely, a few at a time, so memory stays bounded.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass

from ..core.ids import ShardId
from ..core.limits import CHUNK_NAMED_S_MAX, CHUNKS_OLD_MARGIN_S, MIB
from ..media.errors import UnsupportedError
from ..media.files import lock_range
from ..media.segments import (
    CHUNK_BIT,
    SEGMENT_HEADER_BYTES,
    chunk_segment_made_ms,
    table_bytes,
)
from ..metadata_service.survey import garbage_after, segment_garbage_page
from .garbage import opened, punch
from .work import PAGE_ROWS, Work, stored_bytes

UNNAMED_BYTES_MIN = 1 * MIB
SEGMENTS_AT_ONCE = 16
_EDGE_BYTES = 8192


@dataclass(slots=True)
class _Segment:
    """What rows, garbage rows included, account for; `extents` is their number."""

    named: int = 0
    extents: int = 0
    garbage: bool = False


async def remove_orphans(work: Work) -> None:
    """One round over all chunk segments that are old enough. Raises MediaFailedError."""
    segments = {number: _Segment() for number in _old_segments(work)}
    if not segments:
        return
    for shard in work.data_shards:
        async for row in work.bodies(shard):
            for extent in row.extents:
                found = segments.get(extent.segment)
                if found is not None:
                    found.named += stored_bytes(extent)
                    found.extents += 1
    # Extents become garbage and never the other way round, so garbage is looked at last.
    shards_of: dict[int, list[ShardId]] = {number: [] for number in segments}
    for shard in work.data_shards:
        before = CHUNK_BIT - 1
        while (garbage := garbage_after(work.views[shard], before)) is not None:
            before = garbage.segment
            await work.pace.rest()
            found = segments.get(garbage.segment)
            if found is None:
                if not work.path_of(garbage.segment).exists():
                    await work.forget_segment(shard, garbage.segment)
                continue
            young = garbage.freed_ms > work.horizon_ms
            found.named += garbage.length if young else 0
            found.extents += garbage.rows if young else 0
            found.garbage = True
            shards_of[garbage.segment].append(shard)
    for number, found in segments.items():
        if found.extents == 0 and _remove_unheld(work, number):
            for shard in shards_of[number]:
                await work.forget_segment(shard, number)
    await _punch_unnamed(work, {n: one for n, one in segments.items() if one.extents})


def _remove_unheld(work: Work, number: int) -> bool:
    """Unlink a dead segment, unless a download that outlasted the grace still sends from it. Where
    there are no locks to tell, its bytes are left to whoever has it open.
    """
    with opened(work.path_of(number)) as fd:
        try:
            if fd is not None and not lock_range(fd, 0, 0, exclusive=True):
                return False
            work.remove_segment(number)
        except UnsupportedError:
            work.remove_segment(number, emptied=False)
    return True


def _old_segments(work: Work) -> Iterator[int]:
    """Chunk segments that no row will come to name, and that nobody writes to."""
    age_ms = (CHUNK_NAMED_S_MAX + CHUNKS_OLD_MARGIN_S) * 1000
    limit_ms = work.now_ms() - age_ms
    for path in work.store.chunks.glob("*.seg"):
        number = int(path.stem, 16)
        if chunk_segment_made_ms(number) < limit_ms:
            yield number


async def _punch_unnamed(work: Work, segments: dict[int, _Segment]) -> None:
    """Make holes where much is allocated that no row, and no garbage row, names."""
    suspects = []
    for number, found in segments.items():
        taken = work.path_of(number).stat().st_blocks * 512
        if taken - found.named - found.extents * _EDGE_BYTES > UNNAMED_BYTES_MIN:
            suspects.append(number)
    for first in range(0, len(suspects), SEGMENTS_AT_ONCE):
        named: dict[int, list[tuple[int, int]]] = {
            number: [] for number in suspects[first : first + SEGMENTS_AT_ONCE]
        }
        for shard in work.data_shards:
            async for row in work.bodies(shard):
                for extent in row.extents:
                    if extent.segment in named:
                        end = extent.offset + stored_bytes(extent)
                        named[extent.segment].append((extent.offset, end))
            for number, ranges in named.items():
                ranges += _garbage_ranges(work, shard, number)
        for number, ranges in named.items():
            with opened(work.path_of(number)) as fd:
                if fd is not None:
                    gaps = _between(ranges, os.fstat(fd).st_size)
                    work.state.count("bytes_freed", punch(fd, gaps))
            await work.pace.rest()


def _garbage_ranges(work: Work, shard: ShardId, segment: int) -> Iterator[tuple[int, int]]:
    after = -1
    while page := segment_garbage_page(work.views[shard], segment, after, PAGE_ROWS):
        for row in page:
            yield row.offset, row.offset + row.length + table_bytes(row.length)
        after = page[-1].offset


def _between(named: list[tuple[int, int]], size: int) -> list[tuple[int, int]]:
    """The ranges of a segment that are not named."""
    gaps = []
    position = SEGMENT_HEADER_BYTES
    for start, end in sorted(named):
        if start > position:
            gaps.append((position, start))
        position = max(position, end)
    if size > position:
        gaps.append((position, size))
    return gaps

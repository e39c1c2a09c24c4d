"""Orphans: bytes of chunk segments that nothing names, left by writes that failed or were cut off.

Theory of operation. A writer refuses extents in a chunk segment that was made more than
CHUNK_NAMED_S_MAX ago, and front ends begin a new segment long before. So what no row names in an
older segment stays unnamed for ever, and no process writes to it any more: it is removed when all
of it is unnamed, else the ranges in between are given back. Only segments that take more room than
rows account for are looked at closely, a few at a time, so memory stays bounded.
"""

from __future__ import annotations

from dataclasses import dataclass

from ..core.ids import ShardId
from ..core.limits import CHUNK_NAMED_S_MAX, CHUNKS_OLD_MARGIN_S
from ..media.segments import CHUNK_BIT, chunk_segment_made_ms
from ..metadata_service.survey import garbage_after
from .named import named_ranges
from .work import Work, stored_bytes

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
    segments = {number: _Segment() for number in old_segments(work)}
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
                if work.segments.taken(garbage.segment) is None:
                    await work.forget_segment(shard, garbage.segment)
                continue
            young = garbage.freed_ms > work.horizon_ms
            found.named += garbage.length if young else 0
            found.extents += garbage.rows if young else 0
            found.garbage = True
            shards_of[garbage.segment].append(shard)
    for number, found in segments.items():
        if found.extents == 0 and work.remove_segment(number):
            for shard in shards_of[number]:
                await work.forget_segment(shard, number)
    await _give_unnamed_back(work, {n: one for n, one in segments.items() if one.extents})


def old_segments(work: Work) -> list[int]:
    """Chunk segments that no row will come to name, and that nobody writes to."""
    age_ms = (CHUNK_NAMED_S_MAX + CHUNKS_OLD_MARGIN_S) * 1000
    limit_ms = work.now_ms() - age_ms
    return [one for one in work.segments.chunks() if chunk_segment_made_ms(one) < limit_ms]


async def _give_unnamed_back(work: Work, segments: dict[int, _Segment]) -> None:
    """Where much is taken that no row, and no garbage row, names, only what is named is kept."""
    suspects = []
    for number, found in segments.items():
        taken = work.segments.taken(number) or 0
        unnamed = taken - found.named - found.extents * _EDGE_BYTES
        if unnamed > work.segments.unnamed_bytes_min(number):
            suspects.append(number)
    for first in range(0, len(suspects), SEGMENTS_AT_ONCE):
        named = await named_ranges(work, suspects[first : first + SEGMENTS_AT_ONCE])
        for number, ranges in named.items():
            freed = await work.off_loop(work.segments.keep_only, number, ranges)
            work.state.count("bytes_freed", freed)
            await work.pace.rest()

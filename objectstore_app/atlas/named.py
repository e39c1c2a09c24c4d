"""Which ranges of chunk segments rows name, garbage rows included."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from ..core.ids import ShardId
from ..media.api import Range
from ..media.segments import table_bytes
from ..metadata_service.survey import segment_garbage_page
from .work import PAGE_ROWS, Work, stored_bytes


async def named_ranges(work: Work, segments: Sequence[int]) -> dict[int, list[Range]]:
    """Of segments that no row comes to name any more: of each what has to be kept, in order. One
    walk over all rows.
    """
    named: dict[int, list[Range]] = {number: [] for number in segments}
    for shard in work.data_shards:
        async for row in work.bodies(shard):
            for extent in row.extents:
                if extent.segment in named:
                    end = extent.offset + stored_bytes(extent)
                    named[extent.segment].append((extent.offset, end))
        # Extents become garbage and never the other way round, so garbage is looked at last.
        for number, ranges in named.items():
            ranges += _garbage_ranges(work, shard, number)
    return {number: sorted(ranges) for number, ranges in named.items()}


def _garbage_ranges(work: Work, shard: ShardId, segment: int) -> Iterator[Range]:
    after = -1
    while page := segment_garbage_page(work.views[shard], segment, after, PAGE_ROWS):
        for row in page:
            yield row.offset, row.offset + row.length + table_bytes(row.length)
        after = page[-1].offset

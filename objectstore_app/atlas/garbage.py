"""Garbage in chunk segments: its bytes are given back where they lie (`media.api.Segments`).

Theory of operation. Rows that were deleted or overwritten left garbage rows with the time; after
the grace no reader finds their extents any more, and a chunk that a long download still holds is
left for a later pass. The range is given back, and only then are the rows forgotten: whatever
happens in between, they are still there and the next pass gives the same ranges back again. A
record that frees an extent is durable before the view shows it, so no recovery brings a freed one
back.

Bodies in the log are small; those segments are emptied by `compaction`. What cannot be given back
in ranges comes back when a whole segment is dead (`orphans`).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from ..core.ids import ShardId
from ..media.segments import table_bytes
from ..metadata_service.api import ForgetGarbage
from ..metadata_service.survey import GarbageRow, chunk_garbage_page
from .work import FORGET_ROWS, Work


async def collect(work: Work) -> None:
    """Free the chunks whose grace is over. Raises MediaFailedError; UnsupportedError where the
    medium gives no ranges back, or cannot say what is being read.
    """
    for shard in work.data_shards:
        await _collect_shard(work, shard)


async def _collect_shard(work: Work, shard: ShardId) -> None:
    view, horizon_ms = work.views[shard], work.horizon_ms
    after = (0, 0)
    while page := chunk_garbage_page(view, after, horizon_ms, FORGET_ROWS):
        for rows in _by_segment(page):
            segment = rows[0].segment
            ranges = [_range(row) for row in rows]
            gone, freed = await work.off_loop(work.segments.give_back, segment, ranges)
            work.state.count("bytes_freed", freed)
            for run in _runs(rows, gone):
                start, end = run[0].offset, run[-1].offset + 1
                forget = ForgetGarbage(segment=segment, start=start, end=end, freed_ms=horizon_ms)
                await work.ask(shard, [forget])
        after = (page[-1].segment, page[-1].offset)


def _runs(rows: Sequence[GarbageRow], gone: Sequence[bool]) -> Iterator[list[GarbageRow]]:
    """Neighbouring rows whose chunks are gone."""
    run: list[GarbageRow] = []
    for row, is_gone in zip(rows, gone, strict=True):
        if is_gone:
            run.append(row)
        elif run:
            yield run
            run = []
    if run:
        yield run


def _range(row: GarbageRow) -> tuple[int, int]:
    """A chunk with its table."""
    return row.offset, row.offset + row.length + table_bytes(row.length)


def _by_segment(page: Sequence[GarbageRow]) -> Iterator[list[GarbageRow]]:
    rows: list[GarbageRow] = []
    for row in page:
        if rows and rows[0].segment != row.segment:
            yield rows
            rows = []
        rows.append(row)
    if rows:
        yield rows

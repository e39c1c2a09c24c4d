"""Moves chunk segments that got old to where they are kept at less cost, on media that have such.

Theory of operation. In a segment that no row comes to name any more (`orphans`) what rows name now,
garbage within its grace included, is all that will ever be read of it. That is moved as one object
(`media.api.ColdSegments`); offsets stay, so no row changes and no reader waits. What is not named
is left behind, and the room of both kinds comes back.

Nothing is moved while the medium is not whole: there is more to do for it then.
"""

from __future__ import annotations

from ..media.api import ColdSegments
from ..media.segments import chunk_segment_made_ms
from ..runtime.logging import event
from .named import named_ranges
from .orphans import old_segments
from .work import Work

SEGMENTS_AT_ONCE = 256


async def cool(work: Work) -> None:
    """Move all that is old. Raises MediaFailedError, CorruptDataError."""
    cold = work.segments.cold
    if cold is None:
        return
    limit_ms = work.now_ms() - int(work.settings.cold_after_s * 1000)
    there = await work.off_loop(cold.numbers)
    waiting = await work.off_loop(cold.waiting)
    old = sorted(
        number
        for number in old_segments(work)
        if number in waiting and (number in there or chunk_segment_made_ms(number) < limit_ms)
    )
    for first in range(0, len(old), SEGMENTS_AT_ONCE):
        if not await _cool(work, cold, old[first : first + SEGMENTS_AT_ONCE]):
            return


async def _cool(work: Work, cold: ColdSegments, numbers: list[int]) -> bool:
    """Move these; false when the medium is not whole."""
    for number, ranges in (await named_ranges(work, numbers)).items():
        if not await work.off_loop(cold.is_calm):
            event("cooling_waits", reason="the medium is not whole")
            return False
        if not ranges:
            continue  # dead: `orphans` removes it
        written = await work.off_loop(cold.move, number, ranges)
        work.state.count("segments_cooled", 1)
        work.state.count("bytes_cooled", written)
        await work.pace.spend(2 * written)
    return True

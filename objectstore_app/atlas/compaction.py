"""Reclaims log segments: makes bases, moves what still lives, unlinks what is dead.

Theory of operation. Log segments before a base are needed only for the bodies that rows name in
them. Where these are less than `live_share` of a segment, they are read, verified and sent to the
writer, which puts each into a new record if its row still names the old place (compare-and-swap).
The old place becomes garbage like any other. A segment that no row names, and whose last garbage is
older than the grace, is unlinked first and its garbage rows are forgotten afterwards: interrupted
in between, the next pass finds rows of a segment that is gone and forgets them.

New records never go to old segments, and rows come to name old places only by the completion of an
upload, which `Work.bodies` walks around; so what a walk finds unnamed stays so. Only a walk of a
view that reaches the base says so: a base that another Atlas made later is left to that one.
"""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass, field

from ..core.ids import BucketId, ShardId
from ..core.limits import CHUNKS_FREE_BYTES_MIN, KIB
from ..media.api import Extent
from ..media.errors import MediaError, MediaFailedError
from ..media.segments import DIRECTORY_SHARD
from ..media.store import check_room
from ..metadata_service.api import Moved, MovePartBody, MoveVersionBody
from ..metadata_service.bases import Base, make_base, newest_base
from ..metadata_service.kept_bases import keep_base, kept_base
from ..metadata_service.survey import (
    PartBody,
    SegmentGarbage,
    VersionBody,
    garbage_after,
    row_of,
)
from ..metadata_service.view import read_position
from .work import ASK_AT_ONCE, Work, stored_bytes

Move = MoveVersionBody | MovePartBody

MOVE_BYTES_MAX = 64 * KIB


async def compact(work: Work, *, at_once: bool = False) -> None:
    """One round over all shards. `at_once` makes a base even where little was written since the
    last. Raises MediaError, UnavailableError.
    """
    for shard in work.store.shards:
        base = await _base(work, shard, at_once=at_once)
        if base is not None and base.sequence <= read_position(work.views[shard])[0]:
            await _reclaim(work, shard, base)


async def _base(work: Work, shard: ShardId, *, at_once: bool) -> Base | None:
    """The base that a rebuild would begin with, made now if one is due."""
    folder, files = work.store.shard(shard), work.media.kept_files(shard)
    base = newest_base(folder) if files is None else kept_base(files)
    _, segment, offset, _ = read_position(work.views[shard])
    since = _log_bytes(work, shard, base, segment, offset)
    view_bytes = work.store.view(shard).stat().st_size
    due = since > max(work.settings.base_log_bytes, view_bytes // 2)
    if not due and not (at_once and segment > (base.segment if base else 0)):
        return base
    try:
        check_room(folder, 2 * view_bytes + CHUNKS_FREE_BYTES_MIN)
    except OSError as error:
        raise MediaFailedError("look for room", str(folder), str(error)) from error
    steps = make_base(work.views[shard], folder, work.now_ms())
    made = await _paced(work, steps if files is None else keep_base(files, folder, steps))
    work.state.count("bases_made", 1)
    return made


async def _paced(work: Work, steps: Generator[int, None, Base]) -> Base:
    """Take the steps, each of so many bytes, at the pace; what they return."""
    try:
        while True:
            await work.pace.spend(next(steps))
    except StopIteration as done:
        result: Base = done.value
        return result
    finally:
        steps.close()


def _log_bytes(work: Work, shard: ShardId, base: Base | None, segment: int, offset: int) -> int:
    """How much log a rebuild from the base would read."""
    begin = (base.segment, base.offset) if base else (0, 0)
    total = offset
    for number in work.segments.logs(shard):
        if begin[0] <= number < segment:
            total += work.segments.size(number)
    return total - begin[1]


@dataclass(slots=True)
class _Segments:
    """Log segments before the base: the bytes of each that rows name, and its garbage."""

    live: dict[int, int]
    garbage: dict[int, SegmentGarbage] = field(default_factory=dict)


async def _reclaim(work: Work, shard: ShardId, base: Base) -> None:
    numbers = work.segments.logs(shard)
    found = _Segments({number: 0 for number in numbers if number < base.segment})
    if shard == DIRECTORY_SHARD:
        for number in found.live:
            work.remove_segment(number)
        return
    if found.live:
        async for row in work.bodies(shard):
            for extent in row.extents:
                if extent.segment in found.live:
                    found.live[extent.segment] += stored_bytes(extent)
    before = 0
    while (garbage := garbage_after(work.views[shard], before)) and garbage.segment < base.segment:
        found.garbage[garbage.segment] = garbage
        before = garbage.segment
        await work.pace.rest()
    await _unlink_dead(work, shard, found)
    await _move_live(work, shard, _sparse(work, found))


async def _unlink_dead(work: Work, shard: ShardId, found: _Segments) -> None:
    horizon_ms = work.horizon_ms
    for number, live in list(found.live.items()):
        garbage = found.garbage.get(number)
        if not live and (garbage is None or garbage.freed_ms <= horizon_ms):
            work.remove_segment(number)
            del found.live[number]
    for number in found.garbage:
        if number not in found.live:
            await work.forget_segment(shard, number)


def _sparse(work: Work, found: _Segments) -> frozenset[int]:
    """Segments with less live bytes than it takes to keep them."""
    share = work.settings.live_share
    return frozenset(
        number
        for number, live in found.live.items()
        if 0 < live < share * work.segments.size(number)
    )


async def _move_live(work: Work, shard: ShardId, segments: frozenset[int]) -> None:
    if not segments:
        return
    batch: list[Move] = []
    size = 0
    async for row in work.bodies(shard):
        for extent in row.extents:
            if extent.segment not in segments:
                continue
            data = await _read(work, shard, row, extent)
            if data is None:
                continue
            batch.append(_move(row, extent, data))
            size += len(data)
            if len(batch) == ASK_AT_ONCE or size >= MOVE_BYTES_MAX:
                await _send(work, shard, batch, size)
                batch, size = [], 0
    await _send(work, shard, batch, size)


async def _read(
    work: Work, shard: ShardId, row: VersionBody | PartBody, extent: Extent
) -> bytes | None:
    """The verified bytes; None, and a report, when they are damaged or cannot be read."""
    try:
        return bytes(await work.reader.read(extent, 0, extent.length))
    except MediaError as error:
        now = row_of(work.views[shard], row)
        if now is not None and extent in now.extents:
            work.report_damage(f"{work.store.shard(shard).name} {row}", str(error))
        return None


def _move(row: VersionBody | PartBody, old: Extent, data: bytes) -> Move:
    bucket = BucketId(row.bucket)
    if isinstance(row, PartBody):
        return MovePartBody(
            bucket=bucket, upload_id=row.upload, number=row.number, old=old, data=data
        )
    return MoveVersionBody(bucket=bucket, key=row.key, order=row.order, old=old, data=data)


async def _send(work: Work, shard: ShardId, moves: list[Move], size: int) -> None:
    if not moves:
        return
    await work.pace.spend(size)
    results = await work.ask(shard, moves)
    for move, result in zip(moves, results, strict=True):
        if isinstance(result, Moved) and result.moved:
            work.state.count("bodies_moved", 1)
            work.state.count("bytes_moved", len(move.data))

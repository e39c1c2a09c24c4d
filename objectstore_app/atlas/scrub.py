"""The scrub: reads everything that objects and recovery need, and compares the checksums.

Theory of operation. A cycle goes through the stages of one shard after the other: the log that a
rebuild would read, the base, the bodies of parts and of versions (chunks block by block, bodies in
records whole), and each bucket's usage against a count. It reads at a limited rate and for a
limited time, remembers where it was, and goes on there, after a restart, too. It reports what it
finds and repairs nothing: what was damaged is for an operator to know.
"""

from __future__ import annotations

import time

from ..core.ids import BucketId, ShardId
from ..core.limits import MIB
from ..media.errors import MediaError
from ..media.segments import DIRECTORY_SHARD, shard_folder
from ..metadata_service.bases import base_path, newest_base, verify
from ..metadata_service.kept_bases import kept_base, verify_kept
from ..metadata_service.record import LogScan
from ..metadata_service.survey import (
    PARTS_BEGIN,
    VERSIONS_BEGIN,
    PartBody,
    VersionBody,
    bucket_after,
    parts_page,
    row_of,
    usage_and_count,
    versions_page,
)
from ..metadata_service.view import read_position
from .state import ScrubPoint
from .work import Work

STAGES = ("log", "base", "parts", "versions", "usage")
_PAGE_ROWS = 100
_READ_BYTES = 1 * MIB
_RECORDS_A_STEP = 256


class Scrub:
    """One slice of a cycle."""

    def __init__(self, work: Work, *, slice_s: float) -> None:
        """`slice_s` 0 means to the end of the cycle."""
        self._work = work
        self._point = work.state.scrub
        self._until = time.monotonic() + slice_s if slice_s else float("inf")

    async def run(self) -> None:
        """Go on until the slice or the cycle ends. Raises MediaFailedError, StoppedError."""
        state = self._work.state
        if not self._point.stage:
            state.scrub = self._point = ScrubPoint(
                begun_ms=self._work.now_ms(), shard=self._work.store.shards[0], stage=STAGES[0]
            )
        while self._point.stage and time.monotonic() < self._until:
            if await self._stage(ShardId(self._point.shard)):
                self._next_stage()

    def _next_stage(self) -> None:
        point, shards = self._point, self._work.store.shards
        point.after = None
        place = STAGES.index(point.stage) + 1
        if place < len(STAGES) and point.shard != DIRECTORY_SHARD:
            point.stage = STAGES[place]
            return
        if place < STAGES.index("parts"):
            point.stage = STAGES[place]  # the directory has nothing but a log and a base
            return
        later = shards.index(ShardId(point.shard)) + 1
        if later < len(shards):
            point.shard, point.stage = shards[later], STAGES[0]
            return
        point.stage = ""
        state = self._work.state
        state.scrubs_completed += 1
        state.scrub_ended_ms = self._work.now_ms()
        # What this cycle did not find again has been mended or deleted.
        state.damage = [one for one in state.damage if one.found_ms >= point.begun_ms]

    async def _stage(self, shard: ShardId) -> bool:
        """Do some of the stage; true when it is done."""
        match self._point.stage:
            case "log":
                return await self._log(shard)
            case "base":
                return await self._base(shard)
            case "parts":
                return await self._parts(shard)
            case "versions":
                return await self._versions(shard)
            case _:
                return await self._usage(shard)

    async def _log(self, shard: ShardId) -> bool:
        """Records from the base to where the view is now: no writer changes these any more."""
        work, files = self._work, self._work.media.kept_files(shard)
        name = shard_folder(shard)
        last, *_ = read_position(work.views[shard])
        base = newest_base(work.store.shard(shard)) if files is None else kept_base(files)
        begin = (base.segment, base.sequence, base.offset) if base else (0, 0, 0)
        if self._point.after is not None:
            segment, sequence, offset = self._point.after
            if int(sequence) > begin[1]:
                begin = (segment, int(sequence), offset)
        segment, applied, offset = begin
        if applied >= last:
            return True
        scan = LogScan(work.media.log_source(shard), segment, offset, applied)
        done = 0
        try:
            for record in scan:
                done += record.end - record.offset
                self._point.after = (record.segment, str(record.sequence), record.end)
                if record.sequence >= last:
                    await self._spend(done)
                    return True
                if record.sequence % _RECORDS_A_STEP == 0 or done > _READ_BYTES:
                    await self._spend(done)
                    done = 0
                    if time.monotonic() >= self._until:
                        return False
        except MediaError as error:
            work.report_damage(f"{name} log", str(error))
            return True
        work.report_damage(f"{name} log", f"it ends before record {last} of the view")
        return True

    async def _base(self, shard: ShardId) -> bool:
        folder, files = self._work.store.shard(shard), self._work.media.kept_files(shard)
        base = newest_base(folder) if files is None else kept_base(files)
        if base is None:
            return True
        try:
            for count in verify(folder, base) if files is None else verify_kept(files, base):
                await self._spend(count)
        except (MediaError, OSError) as error:
            where = f"{shard_folder(shard)} {base_path(folder, base).name}"
            self._work.report_damage(where, str(error))
        return True

    async def _parts(self, shard: ShardId) -> bool:
        after = self._point.after or PARTS_BEGIN
        page = parts_page(self._work.views[shard], (after[0], after[1], after[2]), _PAGE_ROWS)
        for row in page:
            if not await self._body(shard, row, (row.bucket, row.upload, row.number)):
                return False
        return not page

    async def _versions(self, shard: ShardId) -> bool:
        after = VERSIONS_BEGIN
        if self._point.after is not None:
            bucket, key, order = self._point.after
            after = (bucket, bytes.fromhex(key), order)
        page = versions_page(self._work.views[shard], after, _PAGE_ROWS)
        for row in page:
            if not await self._body(shard, row, (row.bucket, row.key.hex(), row.order)):
                return False
        return not page

    async def _body(
        self, shard: ShardId, row: VersionBody | PartBody, place: tuple[int, str, int]
    ) -> bool:
        """Verify what the row at `place` names; false when the slice ends before."""
        work, point = self._work, self._point
        first = point.extents_done if point.inside == place else 0
        for index, extent in enumerate(row.extents[first:], first):
            if time.monotonic() >= self._until:
                point.inside, point.extents_done = place, index
                return False
            step = _READ_BYTES if extent.blocks else extent.length
            try:
                for start in range(0, extent.length, step):
                    length = min(step, extent.length - start)
                    await work.reader.read(extent, start, length)
                    await self._spend(length)
            except MediaError as error:
                now = row_of(work.views[shard], row)
                if now is not None and extent in now.extents:
                    work.report_damage(f"{work.store.shard(shard).name} {row}", str(error))
        point.after, point.inside, point.extents_done = place, None, 0
        return True

    async def _usage(self, shard: ShardId) -> bool:
        view = self._work.views[shard]
        after = self._point.after[0] if self._point.after else -1
        bucket = bucket_after(view, after)
        if bucket is None:
            return True
        kept, counted = usage_and_count(view, BucketId(bucket))
        if kept != counted:
            where = f"{self._work.store.shard(shard).name} bucket {bucket}"
            self._work.report_damage(where, f"usage is kept as {kept} and counts up to {counted}")
        self._point.after = (bucket, "", 0)
        await self._work.pace.rest()
        return False

    async def _spend(self, count: int) -> None:
        self._work.state.count("bytes_scrubbed", count)
        await self._work.pace.spend(count)

"""What every pass of Atlas works with: the views to read, the writers to ask, pace and state.

Atlas reads the views as a front end does and changes nothing in them itself: what has to change it
asks of the shards' writers, in small batches.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field
from typing import ParamSpec, Protocol, TypeVar

from ..config.atlas import AtlasSettings
from ..core.ids import ShardId
from ..media.api import Extent, ExtentReader, Segments
from ..media.opened import Media
from ..media.segments import DIRECTORY_SHARD, table_bytes
from ..media.store import Store
from ..metadata_service.api import DataMutation, ForgetGarbage, MutationResult
from ..metadata_service.pipe import MutationPipe
from ..metadata_service.survey import (
    PARTS_BEGIN,
    VERSIONS_BEGIN,
    PartBody,
    VersionBody,
    View,
    parts_page,
    segment_garbage_page,
    versions_page,
)
from ..metadata_service.view import open_reader
from ..metadata_service.views import close_views
from ..runtime.logging import event
from .pace import Pace
from .state import Damage, State

P = ParamSpec("P")
Answer = TypeVar("Answer")

ASK_AT_ONCE = 4
PAGE_ROWS = 500
FORGET_ROWS = 250


class Writers(Protocol):
    """Who decides about the shards."""

    async def submit(self, shard: ShardId, mutation: DataMutation) -> MutationResult:
        """Return when it is durable. Raises what it was refused with, UnavailableError."""

    async def close(self) -> None: ...


class LocalWriters:
    """The writers beside this process. Make it inside the running loop."""

    def __init__(self, store: Store) -> None:
        self._pipes = {
            shard: MutationPipe(store.run, store.socket_name(shard))
            for shard in store.shards
            if shard != DIRECTORY_SHARD
        }

    async def submit(self, shard: ShardId, mutation: DataMutation) -> MutationResult:
        return await self._pipes[shard].submit(mutation)

    async def close(self) -> None:
        for pipe in self._pipes.values():
            await pipe.close()


@dataclass(slots=True)
class Work:
    """Open it inside a running loop and while the writers live; close it at the end."""

    store: Store
    media: Media
    settings: AtlasSettings
    state: State
    pace: Pace
    now_ms: Callable[[], int]
    writers: Writers
    views: dict[ShardId, View] = field(init=False)
    reader: ExtentReader = field(init=False)
    segments: Segments = field(init=False)

    def __post_init__(self) -> None:
        self.views = {shard: open_reader(self.store.view(shard)) for shard in self.store.shards}
        self.reader, self.segments = self.media.reader, self.media.segments

    @property
    def data_shards(self) -> tuple[ShardId, ...]:
        return tuple(shard for shard in self.store.shards if shard != DIRECTORY_SHARD)

    @property
    def horizon_ms(self) -> int:
        """What was freed by then, nobody reads any more."""
        return self.now_ms() - int(self.settings.grace_s * 1000)

    async def ask(self, shard: ShardId, mutations: Sequence[DataMutation]) -> list[MutationResult]:
        """Have the shard's writer decide these, few at a time. Raises what one was refused with,
        once those beside it are answered.
        """
        results: list[MutationResult] = []
        for first in range(0, len(mutations), ASK_AT_ONCE):
            begun = time.monotonic()
            outcomes = await asyncio.gather(
                *(
                    self.writers.submit(shard, mutation)
                    for mutation in mutations[first : first + ASK_AT_ONCE]
                ),
                return_exceptions=True,
            )
            for outcome in outcomes:
                if isinstance(outcome, BaseException):
                    raise outcome
                results.append(outcome)
            await self.pace.after_commit(time.monotonic() - begun)
        return results

    async def bodies(self, shard: ShardId) -> AsyncIterator[VersionBody | PartBody]:
        """All parts of a shard that name extents, and then all versions that do: in this order, see
        `survey`.
        """
        view = self.views[shard]
        part = PARTS_BEGIN
        while parts := parts_page(view, part, PAGE_ROWS):
            for held in parts:
                if held.extents:
                    yield held
            part = parts[-1][:3]
            await self.pace.rest()
        version = VERSIONS_BEGIN
        while versions := versions_page(view, version, PAGE_ROWS):
            for one in versions:
                if one.extents:
                    yield one
            version = versions[-1][:3]
            await self.pace.rest()

    async def forget_segment(self, shard: ShardId, segment: int) -> None:
        """Drop the garbage rows of a segment that is gone."""
        view = self.views[shard]
        while page := segment_garbage_page(view, segment, -1, FORGET_ROWS):
            newest = max(row.freed_ms for row in page)
            end = page[-1].offset + 1
            forget = ForgetGarbage(segment=segment, start=0, end=end, freed_ms=newest)
            await self.ask(shard, [forget])

    def remove_segment(self, segment: int) -> bool:
        """Remove a segment that nobody needs; false when a reader still holds it. Raises
        MediaFailedError.
        """
        freed = self.segments.remove(segment)
        if freed is None:
            return False
        self.state.count("bytes_freed", freed)
        self.state.count("segments_removed", 1)
        return True

    def report_damage(self, where: str, what: str) -> None:
        event("damage_found", where=where, what=what)
        self.state.add_damage(Damage(self.now_ms(), where, what))

    async def off_loop(
        self, call: Callable[P, Answer], *args: P.args, **kwargs: P.kwargs
    ) -> Answer:
        """A call that may take long, in a thread: the reader's answers come on the loop."""
        return await asyncio.to_thread(call, *args, **kwargs)

    async def close(self) -> None:
        await self.writers.close()
        close_views(list(self.views.values()))


def stored_bytes(extent: Extent) -> int:
    """What an extent takes in its segment."""
    return extent.length + (table_bytes(extent.length) if extent.blocks else 0)

"""Who has which shard, as far as this process knows: from the map's file, and from gateways that
said who has it in their place. Of two answers the one of the later epoch holds.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from ..config.errors import ShardMapError
from ..config.shard_map import MapFile, ShardMap, ShardOwner
from ..core.ids import ShardId
from ..media.segments import shard_folder
from ..runtime.logging import event
from .errors import NotOwnerError

LOOK_S = 0.05


class Owners:
    """Belongs to one loop; looks at the file now and then."""

    def __init__(self, file: MapFile, moved: Callable[[str, str], None] = lambda *_: None) -> None:
        """`moved` is called with the name of a shard that is at another address now, and the one
        that it was at.
        """
        self._file = file
        self._moved = moved
        self._loop = asyncio.get_running_loop()
        self._map = ShardMap()
        self._read: ShardMap | None = None
        self._names: dict[ShardId, str] = {}
        self._complaint = ""
        self._change: asyncio.Future[None] = self._loop.create_future()
        self._timer: asyncio.TimerHandle | None = None
        self._look()

    @property
    def known(self) -> bool:
        """Whether the file was there."""
        return bool(self._map.shards)

    def name(self, shard: ShardId) -> str:
        found = self._names.get(shard)
        if found is None:
            found = self._names[shard] = shard_folder(shard)
        return found

    def of(self, shard: ShardId) -> ShardOwner | None:
        return self._map.shards.get(self.name(shard))

    def addresses(self) -> set[str]:
        return {owner.address for owner in self._map.shards.values()}

    def not_owner(self, shard: ShardId) -> NotOwnerError:
        """What a pod says that does not have it."""
        owner = self.of(shard)
        if owner is None:
            return NotOwnerError.of(self.name(shard))
        return NotOwnerError.of(self.name(shard), owner.epoch, owner.address)

    def learn(self, error: NotOwnerError) -> bool:
        """Take what a gateway says; whether that is news."""
        if not error.address:
            return False
        owner = ShardOwner(address=error.address, epoch=error.epoch, pod="")
        return self._take(ShardMap(shards={error.subject: owner}))

    async def change(self, within_s: float) -> None:
        """Return when anything changes, or after that time, knowing what the file says by then.
        Needs no task around it.
        """
        waited: asyncio.Future[None] = self._loop.create_future()

        def end(_: asyncio.Future[None] | None = None) -> None:
            if not waited.done():
                waited.set_result(None)

        timer = self._loop.call_later(within_s, end)
        self._change.add_done_callback(end)
        try:
            await waited
        finally:
            timer.cancel()
            self._change.remove_done_callback(end)
        self._refresh()

    def close(self) -> None:
        if self._timer is not None:
            self._timer.cancel()

    def _look(self) -> None:
        self._timer = self._loop.call_later(LOOK_S, self._look)
        self._refresh()

    def _refresh(self) -> None:
        try:
            found = self._file.current()
        except ShardMapError as error:
            if str(error) != self._complaint:
                self._complaint = str(error)
                event("shard_map_unreadable", reason=self._complaint)
            return
        self._complaint = ""
        if found is not None and found is not self._read:
            self._read = found
            self._take(found)

    def _take(self, other: ShardMap) -> bool:
        before, self._map = self._map, self._map.merged(other)
        if self._map is before:
            return False
        for name, owner in before.shards.items():
            if self._map.shards[name].address != owner.address:
                self._moved(name, owner.address)
        change, self._change = self._change, self._loop.create_future()
        change.set_result(None)
        return True

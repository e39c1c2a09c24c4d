"""A pod's copy of the shard map, which the other processes of the pod read (`shard_map.py`).

Whoever speaks with the coordination service keeps it: the agent, or `follow_map` in a pod without
shards. It is merged, never taken back: a service that lost its memory knows less than the copy.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from pathlib import Path

from ..config.coordination import Coordination
from ..config.errors import CoordinationError, ShardMapError
from ..config.shard_map import ShardMap, write_map

LOOK_S = 5.0


class MapCopy:
    """The copy in a pod's `run` folder, and what it says."""

    def __init__(self, run: Path) -> None:
        self._run = run
        self.map: ShardMap | None = None

    def take(self, found: ShardMap) -> None:
        """Add what was found. Raises OSError; the copy is as before then."""
        merged = found if self.map is None else self.map.merged(found)
        if merged != self.map:
            write_map(self._run, merged)
            self.map = merged


async def follow_map(coordination: Coordination, run: Path, stop: asyncio.Event) -> None:
    """Keep the copy in `run` until `stop`, for a pod that has no agent."""
    loop = asyncio.get_running_loop()
    wake = asyncio.Event()
    copy = MapCopy(run)

    def changed() -> None:
        with suppress(RuntimeError):  # the loop is closed already
            loop.call_soon_threadsafe(wake.set)

    async def wake_at_stop() -> None:
        await stop.wait()
        wake.set()

    coordination.start(changed)
    try:
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(wake_at_stop())
            while not stop.is_set():
                wake.clear()
                with suppress(CoordinationError, ShardMapError, OSError):
                    copy.take(await loop.run_in_executor(None, coordination.read_map))
                with suppress(TimeoutError):
                    async with asyncio.timeout(LOOK_S):
                        await wake.wait()
    finally:
        await loop.run_in_executor(None, coordination.close)

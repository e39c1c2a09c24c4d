"""Pods of a store in one loop: real processes' code over logs in memory, coordination in memory.

What a process holds is its own: a pod's shard can be cut off (its task ends without a word, as by
kill -9) and begun again; an agent's session can expire or be out of reach.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from objectstore_app.config.coordination import Identity
from objectstore_app.config.memory import Hall, MemoryCoordination
from objectstore_app.config.shard_map import MapFile, ShardOwner
from objectstore_app.core.ids import ShardId
from objectstore_app.media.rados.log import RadosLog, RadosLogReader
from objectstore_app.media.rados.memory import MemoryObjects
from objectstore_app.media.segments import shard_folder
from objectstore_app.media.store import open_store
from objectstore_app.metadata_service.agent import Agent
from objectstore_app.metadata_service.api import MutationResult, PutVersion
from objectstore_app.metadata_service.errors import NotOwnerError, UnavailableError
from objectstore_app.metadata_service.holding import Holding, holding_path
from objectstore_app.metadata_service.machine import Mutation
from objectstore_app.metadata_service.pipe import MutationPipe
from objectstore_app.metadata_service.pod_shard import PodShard

SHARDS = tuple(ShardId(number) for number in range(3))
IDENTITY = Identity(data_shards=len(SHARDS), region="us-east-1")
WAIT_S_MAX = 20.0


@dataclass
class SharedLogs:
    """The part of Media that shards need, over objects that all pods share."""

    objects: MemoryObjects = field(default_factory=MemoryObjects)

    def log(self, shard: ShardId) -> RadosLog:
        return RadosLog(self.objects, shard)

    def log_source(self, shard: ShardId, *, standby: bool = False) -> RadosLogReader:
        return RadosLogReader(self.objects, shard)

    def kept_files(self, _: ShardId) -> None:
        return None


class MemoryPod:
    """A pod with all of its processes as tasks of this loop."""

    def __init__(self, folder: Path, number: int, logs: SharedLogs, hall: Hall) -> None:
        self.name = f"metadata-{number}"
        self.address = f"127.0.0.1:{number + 1}"  # where nobody listens
        self.gateway_silent_s = 0.0
        self.store = open_store(folder / self.name, data_shards=len(SHARDS))
        self.coordination = MemoryCoordination(hall, self.name)
        self.map = MapFile(self.store.run)
        self._logs = logs
        self._stops: dict[str, asyncio.Event] = {}
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._pipes: dict[ShardId, MutationPipe] = {}

    def start(self) -> None:
        for shard in SHARDS:
            self.start_shard(shard)
        self.start_agent()

    def start_shard(self, shard: ShardId) -> None:
        host = PodShard(self.store, shard, self._logs)
        self._begin(shard_folder(shard), lambda stop: host.serve(ready=lambda: None, stop=stop))

    def start_agent(self) -> None:
        self.agent = Agent(
            self.coordination,
            pod=self.name,
            service="metadata",
            address=self.address,
            shards=tuple(map(shard_folder, SHARDS)),
            identity=IDENTITY,
            run=self.store.run,
            gateway_silent_s=lambda: self.gateway_silent_s,
        )
        self._begin("agent", lambda stop: self.agent.serve(ready=lambda: None, stop=stop))

    async def leave(self) -> None:
        """End in good order, as after SIGTERM."""
        await self._end("agent")
        for shard in SHARDS:
            await self._end(shard_folder(shard))
        await self.close()

    async def cut(self, name: str) -> None:
        """End a process without a word."""
        task = self._tasks.pop(name)
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task

    async def die(self) -> None:
        """All of its processes, and its session ends, as after its time."""
        for name in list(self._tasks):
            await self.cut(name)
        await self.close()

    async def close(self) -> None:
        for pipe in self._pipes.values():
            await pipe.close()
        self._pipes.clear()

    async def submit(self, shard: ShardId, mutation: Mutation) -> MutationResult:
        if shard not in self._pipes:
            self._pipes[shard] = MutationPipe(self.store.run, self.store.socket_name(shard))
        return await self._pipes[shard].submit(mutation)

    def holds(self, shard: ShardId) -> int:
        """The epoch that readers beside the shard's process are told."""
        holding = Holding(holding_path(self.store.run, shard), write=False)
        try:
            return holding.epoch
        finally:
            holding.close()

    def _begin(self, name: str, serve: Callable) -> None:
        self._stops[name] = asyncio.Event()
        self._tasks[name] = asyncio.ensure_future(serve(self._stops[name]))

    async def _end(self, name: str) -> None:
        self._stops[name].set()
        await self._tasks.pop(name)


class House:
    """Pods of one store, and a router over them that knows what a front end would."""

    def __init__(self, folder: Path, pods: int = 3) -> None:
        self.hall, self.logs = Hall(), SharedLogs()
        self.pods = {
            pod.name: pod
            for pod in (MemoryPod(folder, number, self.logs, self.hall) for number in range(pods))
        }

    def owner(self, shard: ShardId) -> ShardOwner | None:
        return self.hall.shard_map.owner(shard_folder(shard))

    def owners(self) -> list[str]:
        """The pods of the shards, in their order; empty texts where nobody is known."""
        found = [self.owner(shard) for shard in SHARDS]
        return [one.pod if one else "" for one in found]

    def settled(self) -> bool:
        """Every shard has one owner, which claims it, and the map says so."""
        return all(
            (owner := self.owner(shard)) is not None
            and self.hall.claims.get(shard_folder(shard), (0, ""))[1] == owner.pod
            and self.pods[owner.pod].holds(shard) == owner.epoch
            for shard in SHARDS
        )

    async def write(self, shard: ShardId, mutation: Mutation) -> MutationResult:
        """Send to the owner until it is decided; UnavailableError: its outcome is unknown."""
        deadline = asyncio.get_running_loop().time() + WAIT_S_MAX
        while True:
            owner = self.owner(shard)
            with suppress(NotOwnerError):
                if owner is not None:
                    return await self.pods[owner.pod].submit(shard, mutation)
            assert asyncio.get_running_loop().time() < deadline, f"nobody takes {shard}"
            await asyncio.sleep(0.01)

    async def put_until(self, shard: ShardId, put: PutVersion) -> MutationResult:
        """A write that may be repeated, whatever became of it."""
        while True:
            try:
                return await self.write(shard, put)
            except UnavailableError:
                await asyncio.sleep(0.01)


async def until(holds: Callable[[], bool], what: str) -> None:
    deadline = asyncio.get_running_loop().time() + WAIT_S_MAX
    while not holds():
        assert asyncio.get_running_loop().time() < deadline, f"waited for: {what}"
        await asyncio.sleep(0.01)

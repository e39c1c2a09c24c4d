"""Three metadata pods over a real RADOS and a real ZooKeeper, under load.

A *writer* a shard sends one mutation after the other to whom the shard map names, as a front end
would, and knows what it was told: what was acknowledged has to be there in the end, anything else
may. The longest time between two acknowledgements is what a client
would have waited.
"""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path

from objectstore_app.config.coordination import Plan
from objectstore_app.config.service import ZooKeeperSettings
from objectstore_app.config.shard_map import MapFile, ShardOwner
from objectstore_app.config.zookeeper import ZooKeeper
from objectstore_app.core.ids import BucketId, ShardId, UserId
from objectstore_app.media.segments import shard_folder
from objectstore_app.metadata_service.api import OpenBucket, PutVersion
from objectstore_app.metadata_service.errors import NotOwnerError, UnavailableError, UnsentError
from objectstore_app.metadata_service.machine import Mutation
from objectstore_app.metadata_service.map_copy import follow_map
from objectstore_app.metadata_service.pipe import MutationPipe
from objectstore_app.metadata_service.reads import lookup
from objectstore_app.metadata_service.view import open_reader
from tests.ceph.cluster import wait_until
from tests.ceph.pods import SHARDS, Pod

SHARD_IDS = tuple(ShardId(number) for number in range(SHARDS))
BUCKET = BucketId(7)
OWNER = UserId("a" * 64)
READY_S_MAX = 60.0
ATTEMPT_S = 0.02


@dataclass
class History:
    """Of one writer. `last` are the numbers sent to the one key that it overwrites."""

    shard: ShardId
    acknowledged: set[int] = field(default_factory=set)
    unknown: set[int] = field(default_factory=set)
    times: list[float] = field(default_factory=list)

    def longest_wait(self, since: float = 0.0) -> float:
        """Between two acknowledgements, in seconds; counted from `since` on."""
        times = [since, *(one for one in self.times if one >= since), time.monotonic()]
        if not since:
            times = times[1:-1]
        return max((after - before for before, after in itertools.pairwise(times)), default=0.0)


class Fleet:
    """The pods of one store. Belongs to one loop."""

    def __init__(
        self, folder: Path, zookeeper: ZooKeeperSettings, ceph: Path, namespace: str, pods: int = 3
    ) -> None:
        self.zookeeper = replace(zookeeper, root=f"/objectstore/{namespace}")  # as pods do it
        self.pods = {
            name: Pod(folder / name, name, service="metadata", zookeeper=zookeeper, ceph=ceph,
                      namespace=namespace)
            for name in (f"metadata-{number}" for number in range(pods))
        }  # fmt: skip
        self._front_end = folder / "front-end"
        self._front_end.mkdir()
        self.map = MapFile(self._front_end)
        self.histories = [History(shard) for shard in SHARD_IDS]
        self._following: asyncio.Future[None] | None = None
        self._numbers = 0
        self._writing = True
        self._pipes: dict[tuple[str, ShardId], MutationPipe] = {}

    def owner(self, shard: ShardId) -> ShardOwner | None:
        """As a front end knows it."""
        known = self.map.current()
        return known.owner(shard_folder(shard)) if known else None

    def pod_of(self, shard: ShardId) -> Pod:
        owner = self.owner(shard)
        assert owner is not None
        return self.pods[owner.pod]

    def owners(self) -> list[str]:
        return [owner.pod if (owner := self.owner(shard)) else "" for shard in SHARD_IDS]

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """All pods, ready, one shard each, and a front end's copy of the map."""
        stop = asyncio.Event()
        self._following = asyncio.ensure_future(
            follow_map(ZooKeeper(self.zookeeper, "front-end"), self._front_end, stop)
        )
        try:
            for pod in self.pods.values():
                pod.start()
            for pod in self.pods.values():
                await asyncio.to_thread(pod.wait_ready)
            await self.until(lambda: len(set(self.owners())) == SHARDS, "one shard each")
            for shard in SHARD_IDS:
                await self.send(shard, OpenBucket(bucket=BUCKET))
            yield
        finally:
            stop.set()
            await self._following
            for pipe in self._pipes.values():
                await pipe.close()
            for pod in self.pods.values():
                pod.kill()

    @asynccontextmanager
    async def load(self) -> AsyncIterator[None]:
        """Writers run meanwhile; afterwards all that they know holds."""
        self._writing = True
        writers = [asyncio.ensure_future(self._write(one)) for one in self.histories]
        try:
            await asyncio.sleep(0.5)
            yield
            await asyncio.sleep(0.5)
        finally:
            self._writing = False
            await asyncio.gather(*writers)

    async def send(self, shard: ShardId, mutation: Mutation) -> object:
        """To the owner, until it is decided. Raises UnavailableError: its outcome is unknown."""
        deadline = time.monotonic() + READY_S_MAX
        while True:
            owner = self.owner(shard)
            with suppress(NotOwnerError, UnsentError):
                if owner is not None:
                    return await self._pipe(owner.pod, shard).submit(mutation)
            assert time.monotonic() < deadline, f"nobody takes {shard}: {owner}"
            await asyncio.sleep(ATTEMPT_S)

    async def until(self, holds, what: str, limit_s: float = READY_S_MAX) -> None:
        deadline = time.monotonic() + limit_s
        while not holds():
            if self._following is not None and self._following.done():
                self._following.result()
            assert time.monotonic() < deadline, f"waited for: {what}: {self.owners()}"
            await asyncio.sleep(0.02)

    async def swap(self, one: ShardId, other: ShardId) -> None:
        """Plan two shards at each other's pods, and wait until they are there."""
        first, second = self.pod_of(one).name, self.pod_of(other).name
        deadline = time.monotonic() + READY_S_MAX
        while (self.pod_of(one).name, self.pod_of(other).name) != (second, first):
            assert time.monotonic() < deadline, f"not swapped: {self.owners()}"
            # Who balances may see one of the plans without the other, and change it back.
            await asyncio.to_thread(self._plan, {one: second, other: first})
            await asyncio.sleep(0.5)

    async def ask(self, pod: str, shard: ShardId, mutation: Mutation) -> object:
        """A pod's process, whoever has the shard; for as long as it takes."""
        run = self.pods[pod].run
        pipe = MutationPipe(run, f"{shard_folder(shard)}.sock")
        try:
            return await pipe.submit(mutation)
        finally:
            await pipe.close()

    def check(self) -> int:
        """Compare the views of the owners with what the writers know; how many writes counted."""
        for history in self.histories:
            pod = self.pod_of(history.shard)
            view = open_reader(pod.data / shard_folder(history.shard) / "view.sqlite")
            try:
                for number in history.acknowledged:
                    assert lookup(view, BUCKET, b"%09d" % number, ""), f"{number} was acknowledged"
                last = lookup(view, BUCKET, b"last", "")
                assert last is not None
                found = int(last.etag)
                assert found in history.acknowledged | history.unknown
                assert found >= max(history.acknowledged), "an acknowledged overwrite is gone"
                late = [b"late-%d" % number for number in range(20)]
                assert not any(lookup(view, BUCKET, key, "") for key in late), "a zombie's write"
            finally:
                view.close()
        return sum(len(history.acknowledged) for history in self.histories)

    # --- helpers ---

    async def _write(self, history: History) -> None:
        while self._writing:
            self._numbers += 1
            number = self._numbers
            try:
                await self.send(history.shard, put(b"%09d" % number, number))
                await self.send(history.shard, put(b"last", number))
            except UnavailableError:
                history.unknown.add(number)
                await asyncio.sleep(ATTEMPT_S)
                continue
            history.acknowledged.add(number)
            history.times.append(time.monotonic())

    def _pipe(self, pod: str, shard: ShardId) -> MutationPipe:
        if (pod, shard) not in self._pipes:
            run = self.pods[pod].run
            self._pipes[pod, shard] = _ImpatientPipe(run, f"{shard_folder(shard)}.sock")
        return self._pipes[pod, shard]

    def _plan(self, owners: dict[ShardId, str]) -> None:
        zookeeper = ZooKeeper(self.zookeeper, "planner")
        zookeeper.start(lambda: None)
        try:
            wait_until(lambda: zookeeper._client.connected, "ZooKeeper answers")
            seen = zookeeper.look([shard_folder(shard) for shard in owners])
            for shard, pod in owners.items():
                name = shard_folder(shard)
                zookeeper.plan(name, Plan(owner=pod), seen.versions[name])
        finally:
            zookeeper.close()


class _ImpatientPipe(MutationPipe):
    """Gives up soon, as a front end does that can look at the map again."""

    ANSWER_S_MAX = 2.0

    @property
    def patience_s(self) -> float:
        return 0.2


def put(key: bytes, number: int) -> PutVersion:
    return PutVersion(bucket=BUCKET, key=key, owner=OWNER, size=4, etag=str(number), data=b"body")

"""A whole metadata service in this process and in memory, for the tests of everything above it.

The shards, their decisions, logs and views are the real ones; only the medium is memory. Use:

    parts = memory_service()
    parts.client     a MetadataClient
    parts.chunks     a ChunkWriter for bodies larger than a record takes
    parts.reader     an ExtentReader for what a version's `body.extents` name
    parts.store      the bytes themselves; pass it to `memory_service(store=…)` to start again on
                     what an earlier service wrote

    bucket = await client.mutate_directory(CreateBucket(name="b", owner=owner))
    await client.mutate(bucket, OpenBucket(bucket=bucket.id))
    await client.mutate(bucket, PutVersion(bucket=bucket.id, key=b"k", owner=owner, size=1, …))
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from ..core.errors import ObjectStoreError
from ..core.ids import ShardId
from ..media.memory import MemoryChunks, MemoryLog, MemoryReader, MemoryStore
from ..media.segments import DIRECTORY_SHARD
from .api import Bucket, DataMutation, DirectoryMutation, MutationResult
from .machine import Mutation
from .shard import Shard
from .views import ViewReads


class MemoryClient(ViewReads):
    """MetadataClient over shards of this process; every mutation is a commit of its own."""

    def __init__(self, directory: Shard, data: dict[ShardId, Shard]) -> None:
        super().__init__(directory.view, {shard: held.view for shard, held in data.items()})
        self._directory_shard = directory
        self._data_shards = data

    async def mutate_directory(self, mutation: DirectoryMutation) -> MutationResult:
        return _commit(self._directory_shard, mutation)

    async def mutate(self, bucket: Bucket, mutation: DataMutation) -> MutationResult:
        return _commit(self._data_shards[bucket.shard], mutation)

    async def mutate_all(
        self, bucket: Bucket, mutations: Sequence[DataMutation]
    ) -> Sequence[MutationResult | ObjectStoreError]:
        return self._data_shards[bucket.shard].commit(mutations)

    async def mutate_shards(self, mutation: DataMutation) -> None:
        for shard in self._data_shards.values():
            _commit(shard, mutation)

    async def close(self) -> None:
        for shard in (self._directory_shard, *self._data_shards.values()):
            shard.close()


@dataclass(frozen=True, slots=True)
class MemoryService:
    client: MemoryClient
    chunks: MemoryChunks
    reader: MemoryReader
    store: MemoryStore


def memory_service(
    *,
    store: MemoryStore | None = None,
    data_shards: int = 1,
    now_ms: Callable[[], int] = lambda: time.time_ns() // 1_000_000,
) -> MemoryService:
    """Start a service on a store in memory, a new one unless given."""
    store = store or MemoryStore()

    def open_shard(shard: ShardId) -> Shard:
        log = MemoryLog(store, shard)
        return Shard(shard, log, None, data_shards=data_shards, now_ms=now_ms)

    data = {shard: open_shard(shard) for shard in map(ShardId, range(data_shards))}
    client = MemoryClient(open_shard(DIRECTORY_SHARD), data)
    return MemoryService(client, MemoryChunks(store), MemoryReader(store), store)


def _commit(shard: Shard, mutation: Mutation) -> MutationResult:
    (outcome,) = shard.commit([mutation])
    if isinstance(outcome, ObjectStoreError):
        raise outcome
    return outcome

"""The metadata client of a front end beside the data folder.

Reads go to the views in this process; mutations go to the shards' writers over their sockets.
Buckets and keys are cached exactly (`cache.py`). Open it after a fork, inside the running loop, and
once the writer is ready.
"""

from __future__ import annotations

import mmap
import os
from collections.abc import Sequence
from pathlib import Path

from ..core.errors import ObjectStoreError
from ..core.ids import ShardId
from ..media.errors import MediaFailedError
from ..media.segments import DIRECTORY_SHARD
from ..media.store import Store
from .api import AccessKey, Bucket, DataMutation, DirectoryMutation, MutationResult, StoreKey, User
from .cache import DirectoryCache
from .errors import UnavailableError
from .generation import GENERATION, SUSPENDED
from .pipe import MutationPipe
from .view import open_reader
from .views import ViewReads, close_views


class EmbeddedClient(ViewReads):
    """MetadataClient over the views and writers of a data folder."""

    def __init__(self, store: Store) -> None:
        """Raises MediaFailedError when the writer has not made the views yet."""
        data = {shard: open_reader(store.view(shard)) for shard in store.shards[1:]}
        self._views = [open_reader(store.view(DIRECTORY_SHARD)), *data.values()]
        super().__init__(self._views[0], data)
        self._map = _map_generation(store.generation)
        self._cache = DirectoryCache()
        self._pipes: dict[ShardId, MutationPipe] = {
            shard: MutationPipe(store.run, store.socket_name(shard)) for shard in store.shards
        }

    def generation(self) -> int:
        """The directory's generation: read it before what is to be cached under it. Raises
        UnavailableError while another store has the logs.
        """
        value: int = GENERATION.unpack_from(self._map)[0]
        if value >= SUSPENDED:
            raise UnavailableError("read", "directory", "another store has this one's logs")
        return value

    async def bucket(self, name: str) -> Bucket | None:
        cache = self._cache
        cache.enter(self.generation())
        if name not in cache.buckets:
            cache.buckets[name] = await super().bucket(name)
        return cache.buckets[name]

    async def user_of_key(self, access_key: str) -> tuple[User, AccessKey] | None:
        cache = self._cache
        cache.enter(self.generation())
        if access_key not in cache.keys:
            cache.keys[access_key] = await super().user_of_key(access_key)
        return cache.keys[access_key]

    async def store_keys(self) -> Sequence[StoreKey]:
        cache = self._cache
        cache.enter(self.generation())
        if cache.store_keys is None:
            cache.store_keys = await super().store_keys()
        return cache.store_keys

    async def mutate_directory(self, mutation: DirectoryMutation) -> MutationResult:
        return await self._pipes[DIRECTORY_SHARD].submit(mutation)

    async def mutate(self, bucket: Bucket, mutation: DataMutation) -> MutationResult:
        return await self._pipes[bucket.shard].submit(mutation)

    async def mutate_all(
        self, bucket: Bucket, mutations: Sequence[DataMutation]
    ) -> Sequence[MutationResult | ObjectStoreError]:
        return await self._pipes[bucket.shard].submit_all(mutations)

    async def mutate_shards(self, mutation: DataMutation) -> None:
        for shard, pipe in self._pipes.items():
            if shard != DIRECTORY_SHARD:
                await pipe.submit(mutation)

    async def close(self) -> None:
        for pipe in self._pipes.values():
            await pipe.close()
        close_views(self._views)
        self._map.close()


def _map_generation(path: Path) -> mmap.mmap:
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            return mmap.mmap(fd, GENERATION.size, access=mmap.ACCESS_READ)
        finally:
            os.close(fd)
    except (OSError, ValueError) as error:
        raise MediaFailedError("open directory", str(path), str(error)) from error

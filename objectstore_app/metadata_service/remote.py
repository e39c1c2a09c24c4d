"""What a front end on another node holds: metadata client and media over one gateway.

Theory of operation. One connection carries all calls (`link.py`); when it is lost, reads are sent
again, mutations and chunks are not.

Buckets and keys are cached as beside the data folder (`cache.py`); the generation is asked of the
gateway. Look-ups that begin in the same turn of the loop share one question, never one asked before
they began.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Sequence
from typing import cast

import msgspec

from ..core.errors import ObjectStoreError
from ..core.ids import UserId
from ..core.limits import CALL_S_MAX, PAGE_KEYS_MAX, PART_NUMBER_MAX, UPLOAD_CHUNK_BYTES
from ..media.api import Extent
from ..media.collected import CollectedChunk
from .api import (
    AccessKey,
    Bucket,
    BucketState,
    BucketUsage,
    DataMutation,
    DirectoryMutation,
    MutationResult,
    ObjectsPage,
    ObjectVersion,
    Part,
    StoreKey,
    Upload,
    UploadsPage,
    User,
    VersionsPage,
)
from .cache import DirectoryCache
from .cluster import CLUSTER_FRAME_BYTES_MAX, METHODS, MUTATING, READ_BYTES_MAX
from .link import Link
from .pages import SentObjects, SentVersions, received_objects, received_versions
from .wire import outcomes_of, result_of

CONNECT_TIMEOUT_S = 5.0


class GatewayConnection(Link):
    """Calls to one gateway. Belongs to one loop."""

    OPERATION = "call"
    RETRY_DELAY_S = 0.1
    ANSWER_S_MAX = CALL_S_MAX
    GREETS = False
    ABSENT = "cannot be reached"
    SILENT = "it drops the connection"  # it refuses our certificate, say

    def __init__(self, host: str, port: int, context: ssl.SSLContext) -> None:
        super().__init__(f"gateway {host}:{port}", CLUSTER_FRAME_BYTES_MAX)
        self._host = host
        self._port = port
        self._context = context

    async def call(self, method: str, *arguments: object) -> object:
        """Raises what the method raises, RecordTooLargeError, UnavailableError."""
        return METHODS[method].result.decode(await self.call_raw(method, *arguments))

    async def call_raw(self, method: str, *arguments: object) -> msgspec.Raw:
        again = method not in MUTATING and method != "write"
        return await self.ask(method, arguments, again=again)

    async def _open(self) -> None:
        async with asyncio.timeout(CONNECT_TIMEOUT_S):
            await self._loop.create_connection(
                lambda: self, self._host, self._port, ssl=self._context
            )


class RemoteClient:
    """MetadataClient over a gateway."""

    def __init__(self, connection: GatewayConnection) -> None:
        self._connection = connection
        self._cache = DirectoryCache()
        self._question: asyncio.Task[int] | None = None

    async def bucket(self, name: str) -> Bucket | None:
        generation = await self._generation()
        cache = self._cache
        cache.enter(generation)
        if name in cache.buckets:
            return cache.buckets[name]
        found = cast("Bucket | None", await self._connection.call("bucket", name))
        if cache.holds(generation):
            cache.buckets[name] = found
        return found

    async def user_of_key(self, access_key: str) -> tuple[User, AccessKey] | None:
        generation = await self._generation()
        cache = self._cache
        cache.enter(generation)
        if access_key in cache.keys:
            return cache.keys[access_key]
        answer = await self._connection.call("user_of_key", access_key)
        found = cast("tuple[User, AccessKey] | None", answer)
        if cache.holds(generation):
            cache.keys[access_key] = found
        return found

    async def user_and_bucket(
        self, access_key: str, bucket: str
    ) -> tuple[tuple[User, AccessKey] | None, Bucket | None]:
        return await self.user_of_key(access_key), await self.bucket(bucket)

    async def buckets(self, owner: UserId) -> Sequence[Bucket]:
        return cast("list[Bucket]", await self._connection.call("buckets", owner))

    async def usage(self, after: str, limit: int) -> Sequence[BucketUsage]:
        return cast("list[BucketUsage]", await self._connection.call("usage", after, limit))

    async def users(self) -> Sequence[User]:
        return cast("list[User]", await self._connection.call("users"))

    async def store_keys(self) -> Sequence[StoreKey]:
        generation = await self._generation()
        cache = self._cache
        cache.enter(generation)
        if cache.store_keys is not None:
            return cache.store_keys
        found = cast("list[StoreKey]", await self._connection.call("store_keys"))
        if cache.holds(generation):
            cache.store_keys = found
        return found

    async def key_use(self) -> dict[int, int]:
        return cast("dict[int, int]", await self._connection.call("key_use"))

    async def state(self, bucket: Bucket) -> BucketState:
        return cast("BucketState", await self._connection.call("state", bucket))

    async def lookup(
        self, bucket: Bucket, key: bytes, version_id: str = "", *, body_bytes_max: int = 0
    ) -> ObjectVersion | None:
        answer = await self._connection.call("lookup", bucket, key, version_id)
        return cast("ObjectVersion | None", answer)

    async def list_objects(
        self,
        bucket: Bucket,
        *,
        prefix: bytes = b"",
        after: bytes = b"",
        delimiter: bytes = b"",
        limit: int = PAGE_KEYS_MAX,
        owners: bool = False,
    ) -> ObjectsPage:
        answer = await self._connection.call(
            "list_objects", bucket, prefix, after, delimiter, limit
        )
        return received_objects(cast("SentObjects", answer))

    async def list_versions(
        self,
        bucket: Bucket,
        *,
        prefix: bytes = b"",
        after_key: bytes = b"",
        after_version_id: str = "",
        delimiter: bytes = b"",
        limit: int = PAGE_KEYS_MAX,
    ) -> VersionsPage:
        answer = await self._connection.call(
            "list_versions", bucket, prefix, after_key, after_version_id, delimiter, limit
        )
        return received_versions(cast("SentVersions", answer))

    async def list_uploads(
        self,
        bucket: Bucket,
        *,
        prefix: bytes = b"",
        after_key: bytes = b"",
        after_upload_id: str = "",
        delimiter: bytes = b"",
        limit: int = PAGE_KEYS_MAX,
    ) -> UploadsPage:
        answer = await self._connection.call(
            "list_uploads", bucket, prefix, after_key, after_upload_id, delimiter, limit
        )
        return cast("UploadsPage", answer)

    async def upload(self, bucket: Bucket, key: bytes, upload_id: str) -> Upload | None:
        answer = await self._connection.call("upload", bucket, key, upload_id)
        return cast("Upload | None", answer)

    async def parts(
        self, bucket: Bucket, upload_id: str, *, after: int = 0, limit: int = PART_NUMBER_MAX
    ) -> Sequence[Part]:
        answer = await self._connection.call("parts", bucket, upload_id, after, limit)
        return cast("list[Part]", answer)

    async def mutate_directory(self, mutation: DirectoryMutation) -> MutationResult:
        raw = await self._connection.call_raw("mutate_directory", mutation)
        return result_of(type(mutation), raw)

    async def mutate(self, bucket: Bucket, mutation: DataMutation) -> MutationResult:
        raw = await self._connection.call_raw("mutate", bucket, mutation)
        return result_of(type(mutation), raw)

    async def mutate_all(
        self, bucket: Bucket, mutations: Sequence[DataMutation]
    ) -> Sequence[MutationResult | ObjectStoreError]:
        calls = [("mutate", (bucket, mutation)) for mutation in mutations]
        return outcomes_of(mutations, await self._connection.ask_all(calls))

    async def mutate_shards(self, mutation: DataMutation) -> None:
        await self._connection.call("mutate_shards", mutation)

    async def close(self) -> None:
        await self._connection.close()

    async def _generation(self) -> int:
        question = self._question
        if question is None:
            question = self._question = asyncio.ensure_future(self._ask())
        return await asyncio.shield(question)

    async def _ask(self) -> int:
        # This runs in the next turn of the loop; who comes after it asks anew.
        self._question = None
        return cast("int", await self._connection.call("generation"))


class RemoteReader:
    """ExtentReader over a gateway, which verifies what it reads."""

    def __init__(self, connection: GatewayConnection) -> None:
        self._connection = connection

    async def read(self, extent: Extent, start: int, length: int) -> bytes | memoryview:
        if length <= READ_BYTES_MAX:
            return cast("bytes", await self._connection.call("read", extent, start, length))
        pieces = []
        for at in range(start, start + length, READ_BYTES_MAX):
            size = min(READ_BYTES_MAX, start + length - at)
            pieces.append(cast("bytes", await self._connection.call("read", extent, at, size)))
        return b"".join(pieces)

    @property
    def ahead(self) -> None:
        """One window after another."""

    def file_of(self, extent: Extent) -> None:
        """The files are the other node's."""


class RemoteChunkWriter:
    """ChunkWriter over a gateway. A chunk is durable when `write` returns, so that a gateway which
    restarts between write and flush loses nothing.
    """

    def __init__(self, connection: GatewayConnection) -> None:
        self._connection = connection

    @property
    def chunk_bytes_max(self) -> int:
        return UPLOAD_CHUNK_BYTES

    @property
    def streams(self) -> bool:
        return False

    def begin(self, length: int) -> CollectedChunk:
        return CollectedChunk(length, self.write)

    async def write(self, data: bytes | memoryview) -> Extent:
        return cast("Extent", await self._connection.call("write", data))

    async def flush(self) -> None:
        """All that was written is durable already."""

    async def close(self) -> None:
        """The connection is its client's to close."""


class RemoteStore:
    """The three of them over one connection; make it inside the running loop."""

    def __init__(self, host: str, port: int, context: ssl.SSLContext) -> None:
        self.connection = GatewayConnection(host, port, context)
        self.client = RemoteClient(self.connection)
        self.reader = RemoteReader(self.connection)
        self.chunks = RemoteChunkWriter(self.connection)

    async def close(self) -> None:
        await self.client.close()

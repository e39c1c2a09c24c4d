"""What a front end on another node holds: metadata client and media over one gateway.

Theory of operation. One connection carries all calls, many in flight, those of one turn of the loop
in one frame. When it is lost it is made again; calls that were not sent wait for it up to
RPC_RECONNECT_S_MAX, reads that were sent are sent again, a mutation or chunk that was sent and not
answered fails with UnavailableError, for its outcome is unknown.

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

from ..core.ids import UserId
from ..core.limits import PAGE_KEYS_MAX, PART_NUMBER_MAX, RPC_RECONNECT_S_MAX
from ..media.api import Extent
from .api import (
    AccessKey,
    Bucket,
    BucketState,
    DataMutation,
    DirectoryMutation,
    MutationResult,
    ObjectsPage,
    ObjectVersion,
    Part,
    Upload,
    UploadsPage,
    User,
    VersionsPage,
)
from .cache import DirectoryCache
from .cluster import CLUSTER_FRAME_BYTES_MAX, METHODS, MUTATING, READ_BYTES_MAX
from .errors import RecordTooLargeError, UnavailableError
from .wire import (
    ERROR,
    MESSAGE_BYTES_MAX,
    FrameError,
    FrameReader,
    decode_answers,
    decode_failure,
    encoder,
    frames,
    result_of,
)

RETRY_DELAY_S = 0.1
CONNECT_TIMEOUT_S = 5.0


class _Waiting(msgspec.Struct, gc=False):
    method: str
    message: bytes
    future: asyncio.Future[msgspec.Raw]
    deadline: float


class GatewayConnection(asyncio.Protocol):
    """Calls to one gateway. Belongs to one loop."""

    def __init__(self, host: str, port: int, context: ssl.SSLContext) -> None:
        self._host = host
        self._port = port
        self._context = context
        self._name = f"gateway {host}:{port}"
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport | None = None
        self._connecting: asyncio.Task[None] | None = None
        self._frames = FrameReader(CLUSTER_FRAME_BYTES_MAX)
        self._number = 0
        self._unsent: dict[int, _Waiting] = {}
        self._sent: dict[int, _Waiting] = {}
        self._scheduled = False
        self._answered = True
        self._closed = False

    async def call(self, method: str, *arguments: object) -> object:
        """Raises what the method raises, RecordTooLargeError, UnavailableError."""
        return METHODS[method].result.decode(await self.call_raw(method, *arguments))

    async def call_raw(self, method: str, *arguments: object) -> msgspec.Raw:
        if self._closed:
            raise UnavailableError("call", self._name, "this client is closed")
        self._number += 1
        message = encoder.encode((self._number, method, arguments))
        if len(message) > MESSAGE_BYTES_MAX:
            raise RecordTooLargeError(method, self._name, f"{len(message)} bytes")
        future: asyncio.Future[msgspec.Raw] = self._loop.create_future()
        deadline = self._loop.time() + RPC_RECONNECT_S_MAX
        self._unsent[self._number] = _Waiting(method, message, future, deadline)
        self._schedule()
        return await future

    @property
    def connected(self) -> bool:
        return self._transport is not None

    async def close(self) -> None:
        self._closed = True
        if self._connecting is not None:
            self._connecting.cancel()
        if self._transport is not None:
            self._transport.abort()
        self._fail(self._unsent, "this client is closed")
        self._fail(self._sent, "this client is closed")

    # --- the protocol ---

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._frames = FrameReader(CLUSTER_FRAME_BYTES_MAX)
        self._answered = False
        self._flush()

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        unknown: dict[int, _Waiting] = {}
        for number, waiting in self._sent.items():
            again = waiting.method not in MUTATING and waiting.method != "write"
            (self._unsent if again else unknown)[number] = waiting
        self._sent.clear()
        self._fail(unknown, "the connection was lost, the outcome is unknown")
        if self._unsent:
            self._connect()

    def data_received(self, data: bytes) -> None:
        try:
            for content in self._frames.feed(data):
                for number, kind, raw in decode_answers(content):
                    self._resolve(number, kind, raw)
        except (FrameError, msgspec.MsgspecError):
            if self._transport is not None:
                self._transport.abort()

    # --- helpers ---

    def _schedule(self) -> None:
        if not self._scheduled:
            self._scheduled = True
            self._loop.call_soon(self._flush)

    def _flush(self) -> None:
        self._scheduled = False
        transport = self._transport
        if transport is None or transport.is_closing():
            self._connect()
            return
        messages = []
        for number, waiting in self._unsent.items():
            if not waiting.future.done():
                messages.append(waiting.message)
                self._sent[number] = waiting
        self._unsent.clear()
        for content in frames(messages):
            transport.write(content)

    def _resolve(self, number: int, kind: int, raw: msgspec.Raw) -> None:
        self._answered = True
        waiting = self._sent.pop(number, None)
        if waiting is None or waiting.future.done():
            return
        if kind == ERROR:
            waiting.future.set_exception(decode_failure(raw))
        else:
            waiting.future.set_result(raw)

    def _fail(self, waiting: dict[int, _Waiting], why: str) -> None:
        for one in waiting.values():
            if not one.future.done():
                one.future.set_exception(UnavailableError(one.method, self._name, why))
        waiting.clear()

    def _connect(self) -> None:
        if self._connecting is None and not self._closed and self._unsent:
            self._connecting = self._loop.create_task(self._keep_connecting())
            self._connecting.add_done_callback(self._connect_done)

    def _connect_done(self, task: asyncio.Task[None]) -> None:
        self._connecting = None
        if not task.cancelled():
            task.result()

    async def _keep_connecting(self) -> None:
        """Try until connected or until nothing waits any more."""
        if not self._answered:
            # A gateway that takes connections and drops them (it refuses our certificate, say) is
            # as good as none: wait between attempts, and not for ever.
            self._expire("it drops the connection")
            await asyncio.sleep(RETRY_DELAY_S)
        while self._transport is None and self._unsent:
            try:
                async with asyncio.timeout(CONNECT_TIMEOUT_S):
                    await self._loop.create_connection(
                        lambda: self, self._host, self._port, ssl=self._context
                    )
            except (OSError, TimeoutError) as error:
                self._expire(str(error) or "timed out")
                await asyncio.sleep(RETRY_DELAY_S)

    def _expire(self, why: str) -> None:
        now = self._loop.time()
        late = {n: one for n, one in self._unsent.items() if one.deadline < now}
        for number in late:
            del self._unsent[number]
        self._fail(late, f"cannot be reached: {why}")


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

    async def buckets(self, owner: UserId) -> Sequence[Bucket]:
        return cast("list[Bucket]", await self._connection.call("buckets", owner))

    async def users(self) -> Sequence[User]:
        return cast("list[User]", await self._connection.call("users"))

    async def state(self, bucket: Bucket) -> BucketState:
        return cast("BucketState", await self._connection.call("state", bucket))

    async def lookup(
        self, bucket: Bucket, key: bytes, version_id: str = ""
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
    ) -> ObjectsPage:
        answer = await self._connection.call(
            "list_objects", bucket, prefix, after, delimiter, limit
        )
        return cast("ObjectsPage", answer)

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
        return cast("VersionsPage", answer)

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


class RemoteChunkWriter:
    """ChunkWriter over a gateway. A chunk is durable when `write` returns, so that a gateway which
    restarts between write and flush loses nothing.
    """

    def __init__(self, connection: GatewayConnection) -> None:
        self._connection = connection

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

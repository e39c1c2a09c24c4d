"""The gateway process: serves the metadata client and the media to front ends on other nodes.

It is a reader like a front end, with the embedded client inside. Each connection has a bounded
number of calls in flight; answers of one turn of the loop leave in one frame.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Awaitable, Callable

import msgspec

from ..core.errors import ObjectStoreError
from ..core.limits import CHUNK_BYTES_MAX
from ..media.api import ChunkWriter, Extent, ExtentReader
from ..runtime.logging import event
from .api import Bucket, DataMutation, DirectoryMutation
from .client import EmbeddedClient
from .cluster import (
    CLUSTER_FRAME_BYTES_MAX,
    IN_FLIGHT_MAX,
    METHODS,
    READ_BYTES_MAX,
    RECEIVE_BYTES,
    KeyRange,
    NamedRange,
    decode_calls,
)
from .errors import RecordTooLargeError
from .pages import send_objects, send_versions
from .wire import ERROR, RESULT, FrameError, FrameReader, encode_failure, encoder, frames

SEND_HIGH_WATER_BYTES = 16 * 1024 * 1024


class GatewayService:
    """The methods of `cluster.METHODS` over this node's client and media."""

    def __init__(self, client: EmbeddedClient, reader: ExtentReader, chunks: ChunkWriter) -> None:
        self._client = client
        self._reader = reader
        self._chunks = chunks
        self._handlers: dict[str, Callable[..., Awaitable[object]]] = {
            "generation": self._generation,
            "bucket": client.bucket,
            "buckets": client.buckets,
            "user_of_key": client.user_of_key,
            "usage": client.usage,
            "users": client.users,
            "store_keys": client.store_keys,
            "key_use": client.key_use,
            "state": client.state,
            "lookup": client.lookup,
            "list_objects": self._list_objects,
            "list_versions": self._list_versions,
            "list_uploads": self._list_uploads,
            "upload": client.upload,
            "parts": self._parts,
            "mutate_directory": self._mutate_directory,
            "mutate": self._mutate,
            "mutate_shards": client.mutate_shards,
            "read": self._read,
            "write": self._write,
        }

    async def call(self, method: str, arguments: msgspec.Raw) -> object:
        """Run one call. Raises FrameError when it is none of ours, and what the method raises."""
        known = METHODS.get(method)
        if known is None:
            raise FrameError("call", method, "there is no such method")
        return await self._handlers[method](*known.arguments.decode(arguments))

    async def _generation(self) -> int:
        return self._client.generation()

    async def _list_objects(self, *where: *KeyRange) -> object:
        bucket, prefix, after, delimiter, limit = where
        page = await self._client.list_objects(
            bucket, prefix=prefix, after=after, delimiter=delimiter, limit=limit, owners=True
        )
        return send_objects(page)

    async def _list_versions(self, *where: *NamedRange) -> object:
        bucket, prefix, key, name, delimiter, limit = where
        page = await self._client.list_versions(
            bucket, prefix=prefix, after_key=key, after_version_id=name, delimiter=delimiter,
            limit=limit,
        )  # fmt: skip
        return send_versions(page)

    async def _list_uploads(self, *where: *NamedRange) -> object:
        bucket, prefix, key, name, delimiter, limit = where
        return await self._client.list_uploads(
            bucket, prefix=prefix, after_key=key, after_upload_id=name, delimiter=delimiter,
            limit=limit,
        )  # fmt: skip

    async def _parts(self, bucket: Bucket, upload_id: str, after: int, limit: int) -> object:
        return await self._client.parts(bucket, upload_id, after=after, limit=limit)

    async def _mutate_directory(self, mutation: DirectoryMutation) -> object:
        return await self._client.mutate_directory(mutation)

    async def _mutate(self, bucket: Bucket, mutation: DataMutation) -> object:
        return await self._client.mutate(bucket, mutation)

    async def _read(self, extent: Extent, start: int, length: int) -> object:
        if length > READ_BYTES_MAX:
            raise RecordTooLargeError("read", f"{length} bytes")
        return await self._reader.read(extent, start, length)

    async def _write(self, data: bytes) -> object:
        if len(data) > CHUNK_BYTES_MAX:
            raise RecordTooLargeError("write chunk", f"{len(data)} bytes")
        extent = await self._chunks.write(data)
        await self._chunks.flush()
        return extent


class _Peer:
    """One connection: reads calls, runs them side by side, answers in the order they finish."""

    def __init__(self, service: GatewayService, writer: asyncio.StreamWriter) -> None:
        self._service = service
        self._writer = writer
        self._slots = asyncio.Semaphore(IN_FLIGHT_MAX)
        self._answers: list[bytes] = []

    async def serve(self, reader: asyncio.StreamReader) -> None:
        cutter = FrameReader(CLUSTER_FRAME_BYTES_MAX)
        async with asyncio.TaskGroup() as tasks:
            while data := await reader.read(RECEIVE_BYTES):
                for content in cutter.feed(data):
                    for number, method, arguments in decode_calls(bytes(content)):
                        await self._slots.acquire()
                        tasks.create_task(self._run(number, method, arguments))

    async def _run(self, number: int, method: str, arguments: msgspec.Raw) -> None:
        try:
            try:
                message = encoder.encode(
                    (number, RESULT, await self._service.call(method, arguments))
                )
            except FrameError:
                raise
            except ObjectStoreError as error:
                message = encoder.encode((number, ERROR, encode_failure(error)))
            if not self._answers:
                asyncio.get_running_loop().call_soon(self._flush)
            self._answers.append(message)
            # A peer that reads slowly holds its slots, so it cannot fill our memory.
            await self._writer.drain()
        finally:
            self._slots.release()

    def _flush(self) -> None:
        messages, self._answers = self._answers, []
        if not self._writer.is_closing():
            for content in frames(messages):
                self._writer.write(content)


async def serve_gateway(
    service: GatewayService,
    address: socket.socket | tuple[str, int],
    context: ssl.SSLContext,
    *,
    ready: Callable[[], None],
    stop: asyncio.Event,
) -> None:
    """Serve on a bound socket or on HOST, PORT until `stop` is set."""
    peers: set[asyncio.StreamWriter] = set()

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        peers.add(writer)
        writer.transport.set_write_buffer_limits(high=SEND_HIGH_WATER_BYTES)
        try:
            await _Peer(service, writer).serve(reader)
        except* (OSError, FrameError, msgspec.MsgspecError) as errors:
            event("cluster_peer_dropped", reason=str(errors.exceptions[0]))
        finally:
            peers.discard(writer)
            writer.transport.abort()

    if isinstance(address, socket.socket):
        server = await asyncio.start_server(connected, sock=address, ssl=context)
    else:
        server = await asyncio.start_server(connected, *address, ssl=context)
    try:
        ready()
        await stop.wait()
    finally:
        server.close()
        for writer in list(peers):
            writer.transport.abort()

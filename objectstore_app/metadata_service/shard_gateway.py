"""The gateway of a pod: routers ask it for what the shards of the pod hold (`calls.py`).

Theory of operation. All calls of a turn of the loop are begun before any is answered, and their
answers leave in as few frames as they fit: look-ups run at once, their answers wait for the epoch
to be confirmed (`held_shard.py`); mutations go on to the shard's process as they are. A peer has a
bounded number of calls under way, and is not read from while it does not read its answers.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Callable, Mapping
from functools import partial
from typing import cast

import apsw
import msgspec

from ..core.errors import ObjectStoreError
from ..core.ids import ShardId
from ..media.errors import MediaFailedError
from ..runtime.logging import event
from ..runtime.silence import bound_silence_of
from .api import ObjectVersion
from .bodies import BodyCache
from .calls import (
    CALL_FRAME_BYTES_MAX,
    CALLS_IN_FLIGHT_MAX,
    GENERATION,
    LOOKUP,
    MUTATE,
    PING,
    READS,
    decode_calls,
)
from .errors import NotOwnerError, UnsentError
from .held_shard import HeldShard
from .wire import ERROR, RESULT, FrameError, FrameReader, encode_failure, encoder, frames

SEND_HIGH_WATER_BYTES = 16 * 1024 * 1024
CLOSE_S_MAX = 2.0
CLOSE_LOOK_S = 0.02


class Gateway:
    """What a pod's shards answer. `shards` has those that the pod may come to own."""

    def __init__(self, shards: Mapping[ShardId, HeldShard], bodies: BodyCache) -> None:
        self.shards = shards
        self.bodies = bodies
        self.peers: set[_Peer] = set()

    def shard(self, number: int) -> HeldShard:
        """Raises NotOwnerError for one that is never here."""
        found = self.shards.get(ShardId(number))
        if found is None:
            raise NotOwnerError.of(str(number))
        return found

    async def close(self) -> None:
        """What is under way is answered first, if that does not take long."""
        until = asyncio.get_running_loop().time() + CLOSE_S_MAX
        while any(peer.busy for peer in self.peers):
            if asyncio.get_running_loop().time() > until:
                break
            await asyncio.sleep(CLOSE_LOOK_S)
        for peer in list(self.peers):
            peer.close()
        for shard in self.shards.values():
            await shard.close()


class _Peer(asyncio.BufferedProtocol):
    """One router's connection."""

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway
        self._loop = asyncio.get_running_loop()
        self._frames = FrameReader(CALL_FRAME_BYTES_MAX)
        self._transport: asyncio.Transport | None = None
        self._answers: list[bytes] = []
        self._under_way = 0
        self._full = False
        self._paused = False
        self._tasks: set[asyncio.Task[None]] = set()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._transport.set_write_buffer_limits(high=SEND_HIGH_WATER_BYTES)
        bound_silence_of(transport)
        self._gateway.peers.add(self)

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        self._gateway.peers.discard(self)
        for task in self._tasks:
            task.cancel()

    def pause_writing(self) -> None:
        self._full = True
        self._regulate()

    def resume_writing(self) -> None:
        self._full = False
        self._regulate()

    def get_buffer(self, sizehint: int) -> memoryview:
        return self._frames.space()

    def buffer_updated(self, nbytes: int) -> None:
        try:
            for content in self._frames.received(nbytes):
                for number, method, shard, arguments in decode_calls(bytes(content)):
                    self._under_way += 1
                    self._begin(number, method, shard, arguments)
        except (FrameError, msgspec.MsgspecError) as error:
            event("cluster_peer_dropped", reason=str(error))
            self.abort()
        self._regulate()

    @property
    def busy(self) -> bool:
        """Whether calls are under way."""
        return self._under_way > 0

    def close(self) -> None:
        """Send what is written, then end."""
        if self._transport is not None:
            self._transport.close()

    def abort(self) -> None:
        if self._transport is not None:
            self._transport.abort()

    # --- calls ---

    def _begin(self, number: int, method: str, shard: int, arguments: msgspec.Raw) -> None:
        """Raises FrameError, msgspec.MsgspecError: the peer is none of ours."""
        if method == PING:
            self._answer(encoder.encode((number, RESULT, None)))
            return
        try:
            held = self._gateway.shard(shard)
            if method == MUTATE:
                # The frame's bytes are gone by the time this is sent: `start` has copied them.
                held.mutate(arguments).add_done_callback(partial(self._mutated, number, held))
                return
            epoch, view = held.view()
            if method == GENERATION:
                found: object = held.generation
            else:
                read = READS.get(method)
                if read is None:
                    raise FrameError("call", method, "there is no such method")
                given = read.arguments.decode(arguments)
                found = read.run(view, *given)
                if method == LOOKUP and _brings_body(found, cast("int", given[-1])):
                    version = cast("ObjectVersion", found)
                    data = self._gateway.bodies.kept(version.body.extents[0])
                    if data is None:
                        self._finish_later(number, held, epoch, version)
                        return
                    found = _with_body(version, data)
            message = encoder.encode((number, RESULT, found))
        except FrameError:
            raise
        except ObjectStoreError as error:
            self._fail(number, error)
            return
        except apsw.Error as error:
            self._fail(number, MediaFailedError("read view", str(shard), str(error)))
            return
        held.confirm(epoch, partial(self._settle, number, message))

    def _finish_later(
        self, number: int, held: HeldShard, epoch: int, version: ObjectVersion
    ) -> None:
        task = self._loop.create_task(self._finish(number, held, epoch, version))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _finish(
        self, number: int, held: HeldShard, epoch: int, version: ObjectVersion
    ) -> None:
        """Read the body while the epoch is confirmed, then answer."""
        confirmed: asyncio.Future[ObjectStoreError | None] = self._loop.create_future()

        def settle(refusal: ObjectStoreError | None) -> None:
            if not confirmed.done():  # or the peer is gone
                confirmed.set_result(refusal)

        held.confirm(epoch, settle)
        try:
            data = await self._gateway.bodies.read(version.body.extents[0])
            message = encoder.encode((number, RESULT, _with_body(version, data)))
        except ObjectStoreError as error:
            self._settle(number, encoder.encode(_failure(number, error)), await confirmed)
            return
        self._settle(number, message, await confirmed)

    def _settle(self, number: int, message: bytes, refusal: ObjectStoreError | None) -> None:
        if refusal is None:
            self._answer(message)
        else:
            self._fail(number, refusal)

    def _mutated(self, number: int, held: HeldShard, future: asyncio.Future[msgspec.Raw]) -> None:
        error = future.exception()
        if error is None:
            self._answer(encoder.encode((number, RESULT, future.result())))
        elif isinstance(error, UnsentError):
            self._fail(number, held.not_owner())
        elif isinstance(error, ObjectStoreError):
            self._fail(number, error)
        else:
            raise error

    # --- answers ---

    def _fail(self, number: int, error: ObjectStoreError) -> None:
        self._answer(encoder.encode(_failure(number, error)))

    def _answer(self, message: bytes) -> None:
        if not self._answers:
            self._loop.call_soon(self._flush)
        self._answers.append(message)

    def _flush(self) -> None:
        messages, self._answers = self._answers, []
        self._under_way -= len(messages)
        if self._transport is not None and not self._transport.is_closing():
            for content in frames(messages):
                self._transport.write(content)
            self._regulate()

    def _regulate(self) -> None:
        """Read from the peer unless it has too much under way."""
        paused = self._full or self._under_way > CALLS_IN_FLIGHT_MAX
        if paused == self._paused or self._transport is None:
            return
        self._paused = paused
        if paused:
            self._transport.pause_reading()
        else:
            self._transport.resume_reading()


def _failure(number: int, error: ObjectStoreError) -> tuple[int, int, tuple[str, str, str, str]]:
    return number, ERROR, encode_failure(error)


def _brings_body(found: object, body_bytes_max: int) -> bool:
    """Whether the body comes along: as one piece, which readers take for an inline one."""
    if not isinstance(found, ObjectVersion) or len(found.body.extents) != 1:
        return False
    if any(not run.frame_bytes for run in found.body.coding):
        return False
    return found.body.extents[0].length <= body_bytes_max


def _with_body(version: ObjectVersion, data: bytes) -> ObjectVersion:
    """The version with its stored bytes in it."""
    body = msgspec.structs.replace(version.body, inline=data, extents=())
    return msgspec.structs.replace(version, body=body)


async def serve_shards(
    gateway: Gateway,
    address: socket.socket | tuple[str, int],
    context: ssl.SSLContext,
    *,
    ready: Callable[[], None],
    stop: asyncio.Event,
) -> None:
    """Serve on a bound socket or on HOST, PORT until `stop` is set. Raises OSError."""
    loop = asyncio.get_running_loop()

    def connected() -> _Peer:
        return _Peer(gateway)

    if isinstance(address, socket.socket):
        server = await loop.create_server(connected, sock=address, ssl=context)
    else:
        server = await loop.create_server(connected, *address, ssl=context)
    try:
        ready()
        await stop.wait()
    finally:
        server.close()
        await gateway.close()

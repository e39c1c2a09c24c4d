"""The writer process: hosts shards, each behind a Unix socket in DIR/run (docs/architecture.md).

Theory of operation. The loop serves nothing but the shards' sockets, so a commit may block it: what
arrives meanwhile waits in the sockets and makes the next group. A turn of the loop reads every
ready socket, then commits once per shard. There is no timer: an idle shard commits at once, a busy
one gathers while it flushes.

A shard that fails ends the process at once and unanswered: its supervisor starts another, which
recovers from the log. At start, buckets whose creation or deletion stopped half-way are completed.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import cast

import msgspec

from ..core.clock import now_ms
from ..core.errors import ObjectStoreError
from ..core.ids import ShardId
from ..media.errors import FencedError, MediaFailedError
from ..media.opened import LocalMedia, Media
from ..media.segments import DIRECTORY_SHARD
from ..media.store import FolderLock, Store
from ..runtime.logging import event
from . import sockets
from .api import Bucket, OpenBucket, RemoveBucket
from .bases import restore_view
from .checkpoints import Checkpointer
from .directory import all_buckets
from .generation import Generation
from .kept_bases import fetch_base
from .machine import Mutation
from .ownership import OwnershipWatch
from .shard import Outcome, Shard
from .wire import (
    ERROR,
    RESULT,
    FrameError,
    FrameReader,
    decode_requests,
    encode_failure,
    frame,
    frame_of,
)

# A peer that does not read its answers is dropped before they fill the memory.
UNREAD_ANSWER_BYTES_MAX = 64 * 1024 * 1024
# As many answers as surely fit a frame, for the largest holds an upload's attributes.
ANSWERS_PER_FRAME = 128

Answer = tuple[int, int, object]


class HostedShard:
    """A shard, its queue and the connections that feed it."""

    def __init__(
        self,
        shard: Shard,
        view_path: Path,
        generation: Generation | None,
        fail: Callable[[str], None],
    ) -> None:
        self.shard = shard
        self.fenced = False
        self._checkpointer = Checkpointer(shard.view, view_path, fail)
        self._watch = OwnershipWatch(shard.medium, self._lost)
        self._generation = generation
        self._fail = fail
        self._queue: list[tuple[_Connection, int, Mutation]] = []
        self._loop = asyncio.get_running_loop()

    def submit(self, connection: _Connection, requests: list[tuple[int, Mutation]]) -> None:
        if not self._queue:
            self._loop.call_soon(self.commit)
        self._queue.extend((connection, number, mutation) for number, mutation in requests)

    async def close(self, *, release: bool) -> None:
        """`release` the log for who waits for it, unless this process is to be started again."""
        await self._watch.close()
        await self._checkpointer.close()
        self.shard.close(release=release)

    def _lost(self) -> None:
        self.fenced = True
        self._fail(f"another store has taken over the log of shard {self.shard.shard}")

    def commit(self) -> None:
        """Commit all that waits and answer it."""
        queue, self._queue = self._queue, []
        if not queue:
            return
        outcomes: list[Outcome] | None = None
        reason = f"a commit of {self.shard.shard} failed"
        try:
            outcomes = self.shard.commit([mutation for _, _, mutation in queue])
        except (ObjectStoreError, OSError) as error:
            reason = str(error)
            self.fenced = self.fenced or isinstance(error, FencedError)
        finally:
            # Whatever it was, even what nobody expects: the process must not live on.
            if outcomes is None:
                self._fail(reason)
        if outcomes is None:
            return
        if self._generation is not None:
            self._generation.advance()
        answers: dict[_Connection, list[Answer]] = {}
        for (connection, number, _), outcome in zip(queue, outcomes, strict=True):
            if isinstance(outcome, ObjectStoreError):
                answer: Answer = (number, ERROR, encode_failure(outcome))
            else:
                answer = (number, RESULT, outcome)
            messages = answers.get(connection)
            if messages is None:
                answers[connection] = [answer]
            else:
                messages.append(answer)
        for connection, messages in answers.items():
            connection.answer(messages)


class _Connection(asyncio.BufferedProtocol):
    """One front end's connection to one shard."""

    def __init__(self, hosted: HostedShard, connections: set[_Connection]) -> None:
        self._hosted = hosted
        self._connections = connections
        self._frames = FrameReader()
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._connections.add(self)
        # The greeting: a peer sends nothing before it knows that a living writer took it.
        self._transport.write(frame([]))

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        self._connections.discard(self)

    def get_buffer(self, sizehint: int) -> memoryview:
        return self._frames.space()

    def buffer_updated(self, nbytes: int) -> None:
        try:
            for content in self._frames.received(nbytes):
                self._hosted.submit(self, decode_requests(content))
        except (FrameError, msgspec.MsgspecError) as error:
            event("peer_dropped", reason=str(error))
            self.abort()

    def answer(self, messages: list[Answer]) -> None:
        transport = self._transport
        if transport is None or transport.is_closing():
            return
        for start in range(0, len(messages), ANSWERS_PER_FRAME):
            transport.write(frame_of(messages[start : start + ANSWERS_PER_FRAME]))
        if transport.get_write_buffer_size() > UNREAD_ANSWER_BYTES_MAX:
            event("peer_dropped", reason="does not read its answers")
            self.abort()

    def abort(self) -> None:
        self.end(answered=False)

    def end(self, *, answered: bool) -> None:
        """Close, sending first what is written when `answered`."""
        if self._transport is None:
            return
        if answered:
            self._transport.close()
        else:
            self._transport.abort()


async def serve_writer(
    store: Store,
    *,
    ready: Callable[[], None],
    stop: asyncio.Event,
    shards: tuple[ShardId, ...] = (),
    media: Media | None = None,
) -> None:
    """Host the shards (all of the store unless named) until `stop` is set; `ready` is called once
    all of them answer.

    Raises StoreInUseError, CorruptDataError, MediaFailedError, of which FencedError says that
    another store has one of the logs: the process must exit.
    """
    loop = asyncio.get_running_loop()
    hosted: dict[ShardId, HostedShard] = {}
    locks: list[FolderLock] = []
    connections: set[_Connection] = set()
    servers: list[asyncio.Server] = []
    failures: list[str] = []
    generation = Generation(store.generation)

    def fail(reason: str) -> None:
        failures.append(reason)
        stop.set()

    try:
        for shard in shards or store.shards:
            locks.append(store.lock_shard(shard))
            held = open_shard(store, shard, media)
            counter = generation if shard == DIRECTORY_SHARD else None
            hosted[shard] = HostedShard(held, store.view(shard), counter, fail)
            event("shard_open", shard=store.shard(shard).name, replayed=held.replayed)
        complete_halves({shard: held.shard for shard, held in hosted.items()})
        # A front end may have cached what an earlier writer answered without advancing.
        generation.advance()
        for shard, held_shard in hosted.items():
            sock = sockets.listen(store.run, store.socket_name(shard))

            def connected(target: HostedShard = held_shard) -> _Connection:
                return _Connection(target, connections)

            servers.append(await loop.create_unix_server(connected, sock=sock))
        ready()
        await stop.wait()
    except FencedError:
        generation.suspend()
        raise
    finally:
        for server in servers:
            server.close()
        if not failures:
            for held_shard in hosted.values():
                held_shard.commit()
        for connection in list(connections):
            connection.end(answered=not failures)
        # One turn of the loop for the transports to send what is written.
        await asyncio.sleep(0)
        fenced = any(held_shard.fenced for held_shard in hosted.values())
        if fenced:
            generation.suspend()
        for held_shard in hosted.values():
            await held_shard.close(release=fenced or not failures)
        for lock in locks:
            lock.release()
        generation.close()
    if failures:
        failed = FencedError if fenced else MediaFailedError
        raise failed("writer", str(store.path), failures[0])


def open_shard(store: Store, shard: ShardId, media: Media | None = None) -> Shard:
    """A shard over its log and view; hold its lock. A view that is missing or lost its last commits
    comes back from its base. Raises CorruptDataError.
    """
    opened = media or LocalMedia(store)
    folder, view, kept = store.shard(shard), store.view(shard), opened.kept_files(shard)
    if kept is not None:
        fetch_base(kept, folder, view)
    base = restore_view(folder, view)
    if base is not None:
        event("view_restored", shard=folder.name, sequence=base.sequence)
    log = opened.log(shard)
    return Shard(shard, log, view, data_shards=store.info.data_shards, now_ms=now_ms)


def complete_halves(shards: dict[ShardId, Shard]) -> None:
    """A bucket is made first in the directory, then in its data shard, and deleted the other way
    round: finish what stopped between the halves, for the shards hosted here.
    """
    directory = shards.get(DIRECTORY_SHARD)
    if directory is None:
        return
    for bucket in all_buckets(directory.view):
        data = shards.get(bucket.shard)
        closed = None if data is None else _closed(data, bucket)
        if data is None or closed is False:
            continue
        if closed:
            directory.commit([RemoveBucket(id=bucket.id)])
        else:
            data.commit([OpenBucket(bucket=bucket.id)])


def _closed(data: Shard, bucket: Bucket) -> bool | None:
    rows = data.view.execute("SELECT closed FROM buckets WHERE bucket=?", (bucket.id,)).fetchall()
    return bool(rows[0][0]) if rows else None

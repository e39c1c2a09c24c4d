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

from ..core.clock import now_ms
from ..core.ids import ShardId
from ..media.errors import FencedError, MediaFailedError
from ..media.opened import LocalMedia, Media
from ..media.segments import DIRECTORY_SHARD
from ..media.store import FolderLock, Store
from ..runtime.logging import event
from . import sockets
from .api import Bucket, OpenBucket, RemoveBucket
from .bases import restore_view
from .directory import all_buckets
from .generation import Generation
from .hosted import Connection, HostedShard
from .kept_bases import fetch_base
from .shard import Shard


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
    connections: set[Connection] = set()
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

            def connected(target: HostedShard = held_shard) -> Connection:
                return Connection(target, connections)

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
    restore_shard(store, shard, opened)
    log = opened.log(shard)
    return Shard(shard, log, store.view(shard), data_shards=store.info.data_shards, now_ms=now_ms)


def restore_shard(store: Store, shard: ShardId, media: Media) -> None:
    """Put the newest base in the place of a view that is missing or behind it. Hold the shard's
    lock. Raises CorruptDataError, MediaFailedError.
    """
    folder, view, kept = store.shard(shard), store.view(shard), media.kept_files(shard)
    if kept is not None:
        fetch_base(kept, folder, view)
    base = restore_view(folder, view)
    if base is not None:
        event("view_restored", shard=folder.name, sequence=base.sequence)


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

"""A writer whose logs another store takes: it ends, its views are read no more, it waits its turn.

The logs are those of RADOS, over objects in memory.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from objectstore_app.cli.processes import writer as writer_process
from objectstore_app.core.ids import ShardId
from objectstore_app.media.errors import FencedError
from objectstore_app.media.rados.log import RadosLog, read_head
from objectstore_app.media.rados.memory import MemoryObjects
from objectstore_app.media.store import Store, open_store
from objectstore_app.metadata_service import ownership
from objectstore_app.metadata_service.api import Bucket, CreateBucket, OpenBucket
from objectstore_app.metadata_service.client import EmbeddedClient
from objectstore_app.metadata_service.errors import UnavailableError
from objectstore_app.metadata_service.writer import serve_writer
from tests.engine.support import OWNER


@dataclass
class SharedMedia:
    """The logs of several stores. `owners` are the answers of `owner_of`, one after another."""

    objects: MemoryObjects = field(default_factory=MemoryObjects)
    owners: list[str] = field(default_factory=list)

    def log(self, shard: ShardId) -> RadosLog:
        return RadosLog(self.objects, shard)

    def kept_files(self, _: ShardId) -> None:
        return None

    def owner_of(self, _: ShardId) -> str:
        return self.owners.pop(0)

    def released(self, store: Store) -> list[bool]:
        heads = [read_head(self.objects, shard) for shard in store.shards]
        return [head[0].released for head in heads if head is not None]


class Serving:
    """A writer in this loop."""

    def __init__(self, store: Store, media: SharedMedia) -> None:
        self._stop, self._ready = asyncio.Event(), asyncio.Event()
        serving = serve_writer(store, ready=self._ready.set, stop=self._stop, media=media)
        self.task = asyncio.ensure_future(serving)

    async def ready(self) -> None:
        waiting = asyncio.ensure_future(self._ready.wait())
        await asyncio.wait([waiting, self.task], return_when=asyncio.FIRST_COMPLETED)
        assert not self.task.done()

    async def stop(self) -> None:
        self._stop.set()
        await self.task


async def make_bucket(client: EmbeddedClient) -> Bucket:
    bucket = await client.mutate_directory(CreateBucket(name="bucket", owner=OWNER))
    assert isinstance(bucket, Bucket)
    await client.mutate(bucket, OpenBucket(bucket=bucket.id))
    return bucket


async def write(client: EmbeddedClient) -> None:
    with suppress(UnavailableError):
        await client.mutate_directory(CreateBucket(name="zombie", owner=OWNER))


async def do_nothing(_: EmbeddedClient) -> None:
    """The writer has to find out by itself."""


@pytest.mark.parametrize(
    ("then", "confirm_s"), [(write, 3600.0), (do_nothing, 0.01)], ids=["writes", "idle"]
)
def test_writer_without_its_logs_ends_and_its_views_are_read_no_more(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    then: Callable[[EmbeddedClient], Awaitable[None]],
    confirm_s: float,
) -> None:
    monkeypatch.setattr(ownership, "CONFIRM_S", confirm_s)

    async def run() -> None:
        store, media = open_store(tmp_path / "data"), SharedMedia()
        first = Serving(store, media)
        await first.ready()
        client = EmbeddedClient(store)
        bucket = await make_bucket(client)
        successors = [media.log(shard) for shard in store.shards]
        await then(client)
        with pytest.raises(FencedError):
            await first.task
        with pytest.raises(UnavailableError):
            await client.bucket("bucket")
        assert media.released(store) == [False, False]  # they are not its own to release
        for log in successors:
            log.release()
        again = Serving(store, media)
        await again.ready()
        assert await client.bucket("bucket") == bucket
        assert await client.bucket("zombie") is None
        await client.close()
        await again.stop()
        assert media.released(store) == [True, True]

    asyncio.run(run())


def test_writer_that_lost_one_log_gives_the_others_back(tmp_path: Path) -> None:
    async def run() -> None:
        store, media = open_store(tmp_path / "data"), SharedMedia()
        first = Serving(store, media)
        await first.ready()
        client = EmbeddedClient(store)
        media.log(store.shards[0])
        await write(client)
        with pytest.raises(FencedError):
            await first.task
        assert media.released(store) == [False, True]
        await client.close()

    asyncio.run(run())


def test_superseded_writer_waits_until_nobody_has_a_log(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    said: list[tuple[str, object]] = []
    monkeypatch.setattr(writer_process, "OWNER_LOOK_S", 0.001)
    monkeypatch.setattr(
        writer_process, "event", lambda name, **told: said.append((name, told["owners"]))
    )
    store = open_store(tmp_path / "data")
    media = SharedMedia(owners=["pod-1", "", "pod-1", "", "", "pod-2", "", ""])
    asyncio.run(writer_process._logs_are_free(store, media, asyncio.Event()))
    assert media.owners == []
    assert said == [("writer_waits", "pod-1"), ("writer_waits", "pod-2")]


def test_superseded_writer_that_is_stopped_waits_no_longer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def run() -> None:
        stop = asyncio.Event()
        monkeypatch.setattr(writer_process, "event", lambda *_, **__: stop.set())
        media = SharedMedia(owners=["pod-1", "pod-1"])
        await writer_process._logs_are_free(store, media, stop)

    monkeypatch.setattr(writer_process, "OWNER_LOOK_S", 3600.0)
    store = open_store(tmp_path / "data")
    asyncio.run(run())

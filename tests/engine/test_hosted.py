"""A shard whose log another owner takes: what was undecided is told so, what is in doubt is not."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import cast

import pytest

from objectstore_app.core.clock import now_ms
from objectstore_app.core.errors import ObjectStoreError
from objectstore_app.core.ids import ShardId
from objectstore_app.media.errors import MediaFailedError
from objectstore_app.media.rados.log import RadosLog, RadosLogReader
from objectstore_app.media.rados.memory import MemoryObjects
from objectstore_app.metadata_service import ownership
from objectstore_app.metadata_service.api import OpenBucket
from objectstore_app.metadata_service.follower import Follower
from objectstore_app.metadata_service.hosted import Answer, Connection, HostedShard
from objectstore_app.metadata_service.reads import lookup
from objectstore_app.metadata_service.shard import Shard
from objectstore_app.metadata_service.view import open_reader
from tests.engine.pods import until
from tests.engine.support import BUCKET, put

SHARD = ShardId(0)


class FaultyObjects(MemoryObjects):
    """Counts appends; `lose_answers`: each is done, and then nobody hears of it."""

    def __init__(self) -> None:
        super().__init__()
        self.appends = 0
        self.lose_answers = False

    def write_if(self, name: str, guard: bytes, at: int, data: bytes, offset: int) -> None:
        super().write_if(name, guard, at, data, offset)
        self.appends += 1
        if self.lose_answers:
            raise MediaFailedError("write", name, "no answer")


class WatchedLog(RadosLog):
    """Remembers what the look at the head said."""

    told: bool = True

    def confirm(self) -> bool:
        self.told = super().confirm()
        return self.told


class Sender:
    """Where answers go."""

    def __init__(self) -> None:
        self.answers: list[Answer] = []

    def answer(self, messages: list[Answer]) -> None:
        self.answers += messages


class Owner:
    """A shard and its log, one bucket in it; `take_head` is the first half of losing it."""

    def __init__(self, folder: Path) -> None:
        self.objects, self.failures = FaultyObjects(), list[str]()
        self.sender, self._view = Sender(), folder / "view.sqlite"
        self.log = WatchedLog(self.objects, SHARD)
        shard = Shard(SHARD, self.log, self._view, data_shards=1, now_ms=now_ms)
        shard.commit([OpenBucket(bucket=BUCKET)])
        self.hosted = HostedShard(shard, self._view, None, self.failures.append)
        self._folder = folder

    def submit(self, key: bytes) -> None:
        self.hosted.submit(cast("Connection", self.sender), [(1, put(key))])

    def take_head(self) -> None:
        """As a successor does that has not come to the last segment's guard yet."""
        successor = object.__new__(RadosLog)
        successor._pool, successor._shard, successor._failed = self.objects, SHARD, ""
        successor._take_head("successor")

    def successor_finds(self, key: bytes) -> bool:
        """Whether who takes over now decides that the key was written."""
        path = self._folder / "successor.sqlite"
        RadosLog(self.objects, SHARD)
        follower = Follower(SHARD, path, RadosLogReader(self.objects, SHARD), data_shards=1)
        follower.follow()
        follower.close()
        view = open_reader(path)
        try:
            return lookup(view, BUCKET, key, "") is not None
        finally:
            view.close()


def with_owner(folder: Path, story: Callable[[Owner], object], monkeypatch) -> None:
    monkeypatch.setattr(ownership, "CONFIRM_S", 0.01)

    async def run() -> None:
        owner = Owner(folder)
        await story(owner)
        await owner.hosted.close(release=False)

    asyncio.run(run())


def test_nothing_is_appended_once_the_shard_is_known_to_be_lost(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def story(owner: Owner) -> None:
        owner.take_head()
        await until(lambda: owner.hosted.fenced, "the look at the head")
        before, owner.objects.lose_answers = owner.objects.appends, True
        owner.submit(b"late")
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert owner.objects.appends == before
        owner.objects.lose_answers = False
        assert [one.mutation for one in owner.hosted.take_undecided()] == [put(b"late")]
        assert not owner.successor_finds(b"late")
        assert len(owner.failures) == 1

    with_owner(tmp_path, story, monkeypatch)


def test_what_is_in_doubt_stays_so_whoever_has_the_log_by_now(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def story(owner: Owner) -> None:
        owner.objects.lose_answers = True
        owner.submit(b"doubt")
        owner.hosted.commit()
        assert owner.failures
        owner.objects.lose_answers = False
        owner.take_head()
        await until(lambda: not owner.log.told, "the look at the head")
        await asyncio.sleep(0.05)
        assert not owner.hosted.fenced
        with pytest.raises(ObjectStoreError):
            owner.hosted.take_undecided()
        assert owner.sender.answers == []
        assert owner.successor_finds(b"doubt")

    with_owner(tmp_path, story, monkeypatch)


def test_refused_append_has_decided_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def story(owner: Owner) -> None:
        owner.submit(b"before")
        owner.hosted.commit()
        assert len(owner.sender.answers) == 1
        owner.submit(b"refused")
        assert not owner.successor_finds(b"refused")  # and it has the log from now on
        owner.hosted.commit()
        assert owner.hosted.fenced
        assert [one.mutation for one in owner.hosted.take_undecided()] == [put(b"refused")]
        assert len(owner.sender.answers) == 1
        assert owner.successor_finds(b"before")

    with_owner(tmp_path, story, monkeypatch)

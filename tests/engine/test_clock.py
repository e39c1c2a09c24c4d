"""A clock that jumps: order is the log's, not the clock's; nothing acknowledged depends on it."""

from __future__ import annotations

import asyncio
import random
from pathlib import Path

import msgspec
import pytest

from objectstore_app.atlas.fsck import check
from objectstore_app.core.ids import ShardId
from objectstore_app.core.limits import CHUNK_NAMED_S_MAX
from objectstore_app.media.chunks import LocalChunks, LocalReader
from objectstore_app.media.local import LocalLog
from objectstore_app.media.segments import DIRECTORY_SHARD
from objectstore_app.media.store import Store, open_store
from objectstore_app.metadata_service.api import OpenBucket, SetVersioning
from objectstore_app.metadata_service.errors import ChunksExpiredError
from objectstore_app.metadata_service.reads import lookup
from objectstore_app.metadata_service.shard import Shard
from tests.engine.support import BUCKET, do, put

DATA = ShardId(0)
YEAR_MS = 365 * 24 * 3600 * 1000
NOW_MS = 1_800_000_000_000


class Clock:
    """Says what it was set to."""

    def __init__(self) -> None:
        self.now = NOW_MS

    def __call__(self) -> int:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def opened(store: Store, clock: Clock, shard: ShardId = DATA) -> Shard:
    log = LocalLog(store.shard(shard), shard)
    return Shard(shard, log, store.view(shard), data_shards=1, now_ms=clock)


@pytest.mark.parametrize("versioning", ["", "Enabled"])
def test_jumps_by_years_lose_nothing_and_the_last_write_is_current(
    tmp_path: Path, clock: Clock, versioning: str
) -> None:
    rng = random.Random(3)
    store = open_store(tmp_path / "data")
    shard = opened(store, clock)
    do(shard, OpenBucket(bucket=BUCKET))
    if versioning:
        do(shard, SetVersioning(bucket=BUCKET, state=versioning))
    last: dict[bytes, bytes] = {}

    async def write() -> None:
        chunks = LocalChunks(store.path, clock)
        for number in range(60):
            clock.now = NOW_MS + rng.randint(-20, 20) * YEAR_MS
            key, data = b"k%d" % (number % 5), b"%04d" % number * rng.choice((20, 900, 50_000))
            if len(data) < 100_000:
                do(shard, put(key, data))
            else:
                extent = await chunks.write(data)
                await chunks.flush()
                do(shard, msgspec.structs.replace(put(key), size=len(data), extents=(extent,)))
            last[key] = data
        await chunks.close()

    async def read(held: Shard) -> dict[bytes, bytes]:
        reader = LocalReader(store.path)
        found = {}
        for key in last:
            version = lookup(held.view, BUCKET, key, "")
            assert version is not None
            pieces = [await reader.read(one, 0, one.length) for one in version.body.extents]
            found[key] = version.body.inline + b"".join(map(bytes, pieces))
        reader.close()
        return found

    asyncio.run(write())
    assert asyncio.run(read(shard)) == last
    shard.close()
    clock.now = 0
    again = opened(store, clock)
    assert asyncio.run(read(again)) == last
    again.close()
    opened(store, clock, DIRECTORY_SHARD).close()
    report = check(store.path, rebuild=True)
    assert report.clean, report.findings


def test_chunks_that_a_jump_made_old_are_refused_not_lost(tmp_path: Path, clock: Clock) -> None:
    """By then the search for orphans may have taken them for unnamed."""
    store = open_store(tmp_path / "data")
    shard = opened(store, clock)
    do(shard, OpenBucket(bucket=BUCKET))
    data = b"x" * 200_000

    async def write() -> None:
        chunks = LocalChunks(store.path, clock)
        extent = await chunks.write(data)
        await chunks.flush()
        clock.now += CHUNK_NAMED_S_MAX * 1000 + 1
        with pytest.raises(ChunksExpiredError):
            do(shard, msgspec.structs.replace(put(b"k"), size=len(data), extents=(extent,)))
        later = await chunks.write(data)
        await chunks.flush()
        assert later.segment != extent.segment
        do(shard, msgspec.structs.replace(put(b"k"), size=len(data), extents=(later,)))
        await chunks.close()

    asyncio.run(write())
    shard.close()

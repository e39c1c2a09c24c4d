"""kill -9 of the writer at random moments: what was acknowledged is there, nothing is torn.

One folder lives through all rounds. In each a fresh writer recovers, every key is read back, a
mixed load runs against it, and it is killed in the midst; the front end's half-written chunks are
left as they are. The log's segments are small and the next one is filled with zeros at once, so
that writers die while they grow a file, overwrite one, roll, or make a spare.
`OBJECTSTORE_TEST_SEED` repeats a run, `OBJECTSTORE_CRASH_ROUNDS` sets its length.
"""

from __future__ import annotations

import asyncio
import os
import random
import signal
import time
from pathlib import Path

import pytest
import uvloop

from objectstore_app.atlas.fsck import check
from objectstore_app.core.ids import ShardId
from objectstore_app.core.limits import COMMIT_BYTES_MAX, MIB
from objectstore_app.media import local, opened, spare
from objectstore_app.media.chunks import LocalChunks, LocalReader
from objectstore_app.media.local import LocalLog
from objectstore_app.media.store import Store, open_store
from objectstore_app.metadata_service import uploads
from objectstore_app.metadata_service.api import Bucket, CreateBucket, OpenBucket, SetVersioning
from objectstore_app.metadata_service.client import EmbeddedClient
from objectstore_app.metadata_service.errors import UnavailableError
from objectstore_app.metadata_service.writer import now_ms
from tests.engine.crash_load import PART_BYTES, Worker, Writes, verify
from tests.engine.processes import WriterProcess
from tests.engine.support import OWNER

ROUNDS = int(os.environ.get("OBJECTSTORE_CRASH_ROUNDS", "200"))
SEED = int(os.environ.get("OBJECTSTORE_TEST_SEED", str(time.time_ns() % 1_000_000)))
WORKERS = 6
LOAD_S_MAX = 0.08
FSCK_EVERY = 50
VERSIONS_SAMPLED = 20
SEGMENT_BYTES = COMMIT_BYTES_MAX + 1 * MIB


async def make_buckets(store: Store) -> dict[str, Bucket]:
    client = EmbeddedClient(store)
    buckets = {}
    for name in ("plain", "versioned"):
        bucket = await client.mutate_directory(CreateBucket(name=name, owner=OWNER))
        assert isinstance(bucket, Bucket)
        await client.mutate(bucket, OpenBucket(bucket=bucket.id))
        buckets[name] = bucket
    enabled = SetVersioning(bucket=buckets["versioned"].id, state="Enabled")
    await client.mutate(buckets["versioned"], enabled)
    await client.close()
    return buckets


async def crash_round(
    store: Store, pid: int, seed: int, writes: Writes, buckets: dict[str, Bucket]
) -> None:
    """Read everything back, load, kill, and leave as a front end that died would."""
    rng = random.Random(seed)
    client, reader = EmbeddedClient(store), LocalReader(store.path)
    chunks = LocalChunks(store.path, now_ms)
    sample = rng.sample(sorted(writes.versions), min(VERSIONS_SAMPLED, len(writes.versions)))
    await verify(writes, client, reader, buckets, sample)

    async def work(number: int) -> None:
        worker = Worker(
            f"w{number}", rng.randrange(1 << 30), writes, client, chunks, reader, buckets
        )
        while True:
            await worker.step()

    workers = [asyncio.ensure_future(work(number)) for number in range(WORKERS)]
    await asyncio.wait(
        workers, timeout=rng.uniform(0, LOAD_S_MAX), return_when=asyncio.FIRST_EXCEPTION
    )
    os.kill(pid, signal.SIGKILL)
    # The writer is gone, so every worker ends at its next write or waits for a writer: cut those.
    await asyncio.sleep(0.005)
    for worker in workers:
        worker.cancel()
    for outcome in await asyncio.gather(*workers, return_exceptions=True):
        if not isinstance(outcome, (UnavailableError, asyncio.CancelledError)):
            raise outcome
    await client.close()
    reader.close()


def roll_often(monkeypatch: pytest.MonkeyPatch) -> None:
    """For writers started from here on."""

    def small_log(folder: Path, shard: ShardId, **_: object) -> LocalLog:
        return LocalLog(folder, shard, segment_bytes_max=SEGMENT_BYTES, spare=True)

    monkeypatch.setattr(opened, "LocalLog", small_log)
    monkeypatch.setattr(local, "LOG_SPARE_AFTER_BYTES", 0)
    monkeypatch.setattr(spare, "_PAUSE_S", 0.0)


def assert_clean(store: Store) -> None:
    report = check(store.path)
    assert report.clean, report.findings


@pytest.mark.timeout(400 + ROUNDS)
def test_kill_at_any_moment_loses_nothing_acknowledged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(uploads, "PART_BYTES_MIN", PART_BYTES)
    roll_often(monkeypatch)
    with capsys.disabled():
        print(f" crash test: seed {SEED}, {ROUNDS} rounds", end="", flush=True)
    store = open_store(tmp_path / "data")
    rng = random.Random(SEED)
    writes = Writes()
    writer = WriterProcess(store)
    buckets = uvloop.run(make_buckets(store))
    assert writer.stop() == 0
    for number in range(ROUNDS):
        writer = WriterProcess(store)
        try:
            seed = rng.randrange(1 << 30)
            uvloop.run(crash_round(store, writer.pid, seed, writes, buckets))
        finally:
            writer.kill()
        if number % FSCK_EVERY == FSCK_EVERY - 1:
            assert_clean(store)
    writer = WriterProcess(store)

    async def read_back() -> None:
        client, reader = EmbeddedClient(store), LocalReader(store.path)
        await verify(writes, client, reader, buckets, sorted(writes.versions))
        await client.close()
        reader.close()

    uvloop.run(read_back())
    assert writer.stop() == 0
    assert_clean(store)
    assert writes.acknowledged > 2 * ROUNDS, "the load hardly wrote anything"
    sizes = [path.stat().st_size for path in store.path.glob("shard-000/log-*.seg")]
    assert SEGMENT_BYTES in sizes, "no spare was ever used"
    assert len(set(sizes)) > 1, "no file ever grew"

"""The writer over RADOS is killed at any moment, or paused while a successor takes over.

What was acknowledged is there, nothing is torn, and a paused owner that wakes up neither
acknowledges nor overwrites. `OBJECTSTORE_TEST_SEED` repeats a run, `OBJECTSTORE_CEPH_ROUNDS` sets
its length.
"""

from __future__ import annotations

import asyncio
import os
import random
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

pytest.importorskip("rados", reason="no Ceph here: python3-rados is not installed")

import uvloop

from objectstore_app.config.ceph import CephSettings
from objectstore_app.core.limits import COMMIT_BYTES_MAX, KIB
from objectstore_app.media.rados.chunks import RadosChunks
from objectstore_app.media.rados.heap import Heap
from objectstore_app.media.rados.pool import Cluster
from objectstore_app.media.rados.pools import StorePools, open_pools
from objectstore_app.media.rados.reader import RadosReader
from objectstore_app.media.segments import DIRECTORY_SHARD
from objectstore_app.media.store import Store, open_store
from objectstore_app.metadata_service.api import (
    Bucket,
    CreateBucket,
    OpenBucket,
    PutVersion,
    SetVersioning,
)
from objectstore_app.metadata_service.client import EmbeddedClient
from objectstore_app.metadata_service.errors import UnavailableError
from objectstore_app.metadata_service.inventory import TABLES, rows_of
from objectstore_app.metadata_service.view import open_reader
from objectstore_app.metadata_service.writer import now_ms
from tests.ceph.writers import RadosWriter
from tests.engine.crash_load import Worker, Writes, etag, verify
from tests.engine.support import OWNER

ROUNDS = int(os.environ.get("OBJECTSTORE_CEPH_ROUNDS", "12"))
SEED = int(os.environ.get("OBJECTSTORE_TEST_SEED", str(time.time_ns() % 1_000_000)))
WORKERS = 6
LOAD_S_MAX = 0.4
ZOMBIE_WRITES = 20
SEGMENT_BYTES = COMMIT_BYTES_MAX + 600 * KIB
VERSIONS_SAMPLED = 20


@contextmanager
def pools_of(place: CephSettings, namespace: str) -> Iterator[StorePools]:
    cluster = Cluster(place.conf, place.client)
    try:
        yield open_pools(cluster, place, namespace)
    finally:
        cluster.close()


async def make_buckets(store: Store) -> dict[str, Bucket]:
    client = EmbeddedClient(store)
    buckets = {}
    for name in ("plain", "versioned"):
        bucket = await client.mutate_directory(CreateBucket(name=name, owner=OWNER))
        assert isinstance(bucket, Bucket)
        await client.mutate(bucket, OpenBucket(bucket=bucket.id))
        buckets[name] = bucket
    versioned = buckets["versioned"]
    await client.mutate(versioned, SetVersioning(bucket=versioned.id, state="Enabled"))
    await client.close()
    return buckets


async def load_and_signal(
    store: Store,
    pools: StorePools,
    writer: RadosWriter,
    number: signal.Signals,
    rng: random.Random,
    writes: Writes,
    buckets: dict[str, Bucket],
) -> None:
    """Read everything back, load, and send the signal in the midst; who waits then gives up."""
    client, reader = EmbeddedClient(store), RadosReader(pools, Heap())
    chunks = RadosChunks(pools.open, Heap(), now_ms)
    sample = rng.sample(sorted(writes.versions), min(VERSIONS_SAMPLED, len(writes.versions)))
    await verify(writes, client, reader, buckets, sample)

    async def work(name: int) -> None:
        worker = Worker(f"w{name}", rng.randrange(1 << 30), writes, client, chunks, reader, buckets)
        while True:
            await worker.step()

    workers = [asyncio.ensure_future(work(name)) for name in range(WORKERS)]
    await asyncio.wait(
        workers, timeout=rng.uniform(0.05, LOAD_S_MAX), return_when=asyncio.FIRST_EXCEPTION
    )
    writer.send(number)
    await asyncio.sleep(0.005)
    for worker in workers:
        worker.cancel()
    for outcome in await asyncio.gather(*workers, return_exceptions=True):
        if not isinstance(outcome, (UnavailableError, asyncio.CancelledError)):
            raise outcome
    await client.close()
    await chunks.close()


async def read_back(
    store: Store, pools: StorePools, writes: Writes, buckets: dict[str, Bucket]
) -> None:
    client = EmbeddedClient(store)
    await verify(writes, client, RadosReader(pools, Heap()), buckets, sorted(writes.versions))
    await client.close()


def forget_view(store: Store) -> None:
    """The pod's disk is gone: views are made anew from the log."""
    for shard in store.shards:
        for path in store.shard(shard).glob("view.sqlite*"):
            path.unlink()


def rows(store: Store) -> dict[str, list[object]]:
    found: dict[str, list[object]] = {}
    for shard in store.shards:
        schema = "directory" if shard == DIRECTORY_SHARD else "data"
        reader = open_reader(store.view(shard))
        for table in TABLES[schema]:
            found[f"{shard} {table}"] = list(rows_of(reader, schema, table))
        reader.close()
    return found


@pytest.mark.timeout(120 + 20 * ROUNDS)
def test_kill_at_any_moment_loses_nothing_acknowledged(
    ceph: Path,
    place: CephSettings,
    namespace: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    store, rng, writes = open_store(tmp_path / "data"), random.Random(SEED), Writes()
    writer = RadosWriter(store, ceph, namespace, SEGMENT_BYTES)
    buckets = uvloop.run(make_buckets(store))
    with pools_of(place, namespace) as pools:
        for _ in range(ROUNDS):
            try:
                work = load_and_signal(store, pools, writer, signal.SIGKILL, rng, writes, buckets)
                uvloop.run(work)
            finally:
                writer.kill()
            if rng.random() < 0.3:
                forget_view(store)
            writer = RadosWriter(store, ceph, namespace, SEGMENT_BYTES)
        uvloop.run(read_back(store, pools, writes, buckets))
        assert writer.stop() == 0
        before = rows(store)
        forget_view(store)
        writer = RadosWriter(store, ceph, namespace, SEGMENT_BYTES)
        assert rows(store) == before
        writer.kill()
        segments = [name for name in pools.log.names() if name.startswith("shard-000/log-")]
    with capsys.disabled():
        print(
            f" seed {SEED}, {ROUNDS} rounds, {writes.acknowledged} acknowledged,"
            f" {len(segments)} segments",
            end="",
        )
    assert writes.acknowledged > 2 * ROUNDS, "the load hardly wrote anything"


async def ask_zombie(store: Store, bucket: Bucket, writer: RadosWriter) -> int:
    """Send writes to a paused owner, wake it, send more; how many it acknowledged."""
    client = EmbeddedClient(store)
    before = [await _begin(client, bucket, number) for number in range(ZOMBIE_WRITES)]
    writer.send(signal.SIGCONT)
    after = [await _begin(client, bucket, number) for number in range(ZOMBIE_WRITES)]
    outcomes = await asyncio.gather(*before, *after, return_exceptions=True)
    for outcome in outcomes:
        if isinstance(outcome, BaseException) and not isinstance(outcome, UnavailableError):
            raise outcome
    await client.close()
    return sum(not isinstance(outcome, BaseException) for outcome in outcomes)


async def _begin(client: EmbeddedClient, bucket: Bucket, number: int) -> asyncio.Future[object]:
    data = b"zombie"
    mutation = PutVersion(
        bucket=bucket.id, key=b"zombie/%d" % number, owner=OWNER, size=len(data),
        etag=etag(data), data=data,
    )  # fmt: skip
    sending = asyncio.ensure_future(client.mutate(bucket, mutation))
    await asyncio.sleep(0)
    return sending


@pytest.mark.timeout(120 + 20 * ROUNDS)
def test_paused_owner_that_wakes_up_neither_acknowledges_nor_overwrites(
    ceph: Path,
    place: CephSettings,
    namespace: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Two pods take turns; in each round the owner is paused in the midst of its load, the other
    takes over and writes, then the old one wakes up with writes waiting at its door.
    """
    pods = [open_store(tmp_path / name) for name in ("a", "b")]
    rng, writes = random.Random(SEED), Writes()
    owner = RadosWriter(pods[0], ceph, namespace, SEGMENT_BYTES)
    buckets = uvloop.run(make_buckets(pods[0]))
    takeovers: list[float] = []
    with pools_of(place, namespace) as pools:
        for number in range(ROUNDS):
            here, there = pods[number % 2], pods[1 - number % 2]
            successor: RadosWriter | None = None
            try:
                stop = signal.SIGSTOP
                uvloop.run(load_and_signal(here, pools, owner, stop, rng, writes, buckets))
                begun = time.monotonic()
                successor = RadosWriter(there, ceph, namespace, SEGMENT_BYTES)
                takeovers.append(time.monotonic() - begun)
                uvloop.run(read_back(there, pools, writes, buckets))
                acknowledged = uvloop.run(ask_zombie(here, buckets["plain"], owner))
                assert acknowledged == 0
                assert owner.end() == 1
                assert "FencedError" in owner.last_words()
            finally:
                owner.kill()
            assert successor is not None
            owner = successor
        last = pods[ROUNDS % 2]
        uvloop.run(read_back(last, pools, writes, buckets))
        owner.kill()
    names = [row for table, found in rows(last).items() for row in found if "versions" in table]
    assert not [row for row in names if b"zombie" in repr(row).encode()]
    with capsys.disabled():
        slowest = max(takeovers)
        print(
            f" seed {SEED}, {ROUNDS} takeovers, {writes.acknowledged} acknowledged,"
            f" slowest start of a successor's process {slowest:.2f} s",
            end="",
        )
    assert writes.acknowledged > 2 * ROUNDS, "the load hardly wrote anything"

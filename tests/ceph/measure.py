"""What the store on RADOS does on this machine: `python -m tests.ceph.measure CEPH-FOLDER`.

One line of JSON a measurement. The cluster, the client and all OSDs share the machine: compare
lines of one run, never runs of two machines.
"""

from __future__ import annotations

import asyncio
import json
import os
import secrets
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from objectstore_app.config.ceph import CephPools, CephSettings
from objectstore_app.core.ids import ShardId
from objectstore_app.core.limits import MIB
from objectstore_app.media.errors import FencedError
from objectstore_app.media.rados.chunks import RadosChunks
from objectstore_app.media.rados.heap import Heap
from objectstore_app.media.rados.log import RadosLog, RadosLogReader
from objectstore_app.media.rados.pool import Cluster, Pool
from objectstore_app.media.rados.pools import StorePools, open_pools
from objectstore_app.media.rados.reader import RadosReader
from objectstore_app.metadata_service.api import OpenBucket
from objectstore_app.metadata_service.writer import now_ms
from tests.ceph.cluster import POOLS
from tests.engine.support import BUCKET, do, open_shard, put

SHARD = ShardId(0)
BODY = os.urandom(4096)
MEASURE_S = 4.0


def say(what: str, times: list[float], things: int, **more: object) -> None:
    """`times` of calls that did so many things together."""
    total = sum(times)
    line = {
        "what": what,
        "calls": len(times),
        "per_s": round(things / total, 1),
        "p50_ms": round(statistics.median(times) * 1000, 2),
        "p99_ms": round(sorted(times)[int(len(times) * 0.99)] * 1000, 2),
    }
    print(json.dumps(line | more), flush=True)


def repeat(call: Callable[[], object]) -> list[float]:
    times: list[float] = []
    end = time.monotonic() + MEASURE_S
    while time.monotonic() < end:
        begun = time.perf_counter()
        call()
        times.append(time.perf_counter() - begun)
    return times


def commits(pool: Pool, view: Path) -> None:
    """Whole commits of a shard: decide, append to RADOS, commit the view."""
    shard = open_shard(RadosLog(pool, SHARD), SHARD, view=view)
    do(shard, OpenBucket(bucket=BUCKET))
    number = 0

    def commit(size: int) -> None:
        nonlocal number
        mutations = [put(b"%016x" % hash((number, at)), BODY) for at in range(size)]
        number += 1
        shard.commit(mutations)

    for size in (1, 16, 128):
        processor = time.process_time()
        times = repeat(lambda size=size: commit(size))
        spent = time.process_time() - processor
        objects = len(times) * size
        say(f"commit {size} x 4 KiB", times, objects, cpu_us_each=round(spent / objects * 1e6, 1))
    begun = time.perf_counter()
    pieces = RadosLogReader(pool, SHARD).scan(0, 0)
    size = sum(len(piece.data) for piece in pieces)
    say("read log, bytes", [time.perf_counter() - begun], size, mib=round(size / MIB))
    begun = time.perf_counter()
    again = open_shard(RadosLog(pool, SHARD), SHARD)
    say("replay from nothing, records", [time.perf_counter() - begun], again.replayed)
    again.close()


def takeovers(pool: Pool, view: Path) -> None:
    """Between two owners whose views are current: fence, recover, first commit."""
    shard = open_shard(RadosLog(pool, SHARD), SHARD, view=view)
    do(shard, OpenBucket(bucket=BUCKET))
    fence, first = [], []
    for number in range(40):
        begun = time.perf_counter()
        log = RadosLog(pool, SHARD)
        fenced = time.perf_counter()
        successor = open_shard(log, SHARD, view=view)
        do(successor, put(b"%d" % number, BODY))
        fence.append(fenced - begun)
        first.append(time.perf_counter() - begun)
        try:
            shard.commit([put(b"zombie", BODY)])
        except FencedError:
            pass
        else:
            raise AssertionError("a fenced owner acknowledged")
        shard = successor
    say("fence", fence, len(fence))
    say("fence, recover, first commit", first, len(first))
    confirmed = repeat(log.confirm)
    say("confirm", confirmed, len(confirmed))


async def bulk(pools: StorePools) -> None:
    chunks, reader = RadosChunks(pools.open, Heap(), now_ms), RadosReader(pools, Heap())
    piece = os.urandom(4 * MIB)

    async def write(count: int) -> list:
        begun = time.perf_counter()
        extents = [await chunks.write(piece) for _ in range(count)]
        await chunks.flush()
        mib = count * len(piece) / MIB
        say("write chunks one by one, MiB", [time.perf_counter() - begun], mib)
        return extents

    extents = await write(48)
    begun = time.perf_counter()
    await asyncio.gather(*(chunks.write(piece) for _ in range(48)))
    await chunks.flush()
    say("write 48 chunks at once, MiB", [time.perf_counter() - begun], 48 * len(piece) / MIB)
    begun = time.perf_counter()
    for extent in extents:
        for start in range(0, extent.length, MIB):
            await reader.read(extent, start, MIB)
    total = len(extents) * len(piece) / MIB
    say("read 1 MiB pieces one by one, MiB", [time.perf_counter() - begun], total)
    begun = time.perf_counter()
    for extent in extents:
        parts = [reader.read(extent, start, MIB) for start in range(0, extent.length, MIB)]
        await asyncio.gather(*parts)
    say("read 4 pieces at once, MiB", [time.perf_counter() - begun], total)
    small = [await chunks.write(BODY) for _ in range(200)]
    times = []
    for extent in small * 5:
        begun = time.perf_counter()
        await reader.read(extent, 0, len(BODY))
        times.append(time.perf_counter() - begun)
    say("read 4 KiB one by one", times, len(times))
    begun = time.perf_counter()
    for _ in range(5):
        for start in range(0, 200, 32):
            await asyncio.gather(*(reader.read(one, 0, 4096) for one in small[start : start + 32]))
    say("read 4 KiB, 32 at once", [time.perf_counter() - begun], 1000)
    await chunks.close()


def main() -> None:
    conf = Path(sys.argv[1]) / "ceph.conf"
    ceph = CephSettings(conf, "client.store", CephPools(*POOLS), "")
    cluster = Cluster(ceph.conf, ceph.client)

    def pools() -> StorePools:
        return open_pools(cluster, ceph, f"measure-{secrets.token_hex(3)}")

    try:
        with tempfile.TemporaryDirectory(dir="/var/tmp") as folder:
            for number, measure in enumerate((commits, takeovers)):
                view = Path(folder) / f"{number}.sqlite"
                measure(pools().log, view)
        asyncio.run(bulk(pools()))
    finally:
        cluster.close()


if __name__ == "__main__":
    main()

"""Atlas and fsck over a store on RADOS: room comes back, nothing that lives is lost, whatever cuts
a pass off.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

pytest.importorskip("rados", reason="no Ceph here: python3-rados is not installed")

from objectstore_app.atlas.fsck import Report, check
from objectstore_app.atlas.work import Work
from objectstore_app.config.ceph import CephAccess, CephSettings
from objectstore_app.core.limits import MIB, RADOS_CHUNK_ALIGN_BYTES
from objectstore_app.media.opened import open_media
from objectstore_app.media.place import settle_place
from objectstore_app.media.rados.names import cold_name, object_name
from objectstore_app.media.rados.pool import Cluster, Pool
from objectstore_app.media.rados.pools import StorePools
from objectstore_app.media.rados.segments import RadosSegments
from objectstore_app.media.store import Store, open_store
from objectstore_app.metadata_service.client import EmbeddedClient
from tests.ceph.writers import RadosWriter
from tests.engine.atlas_store import (
    AT_ONCE,
    DATA,
    OLD_S,
    SEGMENT_BYTES,
    Held,
    atlas,
    large,
    small,
)

COLD_S = AT_ONCE.cold_after_s + OLD_S
WITHOUT_COOLING = ("gc", "compact", "orphans", "uploads")
ALL = (*WITHOUT_COOLING, "cool")


class Cut(BaseException):
    """The process ends here, as far as Atlas can tell."""


@pytest.fixture
def store(tmp_path: Path, place: CephSettings) -> Store:
    store = open_store(tmp_path / "data")
    settle_place(store, place)
    return store


@pytest.fixture
def writer(store: Store, ceph: Path, namespace: str) -> Iterator[RadosWriter]:
    process = RadosWriter(store, ceph, namespace, SEGMENT_BYTES)
    yield process
    process.kill()


@pytest.fixture
def held(store: Store, place: CephSettings, writer: RadosWriter) -> Held:
    held = Held(store, place)
    asyncio.run(held.create())
    return held


def verified(held: Held, *, rebuild: bool = False) -> Report:
    assert held.ceph is not None
    access = CephAccess(held.ceph.conf, held.ceph.client)
    return check(held.store.path, rebuild=rebuild, ceph=access)


def bytes_of(pools: StorePools, held: Held) -> int:
    """What the store's segments take."""
    assert held.ceph is not None
    with closing(Cluster(held.ceph.conf, held.ceph.client)) as cluster:
        segments = RadosSegments(cluster, pools)
        numbers = [*segments.chunks(), *segments.logs(DATA)]
        return sum(segments.taken(number) or 0 for number in numbers)


async def load(held: Held, begin: int) -> None:
    """Objects, overwrites and deletes, so that each pass has something to do."""
    await held.put({b"s%04d" % n: small(n) for n in range(begin, begin + 60)})
    await held.put({b"l%d" % (n % 5): large(n) for n in range(begin, begin + 3)})
    doomed = [key for key in sorted(held.objects) if key.startswith(b"s")]
    await held.delete([key for n, key in enumerate(doomed) if n % 3])
    await held.cut_off(large(begin))


def test_room_of_what_is_dead_comes_back(
    held: Held, pools: StorePools, writer: RadosWriter
) -> None:
    async def work() -> None:
        for begin in (0, 100, 200):
            await load(held, begin)
        full = bytes_of(pools, held)
        state = await atlas(held.store, ceph=held.ceph)
        assert state.damage == []
        assert state.counters["bases_made"] == 2
        assert state.counters["bodies_moved"] > 0
        assert state.counters["bytes_freed"] > 3 * MIB
        await held.verify()
        before = bytes_of(pools, held)
        assert before < full - state.counters["bytes_freed"] + 4 * MIB
        await atlas(held.store, WITHOUT_COOLING, later_s=OLD_S, ceph=held.ceph)
        live = sum(map(len, held.objects.values()))
        assert bytes_of(pools, held) < live + MIB
        await held.verify()

    asyncio.run(work())
    assert writer.stop() == 0
    assert verified(held).findings == []
    assert verified(held, rebuild=True).clean
    held.store.view(DATA).unlink()
    assert verified(held, rebuild=True).rebuilt == ["directory", "shard-000"]


def test_zeroed_ranges_are_counted_once(held: Held, pools: StorePools) -> None:
    async def work() -> None:
        await held.put({b"a": large(1), b"b": large(2), b"c": large(3)})
        await held.delete([b"b"])
        first = await atlas(held.store, ["gc"], ceph=held.ceph)
        # The chunk, its table and the rest of the block.
        assert first.counters["bytes_freed"] == len(large(2)) + RADOS_CHUNK_ALIGN_BYTES
        later = await atlas(held.store, ["gc", "orphans"], later_s=OLD_S, ceph=held.ceph)
        assert later.counters["bytes_freed"] == first.counters["bytes_freed"]
        await held.verify()

    asyncio.run(work())


def test_old_segments_are_moved_to_the_cold_pool_and_shrink_there(
    held: Held, pools: StorePools, writer: RadosWriter
) -> None:
    assert pools.cold is not None

    async def work() -> None:
        await held.put({b"l%d" % n: large(n) for n in range(8)})
        await held.delete([b"l3"])
        await atlas(held.store, ["gc", "cool"], later_s=OLD_S, ceph=held.ceph)
        assert pools.cold is not None
        assert not list(pools.cold.names()), "old, but not cold yet"
        state = await atlas(held.store, ["cool", "scrub"], later_s=COLD_S, ceph=held.ceph)
        assert state.damage == []
        names = list(pools.cold.names())
        assert names
        assert not [one for one in pools.open.names() if one.startswith("chunks/")]
        await held.verify()
        assert bytes_of(pools, held) < sum(map(len, held.objects.values())) + 500_000
        full = sum(pools.cold.size(name) or 0 for name in names)
        await held.delete([b"l1", b"l2", b"l4"])
        await atlas(held.store, ALL, later_s=COLD_S, ceph=held.ceph)
        left = sum(pools.cold.size(name) or 0 for name in names)
        assert left < full - 2 * len(large(0))
        await held.verify()
        await held.put({b"new": large(9)})

    asyncio.run(work())
    assert writer.stop() == 0
    assert verified(held).findings == []


def test_ranges_of_a_cold_segment_are_read_though_it_is_replaced(
    held: Held, pools: StorePools
) -> None:
    async def work() -> None:
        await held.put({b"l%d" % n: large(n) for n in range(6)})
        await atlas(held.store, ALL, later_s=COLD_S, ceph=held.ceph)
        with closing(open_media(held.store, held.ceph)) as media:
            client = EmbeddedClient(held.store)
            assert held.bucket is not None
            found = await client.lookup(held.bucket, b"l5")
            assert found is not None
            (extent,) = found.body.extents
            body = held.objects[b"l5"]
            for start, length in ((0, 1), (131_071, 2), (500_000, 300_000), (len(body) - 1, 1)):
                assert await media.reader.read(extent, start, length) == body[start:][:length]
            await held.delete([b"l%d" % n for n in range(5)])
            await atlas(held.store, ALL, later_s=COLD_S, ceph=held.ceph)
            # Several at once go by the old index: each has to notice for itself.
            ranges = [(7, 100_000), (300_000, 200_000), (len(body) - 9, 9)]
            reading = (media.reader.read(extent, *one) for one in ranges)
            for (start, length), data in zip(ranges, await asyncio.gather(*reading), strict=True):
                assert data == body[start:][:length]
            await client.close()

    asyncio.run(work())


def test_nothing_is_moved_while_the_cluster_is_not_whole(
    held: Held, pools: StorePools, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Cluster, "is_clean", lambda _: False)

    async def work() -> None:
        await held.put({b"l": large(1)})
        await atlas(held.store, ["cool"], later_s=COLD_S, ceph=held.ceph)

    asyncio.run(work())
    assert pools.cold is not None
    assert not list(pools.cold.names())


def test_damage_is_told_wherever_it_lies(
    held: Held, pools: StorePools, writer: RadosWriter
) -> None:
    async def work() -> int:
        await held.put({b"l": large(1)})
        with closing(open_media(held.store, held.ceph)) as media:
            (number,) = media.segments.chunks()
        await atlas(held.store, ["cool"], later_s=COLD_S, ceph=held.ceph)
        return number

    number = asyncio.run(work())
    assert writer.stop() == 0
    assert verified(held).clean
    assert pools.cold is not None
    name = cold_name(number)
    content = bytearray(pools.cold.read(name, 0, 2 * MIB) or b"")
    content[500_000] ^= 1
    pools.cold.put(name, bytes(content))
    report = verified(held)
    assert [one.what for one in report.findings if "checksum" in one.what]
    assert not report.clean
    pools.cold.remove(name)
    assert "missing" in verified(held).findings[0].what
    log = object_name(0 << 32 | 1)
    header = pools.log.read(log, 0, 32)
    assert header is not None
    pools.log.write_if(log, header, 0, b"?", 300)
    findings = verified(held).findings
    assert any("log" in one.where for one in findings), findings


def stepwise(monkeypatch: pytest.MonkeyPatch, cut_before: int) -> list[str]:
    """Cut off before that step of what leaves a trace; the steps that were taken."""
    taken: list[str] = []

    def step(name: str) -> None:
        taken.append(name)
        if len(taken) == cut_before:
            raise Cut

    def watched(name: str) -> Callable[..., object]:
        call = getattr(Pool, name)

        def called(self: Pool, *arguments: object) -> object:
            step(name)
            return call(self, *arguments)

        return called

    for name in ("create", "write_if", "replace_if", "put", "zero", "remove"):
        monkeypatch.setattr(Pool, name, watched(name))
    ask = Work.ask

    async def asked(self: Work, *what: object) -> object:
        step("ask")
        return await ask(self, *what)

    monkeypatch.setattr(Work, "ask", asked)
    return taken


@pytest.mark.timeout(400)
def test_cut_off_at_any_step_loses_nothing_and_the_next_pass_finishes(
    held: Held, pools: StorePools, writer: RadosWriter
) -> None:
    cold = replace(AT_ONCE, cold_after_s=0)
    number, kinds = 0, set()
    for number in range(1, 400):
        if number % 2 == 1:
            asyncio.run(load(held, number))
        with pytest.MonkeyPatch.context() as patch:
            taken = stepwise(patch, number)
            try:
                asyncio.run(atlas(held.store, ALL, cold, later_s=OLD_S, ceph=held.ceph))
            except Cut:
                pass
            else:
                break
        kinds |= {taken[-1]}
        asyncio.run(held.verify())
    assert 12 < number < 400
    assert kinds >= {"ask", "put", "zero", "remove"}
    asyncio.run(atlas(held.store, ALL, cold, later_s=OLD_S, ceph=held.ceph))
    asyncio.run(held.verify())
    assert writer.stop() == 0
    assert verified(held).findings == []
    live = sum(map(len, held.objects.values()))
    assert bytes_of(pools, held) < live * 4 // 3 + MIB

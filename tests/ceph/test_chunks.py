"""Chunks on RADOS: written in pieces, read verified, given back."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Iterator

import pytest

pytest.importorskip("rados", reason="no Ceph here: python3-rados is not installed")

from objectstore_app.config.ceph import CephSettings
from objectstore_app.core.limits import CHUNK_BYTES_MAX, GIB, MIB, RADOS_SEGMENT_BYTES_MAX
from objectstore_app.media.api import Extent
from objectstore_app.media.errors import CorruptDataError, MediaFailedError, MediaFullError
from objectstore_app.media.rados.chunks import RadosChunks
from objectstore_app.media.rados.heap import Heap
from objectstore_app.media.rados.names import object_name
from objectstore_app.media.rados.objects import GuardError
from objectstore_app.media.rados.pool import Cluster, Pool
from objectstore_app.media.rados.pools import StorePools
from objectstore_app.media.rados.reader import RadosReader
from objectstore_app.media.rados.segments import RadosSegments
from objectstore_app.media.segments import (
    SEGMENT_HEADER_BYTES,
    chunk_segment,
    encode_header,
    table_bytes,
)
from objectstore_app.metadata_service.writer import now_ms

DATA = random.Random(1).randbytes(3 * MIB)


@pytest.fixture
def segments(place: CephSettings, pools: StorePools) -> Iterator[RadosSegments]:
    cluster = Cluster(place.conf, place.client)
    yield RadosSegments(cluster, pools)
    cluster.close()


def with_media(
    pools: StorePools, work: Callable[[RadosChunks, RadosReader], Awaitable[None]]
) -> None:
    async def run() -> None:
        chunks = RadosChunks(pools.open, Heap(), now_ms)
        await work(chunks, RadosReader(pools, Heap()))
        await chunks.close()

    asyncio.run(run())


def test_chunk_in_pieces_is_read_back_at_every_edge(pools: StorePools) -> None:
    async def work(chunks: RadosChunks, reader: RadosReader) -> None:
        seen: list[int] = []
        chunk = chunks.begin(len(DATA))
        await chunk.append([DATA[:100_000]], lambda piece: seen.append(len(piece)))
        await chunk.append([memoryview(DATA)[100_000:MIB]])
        extent = await chunk.finish([DATA[MIB : 2 * MIB], DATA[2 * MIB :]])
        chunk.close()
        await chunks.flush()
        assert seen == [100_000]
        edges = (0, 1, 131_071, 131_072, 131_073, len(DATA) - 1)
        for start in edges:
            for length in (1, 131_072, len(DATA) - start):
                if start + length <= len(DATA):
                    found = await reader.read(extent, start, length)
                    assert found == DATA[start : start + length]
        assert reader.file_of(extent) is None

    with_media(pools, work)


def test_many_chunks_at_once_each_have_a_place(pools: StorePools) -> None:
    async def work(chunks: RadosChunks, reader: RadosReader) -> None:
        bodies = [bytes([number]) * (200_000 + number) for number in range(30)]
        extents = await asyncio.gather(*map(chunks.write, bodies))
        await chunks.flush()
        for extent, body in zip(extents, bodies, strict=True):
            assert await reader.read(extent, 0, len(body)) == body

    with_media(pools, work)


def test_segments_roll_before_they_get_too_large(pools: StorePools) -> None:
    async def work(chunks: RadosChunks, _: RadosReader) -> None:
        begun = [chunks.begin(CHUNK_BYTES_MAX) for _ in range(5)]
        extents = {chunk._segment for chunk in begun}
        assert len(extents) == 2
        assert all(chunk._offset < RADOS_SEGMENT_BYTES_MAX for chunk in begun)

    with_media(pools, work)


def test_no_two_chunks_share_a_block_of_a_disk(pools: StorePools) -> None:
    block = 4096

    async def work(chunks: RadosChunks, _: RadosReader) -> None:
        extents = [await chunks.write(bytes(200_000 + number)) for number in range(5)]
        assert all(extent.offset % block == 0 for extent in extents)
        assert min(extent.offset for extent in extents) == block
        assert len({extent.offset // block for extent in extents}) == len(extents)

    with_media(pools, work)


def test_damage_is_found_and_named(pools: StorePools) -> None:
    async def work(chunks: RadosChunks, _: RadosReader) -> None:
        extent = await chunks.write(DATA)
        name = object_name(extent.segment)
        header = pools.open.read(name, 0, 8)
        assert header is not None
        pools.open.write_if(name, header, 0, b"?", extent.offset + 140_000)
        reader = RadosReader(pools, Heap())
        assert await reader.read(extent, 0, 131_072) == DATA[:131_072]
        with pytest.raises(CorruptDataError, match=hex(extent.segment)):
            await reader.read(extent, 131_072, 10)
        table = extent.offset + extent.length
        pools.open.write_if(name, header, 0, b"????", table)
        with pytest.raises(CorruptDataError, match="table"):
            await RadosReader(pools, Heap()).read(extent, 0, 1)
        gone = Extent(extent.segment + 1, 32, 10, 0, blocks=True)
        with pytest.raises(CorruptDataError, match="missing"):
            await reader.read(gone, 0, 10)
        beyond = Extent(extent.segment, extent.offset + 64 * MIB, 10, 0)
        with pytest.raises(CorruptDataError, match="too short"):
            await reader.read(beyond, 0, 10)

    with_media(pools, work)


def test_windows_of_a_chunk_that_are_asked_for_at_once_share_its_table(
    pools: StorePools, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[int] = []
    read = Pool.read_async

    async def counted(pool: Pool, name: str, offset: int, length: int) -> bytes | None:
        asked.append(length)
        return await read(pool, name, offset, length)

    async def work(chunks: RadosChunks, reader: RadosReader) -> None:
        extent = await chunks.write(DATA)
        await chunks.flush()
        monkeypatch.setattr(Pool, "read_async", counted)
        gone = asyncio.ensure_future(reader.read(extent, 0, MIB))
        await asyncio.sleep(0)
        gone.cancel()
        windows = await asyncio.gather(*(reader.read(extent, at * MIB, MIB) for at in range(3)))
        assert b"".join(windows) == DATA
        assert asked.count(table_bytes(extent.length)) == 1
        assert await reader.read(extent, 5, 10) == DATA[5:15]
        assert asked.count(table_bytes(extent.length)) == 1

    with_media(pools, work)


def test_dead_chunk_gives_its_room_back_and_its_neighbours_stay(pools: StorePools) -> None:
    async def work(chunks: RadosChunks, reader: RadosReader) -> None:
        before, dead, behind = [await chunks.write(DATA) for _ in range(3)]
        end = dead.offset + dead.length + table_bytes(dead.length)
        name = object_name(dead.segment)
        pools.open.zero(name, [(dead.offset, end)], "noted", b"1")
        assert pools.open.attribute(name, "noted") == b"1"
        assert pools.open.attribute(name, "other") is None
        assert pools.open.read(name, dead.offset, end - dead.offset) == bytes(end - dead.offset)
        for living in (before, behind):
            assert await reader.read(living, 0, len(DATA)) == DATA
        with pytest.raises(CorruptDataError):
            await reader.read(dead, 0, 10)

    with_media(pools, work)


def test_dead_chunk_goes_with_the_rest_of_its_last_block(
    pools: StorePools, segments: RadosSegments
) -> None:
    async def work(chunks: RadosChunks, reader: RadosReader) -> None:
        before, dead, behind = [await chunks.write(DATA) for _ in range(3)]
        end = dead.offset + dead.length + table_bytes(dead.length)
        taken = segments.taken(dead.segment)
        for freed in (behind.offset - dead.offset, 0):
            assert segments.give_back(dead.segment, [(dead.offset, end)]) == ([True], freed)
            assert taken is not None
            assert segments.taken(dead.segment) == taken - (behind.offset - dead.offset)
        for living in (before, behind):
            assert await reader.read(living, 0, len(DATA)) == DATA

    with_media(pools, work)


@pytest.mark.parametrize("damaged", [False, True])
def test_where_chunks_lie_close_only_the_dead_one_goes(
    pools: StorePools, segments: RadosSegments, *, damaged: bool
) -> None:
    """As earlier builds wrote them; and as one has to suppose where the header does not say."""
    number = chunk_segment(now_ms(), 1)
    header = bytes(SEGMENT_HEADER_BYTES - 1) + b"?" if damaged else encode_header(number)
    pools.open.create(object_name(number), header + b"d" * 5_000 + b"l" * 5_000)
    begin, end = SEGMENT_HEADER_BYTES, SEGMENT_HEADER_BYTES + 5_000
    assert segments.give_back(number, [(begin, end)]) == ([True], 5_000)
    assert pools.open.read(object_name(number), begin, 10_000) == bytes(5_000) + b"l" * 5_000


def test_giving_room_back_makes_no_object_that_was_moved_away_meanwhile(pools: StorePools) -> None:
    with pytest.raises(GuardError, match="gone"):
        pools.open.zero("chunks/moved", [(64, 128)], "noted", b"1")
    assert pools.open.size("chunks/moved") is None


def test_no_room_refuses_and_the_next_chunk_finds_some(
    pools: StorePools, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def work(chunks: RadosChunks, reader: RadosReader) -> None:
        with monkeypatch.context() as patch:
            patch.setattr(pools.open, "free_bytes", lambda: 0)
            with pytest.raises(MediaFullError):
                await chunks.write(DATA)
        extent = await chunks.write(DATA)
        assert await reader.read(extent, 0, 5) == DATA[:5]

    with_media(pools, work)


def test_failed_write_is_told_and_its_segment_left(
    pools: StorePools, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def work(chunks: RadosChunks, _: RadosReader) -> None:
        good = await chunks.write(DATA)

        def failing(name: str, data: bytes, offset: int, done: Callable[..., None]) -> None:
            done(MediaFailedError("write", name, "EIO"))

        with monkeypatch.context() as patch:
            patch.setattr(pools.open, "start_write", failing)
            with pytest.raises(MediaFailedError):
                await chunks.write(DATA)
        later = await chunks.write(DATA)
        assert later.segment != good.segment

    with_media(pools, work)


def test_flush_waits_for_what_a_cancelled_writer_sent(
    pools: StorePools, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def work(chunks: RadosChunks, _: RadosReader) -> None:
        answer: list[Callable[..., None]] = []
        begun = asyncio.Event()

        def hold(_: str, __: bytes, ___: int, done: Callable[..., None]) -> None:
            answer.append(done)
            begun.set()

        with monkeypatch.context() as patch:
            patch.setattr(pools.open, "start_write", hold)
            writing = asyncio.ensure_future(chunks.write(DATA))
            await begun.wait()
        writing.cancel()
        await asyncio.wait([writing])
        flushing = asyncio.ensure_future(chunks.flush())
        await asyncio.sleep(0.01)
        assert not flushing.done()
        answer[0](None)
        await flushing

    with_media(pools, work)


def test_room_is_what_the_pool_takes_not_what_the_disks_have(pools: StorePools) -> None:
    assert 1 * GIB < pools.open.free_bytes() < 12 * GIB

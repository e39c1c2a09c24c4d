"""Atlas gives space back, keeps what lives, and finds what is damaged."""

from __future__ import annotations

import asyncio
import os
import random
from pathlib import Path

import msgspec
import pytest

from objectstore_app.atlas import compaction
from objectstore_app.atlas.fsck import check
from objectstore_app.atlas.work import Work
from objectstore_app.config.atlas import AtlasSettings
from objectstore_app.core.limits import MIB, SEND_WINDOW_BYTES_MAX
from objectstore_app.media.chunks import LocalChunks, LocalReader
from objectstore_app.media.errors import CorruptDataError
from objectstore_app.media.segments import chunk_segment, encode_header, segment_path
from objectstore_app.media.store import Store, StoreInUseError, open_store
from objectstore_app.metadata_service.api import (
    CloseBucket,
    CreateUpload,
    DeleteKey,
    PutPart,
    PutVersion,
    RemoveBucket,
    Upload,
)
from objectstore_app.metadata_service.bases import base_path, newest_base
from objectstore_app.metadata_service.client import EmbeddedClient
from objectstore_app.metadata_service.survey import usage_and_count
from objectstore_app.metadata_service.view import DATA as DATA_SCHEMA
from objectstore_app.metadata_service.view import open_reader, open_view
from objectstore_app.metadata_service.writer import now_ms
from objectstore_app.runtime.http import read_bytes

from .atlas_store import (
    AT_ONCE,
    DATA,
    OLD_S,
    Held,
    atlas,
    disk_bytes,
    large,
    small,
    small_segments,
    stopped_and_checked,
)
from .crash_load import read_version
from .processes import WriterProcess
from .support import OWNER


def mixed(begin: int, end: int) -> dict[bytes, bytes]:
    """Small objects, and every tenth a large one."""
    return {b"k%04d" % n: large(n) if n % 10 == 0 else small(n) for n in range(begin, end)}


def log_files(store: Store) -> list[str]:
    return sorted(path.name for path in store.shard(DATA).glob("log-????????.seg"))


def test_space_comes_back_after_everything_is_deleted(store: Store, writer: WriterProcess) -> None:
    held = Held(store)

    async def work() -> int:
        await held.create()
        await held.put(mixed(0, 200))
        full = disk_bytes(store)
        await held.delete(list(held.objects))
        await atlas(store)
        await held.verify()
        assert disk_bytes(store) < 2 * 64 * 1024 + 64 * 1024
        await atlas(store, ["orphans"], later_s=OLD_S)
        assert list(store.chunks.glob("*.seg")) == []
        return full

    assert asyncio.run(work()) > 20 * MIB
    assert stopped_and_checked(store, writer).clean


def test_what_lives_is_moved_out_of_sparse_segments_and_stays_readable(
    store: Store, writer: WriterProcess
) -> None:
    held = Held(store)

    async def work() -> None:
        await held.create()
        await held.put(mixed(0, 200))
        before = log_files(store)
        await held.delete([key for n, key in enumerate(sorted(held.objects)) if n % 5])
        live = sum(map(len, held.objects.values()))
        state = await atlas(store)
        assert state.counters["bodies_moved"] >= 15
        await held.verify()
        await atlas(store)
        await held.verify()
        assert not set(before[:-1]) & set(log_files(store)[:-1])
        assert disk_bytes(store) < live + MIB

    asyncio.run(work())
    assert stopped_and_checked(store, writer).clean
    store.view(DATA).unlink()
    again = WriterProcess(store)
    asyncio.run(held.verify())
    assert stopped_and_checked(store, again).findings == []


def test_a_base_that_is_newer_than_the_view_takes_no_segment_away(
    store: Store, writer: WriterProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another Atlas may have made it of a view that got further than ours."""
    held = Held(store)

    async def work() -> None:
        await held.create()
        await held.put(mixed(0, 60))
        await atlas(store, ["compact"])
        base = newest_base(store.shard(DATA))
        assert base is not None
        later = msgspec.structs.replace(
            base, sequence=base.sequence + 10_000, segment=base.segment + 9
        )
        monkeypatch.setattr(compaction, "newest_base", lambda _folder: later)
        await held.delete(list(held.objects))
        before = log_files(store)
        none_is_due = AtlasSettings(grace_s=0, bytes_per_s=0, base_log_bytes=2**40)
        await atlas(store, ["compact"], none_is_due, later_s=OLD_S)
        assert set(log_files(store)) >= set(before)

    asyncio.run(work())
    assert stopped_and_checked(store, writer).clean


def test_space_comes_back_from_files_that_front_ends_hold_open(
    store: Store, writer: WriterProcess
) -> None:
    held = Held(store)

    async def work() -> None:
        await held.create()
        await held.put(mixed(0, 40))
        files = [os.open(path, os.O_RDONLY) for path in store.path.glob("shard-000/log-*.seg")]
        await held.delete(list(held.objects))
        await atlas(store)
        gone = [os.fstat(file) for file in files]
        assert sum(found.st_nlink == 0 for found in gone) >= 2
        assert sum(found.st_blocks for found in gone if found.st_nlink == 0) == 0
        for file in files:
            os.close(file)

    asyncio.run(work())
    assert stopped_and_checked(store, writer).clean


def test_view_that_lost_its_last_commits_comes_back_from_the_base(
    store: Store, writer: WriterProcess
) -> None:
    """A base is durable, a view's commit may not be; the log that the view was at may be gone."""
    held = Held(store)
    asyncio.run(held.create())
    assert writer.stop() == 0
    old = store.view(DATA).read_bytes()
    second = WriterProcess(store)

    async def work() -> None:
        await held.put({b"k%04d" % n: small(n) for n in range(100)})
        await held.delete([b"k%04d" % n for n in range(90)])
        await atlas(store)
        await atlas(store)

    asyncio.run(work())
    assert second.stop() == 0
    assert log_files(store)[0] != "log-00000001.seg"
    store.view(DATA).write_bytes(old)
    report = check(store.path)
    assert report.clean
    assert "behind its base" in report.findings[0].what
    third = WriterProcess(store)
    asyncio.run(held.verify())
    assert stopped_and_checked(store, third).findings == []


def test_within_the_grace_readers_keep_what_they_hold(store: Store, writer: WriterProcess) -> None:
    held = Held(store)
    settings = AtlasSettings(grace_s=3600, bytes_per_s=0, base_log_bytes=0)

    async def work() -> None:
        await held.create()
        await held.put(mixed(0, 60))
        assert held.bucket is not None
        client, reader = EmbeddedClient(store), LocalReader(store.path)
        before = dict(held.objects)
        found = {key: await client.lookup(held.bucket, key) for key in before}
        await held.delete(list(before))
        await atlas(store, settings=settings)
        for key, version in found.items():
            assert version is not None
            assert await read_version(version, reader) == before[key]
        await atlas(store, settings=settings, later_s=3700)
        assert disk_bytes(store) < 3 * 64 * 1024
        reader.close()
        await client.close()

    asyncio.run(work())
    assert stopped_and_checked(store, writer).clean


def test_what_a_download_holds_open_outlasts_any_grace(store: Store, writer: WriterProcess) -> None:
    held = Held(store)

    async def work() -> None:
        await held.create()
        await held.put({b"a": large(1), b"b": large(2), b"c": large(3)})
        assert held.bucket is not None
        client, reader = EmbeddedClient(store), LocalReader(store.path)
        version = await client.lookup(held.bucket, b"b")
        assert version is not None
        (extent,) = version.body.extents
        download = reader.file_of(extent)
        assert download is not None
        expected = held.objects[b"b"]
        await held.delete(list(held.objects))
        await atlas(store, ["gc"], AT_ONCE)
        assert len(expected) <= disk_bytes(store) < 2 * len(expected)
        for at in range(0, len(expected), SEND_WINDOW_BYTES_MAX):
            window = expected[at : at + SEND_WINDOW_BYTES_MAX]
            assert await read_bytes(download, at, len(window)) == window
        download.close()
        await atlas(store, ["gc"], AT_ONCE)
        assert disk_bytes(store) < len(expected)
        late = reader.file_of(extent)
        assert late is not None
        with pytest.raises(CorruptDataError):
            await read_bytes(late, 0, 1)
        late.close()
        reader.close()
        await client.close()

    asyncio.run(work())
    assert stopped_and_checked(store, writer).findings == []


def test_overwrites_during_the_moves_win(
    store: Store, writer: WriterProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between a body's read and its move the key is overwritten, deleted or left alone."""
    held = Held(store)
    rng = random.Random(5)
    ask = Work.ask

    async def disturbed(self: Work, shard: object, mutations: object) -> object:
        keys = [one.key for one in mutations if hasattr(one, "key")]
        for key in keys:
            if key in held.objects and rng.random() < 0.6:
                if rng.random() < 0.5:
                    await held.delete([key])
                else:
                    await held.put({key: b"new" * 500})
        return await ask(self, shard, mutations)

    async def work() -> None:
        await held.create()
        await held.put({b"k%04d" % n: small(n) for n in range(200)})
        await held.delete([key for n, key in enumerate(sorted(held.objects)) if n % 4])
        monkeypatch.setattr(Work, "ask", disturbed)
        state = await atlas(store)
        assert 0 < state.counters["bodies_moved"] < 50
        await held.verify()
        await atlas(store)
        await held.verify()

    asyncio.run(work())
    assert stopped_and_checked(store, writer).clean


def test_only_orphans_of_old_segments_are_removed(store: Store, writer: WriterProcess) -> None:
    held = Held(store)

    async def orphan(data: bytes) -> Path:
        chunks = LocalChunks(store.path, now_ms)
        extent = await chunks.write(data)
        await chunks.close()
        return segment_path(store.path, extent.segment)

    async def work() -> None:
        await held.create()
        await held.put({b"k": large(1)})
        whole = await orphan(large(2))
        chunks = LocalChunks(store.path, now_ms)
        client = EmbeddedClient(store)
        assert held.bucket is not None
        # Of three chunks in one segment only the second is named.
        extents = [await chunks.write(large(n)) for n in (3, 4, 5)]
        await chunks.close()
        put = PutVersion(
            bucket=held.bucket.id, key=b"middle", owner=OWNER, size=MIB, etag="e",
            extents=(extents[1],),
        )  # fmt: skip
        await client.mutate(held.bucket, put)
        await client.close()
        held.objects[b"middle"] = large(4)
        partly = segment_path(store.path, extents[0].segment)
        await atlas(store, ["orphans"])
        assert whole.exists()
        assert partly.stat().st_blocks * 512 > 3 * MIB
        state = await atlas(store, ["orphans"], later_s=OLD_S)
        assert not whole.exists()
        assert partly.stat().st_blocks * 512 <= MIB + 4 * 4096
        assert state.counters["segments_removed"] == 1
        await held.verify()

    asyncio.run(work())
    report = stopped_and_checked(store, writer)
    assert report.findings == []


def test_segment_that_a_crash_left_empty_is_removed(store: Store, writer: WriterProcess) -> None:
    number = chunk_segment(now_ms() - OLD_S * 1000, 1)
    path = segment_path(store.path, number)
    path.write_bytes(encode_header(number))
    asyncio.run(atlas(store, ["orphans"]))
    assert not path.exists()
    assert writer.stop() == 0


def test_stale_uploads_are_aborted_and_their_parts_freed(
    store: Store, writer: WriterProcess
) -> None:
    held = Held(store)

    async def work() -> None:
        await held.create()
        client, chunks = EmbeddedClient(store), LocalChunks(store.path, now_ms)
        bucket = held.bucket
        assert bucket is not None
        upload = await client.mutate(bucket, CreateUpload(bucket=bucket.id, key=b"k", owner=OWNER))
        assert isinstance(upload, Upload)
        extent = await chunks.write(large(1))
        await chunks.close()
        await client.mutate(
            bucket,
            PutPart(
                bucket=bucket.id, key=b"k", upload_id=upload.upload_id, number=1, size=MIB,
                etag="e", extents=(extent,),
            ),
        )  # fmt: skip
        await atlas(store, ["uploads"], later_s=6 * 86_400)
        assert (await client.state(bucket)).usage.uploads == 1
        never = AtlasSettings(grace_s=0, bytes_per_s=0, upload_days=0)
        await atlas(store, ["uploads"], never, later_s=60 * 86_400)
        assert (await client.state(bucket)).usage.uploads == 1
        await atlas(store, ["uploads", "gc"], later_s=8 * 86_400)
        assert (await client.state(bucket)).usage.uploads == 0
        assert disk_bytes(store) < MIB // 2
        await client.close()

    asyncio.run(work())
    assert stopped_and_checked(store, writer).clean


def test_rows_of_deleted_buckets_go_after_the_grace(store: Store, writer: WriterProcess) -> None:
    held = Held(store)
    settings = AtlasSettings(grace_s=60, bytes_per_s=0)

    def rows() -> int:
        reader = open_reader(store.view(DATA))
        ((count,),) = reader.execute("SELECT count(*) FROM buckets").fetchall()
        reader.close()
        return int(count)

    async def work() -> None:
        await held.create()
        client = EmbeddedClient(store)
        assert held.bucket is not None
        await client.mutate(held.bucket, CloseBucket(bucket=held.bucket.id))
        await atlas(store, ["uploads"], settings)
        await atlas(store, ["uploads"], settings, later_s=120)
        assert rows() == 1  # the directory still names it
        await client.mutate_directory(RemoveBucket(id=held.bucket.id))
        await atlas(store, ["uploads"], settings)
        assert rows() == 1
        await atlas(store, ["uploads"], settings, later_s=120)
        assert rows() == 0
        await client.close()

    asyncio.run(work())
    assert stopped_and_checked(store, writer).clean


def flip(path: Path, at: int) -> None:
    with open(path, "r+b") as file:
        file.seek(at)
        byte = file.read(1)[0]
        file.seek(at)
        file.write(bytes([byte ^ 1]))


@pytest.mark.parametrize("where", ["record", "chunk", "table", "base"])
def test_scrub_names_what_is_damaged(store: Store, writer: WriterProcess, where: str) -> None:
    held = Held(store)

    async def work() -> None:
        await held.create()
        await held.put(mixed(0, 21))
        await atlas(store, ["compact"])
        assert (await atlas(store, ["scrub"])).damage == []
        assert held.bucket is not None
        client = EmbeddedClient(store)
        key = b"k0007" if where == "record" else b"k0010"
        found = await client.lookup(held.bucket, key)
        assert found is not None
        (extent,) = found.body.extents
        path, at = segment_path(store.path, extent.segment), extent.offset + 100
        if where == "table":
            at = extent.offset + extent.length + 5
        elif where == "base":
            base = newest_base(store.shard(DATA))
            assert base is not None
            path, at = base_path(store.shard(DATA), base), base.size // 2
        flip(path, at)
        state = await atlas(store, ["scrub"])
        (damage,) = {one.where: one for one in state.damage if "log" not in one.where}.values()
        if where == "base":
            assert "base-" in damage.where
        else:
            assert repr(key) in damage.where
            assert f"segment {extent.segment:#x}" in damage.what
        flip(path, at)
        assert (await atlas(store, ["scrub"])).damage == []
        await client.close()

    asyncio.run(work())


def test_scrub_goes_on_where_it_was(store: Store, writer: WriterProcess) -> None:
    held = Held(store)
    slices = AtlasSettings(grace_s=0, bytes_per_s=8 * MIB, scrub_slice_s=0.1)

    async def work() -> None:
        await held.create()
        await held.put({b"k%04d" % n: large(n) for n in range(4)})
        seen = []
        while not (state := await atlas(store, None, slices)).scrubs_completed:
            seen.append((state.scrub.shard, state.scrub.stage, state.scrub.after))
        assert len(seen) > 3
        assert len(set(seen)) == len(seen)
        assert state.counters["bytes_scrubbed"] < 5 * MIB

    asyncio.run(work())


def test_usage_equals_a_count_after_a_random_load(store: Store, writer: WriterProcess) -> None:
    held = Held(store)
    rng = random.Random(11)

    async def work() -> None:
        await held.create()
        for _ in range(60):
            keys = rng.sample(range(40), 3)
            await held.put({b"k%d" % n: bytes(rng.choice((0, 10, 600, 200_000))) for n in keys})
            if held.objects and rng.random() < 0.4:
                await held.delete([rng.choice(sorted(held.objects))])
        await held.verify()
        assert held.bucket is not None
        reader = open_reader(store.view(DATA))
        kept, counted = usage_and_count(reader, held.bucket.id)
        reader.close()
        assert kept == counted
        assert kept.objects == len(held.objects)
        assert (await atlas(store)).damage == []

    asyncio.run(work())
    assert stopped_and_checked(store, writer).clean


def test_wrong_usage_is_damage(store: Store, writer: WriterProcess) -> None:
    held = Held(store)

    async def work() -> None:
        await held.create()
        await held.put({b"k": b"x"})

    asyncio.run(work())
    assert writer.stop() == 0
    view = open_view(store.view(DATA), DATA_SCHEMA)
    view.execute("UPDATE buckets SET objects = 2")
    view.close()
    again = WriterProcess(store)
    state = asyncio.run(atlas(store, ["scrub"]))
    assert ["usage" in one.what for one in state.damage] == [True]
    assert again.stop() == 0


def test_two_never_work_on_one_store(store: Store, writer: WriterProcess) -> None:
    with store.lock("atlas"), pytest.raises(StoreInUseError):
        asyncio.run(atlas(store))


def test_delete_during_collection_is_left_for_the_next(store: Store, writer: WriterProcess) -> None:
    """Garbage freed after the horizon of a pass is not forgotten with what lies around it."""
    held = Held(store)

    async def work() -> None:
        await held.create()
        await held.put({b"a": large(1), b"b": large(2), b"c": large(3)})
        await held.delete([b"a", b"c"])
        client = EmbeddedClient(store)
        assert held.bucket is not None
        minute = AtlasSettings(grace_s=60, bytes_per_s=0)
        await client.mutate(held.bucket, DeleteKey(bucket=held.bucket.id, key=b"b", owner=OWNER))
        del held.objects[b"b"]
        await atlas(store, ["gc"], minute, later_s=30)
        assert disk_bytes(store) > 3 * MIB
        await atlas(store, ["gc"], minute, later_s=90)
        assert disk_bytes(store) < MIB
        await client.close()

    asyncio.run(work())
    assert stopped_and_checked(store, writer).findings == []
    assert AT_ONCE.grace_s == 0


def test_what_one_shard_names_is_no_orphan_for_the_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    small_segments(monkeypatch)
    store = open_store(tmp_path / "two", data_shards=2)
    process = WriterProcess(store)
    one, other = Held(store), Held(store)

    async def work() -> None:
        await one.create("one")
        await other.create("other")
        assert one.bucket is not None
        assert other.bucket is not None
        assert one.bucket.shard != other.bucket.shard
        for held in (one, other):
            await held.put(mixed(0, 60))
            await held.delete([key for n, key in enumerate(sorted(held.objects)) if n % 4])
        for _ in range(2):
            await atlas(store, later_s=OLD_S)
            await one.verify()
            await other.verify()

    asyncio.run(work())
    assert stopped_and_checked(store, process).findings == []

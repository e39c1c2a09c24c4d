"""Atlas' mutations: bodies are moved by compare-and-swap, garbage and closed buckets forgotten."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from objectstore_app.core.ids import ShardId
from objectstore_app.core.limits import CHUNK_NAMED_S_MAX, CHUNK_SEGMENT_S_MAX
from objectstore_app.media.api import Extent
from objectstore_app.media.chunks import LocalChunks
from objectstore_app.media.memory import MemoryLog, MemoryStore
from objectstore_app.media.segments import chunk_segment
from objectstore_app.media.store import open_store
from objectstore_app.metadata_service.api import (
    CloseBucket,
    CreateUpload,
    DeleteKey,
    ForgetBucket,
    ForgetGarbage,
    Moved,
    MovePartBody,
    MoveVersionBody,
    OpenBucket,
    PutPart,
    PutVersion,
    Upload,
)
from objectstore_app.metadata_service.errors import ChunksExpiredError
from objectstore_app.metadata_service.inventory import extents_of, garbage_of, usage_differences
from objectstore_app.metadata_service.reads import lookup, parts_of
from objectstore_app.metadata_service.shard import Shard

from .support import BUCKET, OWNER, Clock, do, dump, memory_shard, opened_bucket, put

BODY = b"b" * 2000


def body_at(store: MemoryStore, extent: Extent) -> bytes:
    return bytes(store.segments[extent.segment][extent.offset : extent.offset + extent.length])


def only_extent(shard: Shard) -> Extent:
    ((_, extent),) = extents_of(shard.view)
    return extent


def assert_rebuilt_alike(store: MemoryStore, shard: Shard) -> None:
    """A fresh view of the log has the same rows, and every usage is their sum."""
    assert dump(memory_shard(store)) == dump(shard)
    assert list(usage_differences(shard.view)) == []


def move(shard: Shard, old: Extent, data: bytes = BODY) -> Moved:
    found = lookup(shard.view, BUCKET, b"k", "")
    assert found is not None
    moved = do(
        shard,
        MoveVersionBody(bucket=BUCKET, key=b"k", order=found.order, old=old, data=data),
    )
    assert isinstance(moved, Moved)
    return moved


def test_moved_body_lies_in_the_new_record_and_the_old_one_is_garbage() -> None:
    store = MemoryStore()
    shard = opened_bucket(store)
    do(shard, put(b"k", BODY))
    old = only_extent(shard)
    assert move(shard, old).moved
    new = only_extent(shard)
    assert (new.offset, new.crc, new.length) != (old.offset, old.crc, old.length)
    assert new.offset > old.offset
    assert body_at(store, new) == BODY
    assert [(one.segment, one.offset) for one in garbage_of(shard.view)] == [
        (old.segment, old.offset)
    ]
    assert_rebuilt_alike(store, shard)


@pytest.mark.parametrize("meanwhile", ["overwritten", "deleted", "moved before"])
def test_move_of_a_body_that_the_row_no_longer_names_changes_nothing(meanwhile: str) -> None:
    store = MemoryStore()
    shard = opened_bucket(store)
    do(shard, put(b"k", BODY))
    found = lookup(shard.view, BUCKET, b"k", "")
    assert found is not None
    late = MoveVersionBody(
        bucket=BUCKET, key=b"k", order=found.order, old=only_extent(shard), data=BODY
    )
    if meanwhile == "overwritten":
        do(shard, put(b"k", b"n" * 2000))
    elif meanwhile == "deleted":
        do(shard, DeleteKey(bucket=BUCKET, key=b"k", owner=OWNER))
    else:
        do(shard, late)
    before = dump(shard)
    assert do(shard, late) == Moved(moved=False)
    assert dump(shard) == before


def test_move_with_bytes_of_another_length_is_refused() -> None:
    shard = opened_bucket()
    do(shard, put(b"k", BODY))
    assert not move(shard, only_extent(shard), BODY + b"x").moved


def test_part_is_moved_and_completes_with_its_new_place() -> None:
    store = MemoryStore()
    shard = opened_bucket(store)
    upload = do(shard, CreateUpload(bucket=BUCKET, key=b"k", owner=OWNER))
    assert isinstance(upload, Upload)
    part = PutPart(
        bucket=BUCKET, key=b"k", upload_id=upload.upload_id, number=1, size=2000, etag="e",
        data=BODY,
    )  # fmt: skip
    do(shard, part)
    request = MovePartBody(
        bucket=BUCKET, upload_id=upload.upload_id, number=1, old=only_extent(shard), data=BODY
    )
    assert do(shard, request) == Moved()
    assert do(shard, request) == Moved(moved=False)
    (held,) = parts_of(shard.view, BUCKET, upload.upload_id, 0, 10)
    assert body_at(store, held.body.extents[0]) == BODY
    assert_rebuilt_alike(store, shard)


def test_garbage_is_forgotten_within_its_range_and_up_to_its_time() -> None:
    store = MemoryStore()
    shard = opened_bucket(store)
    for _ in range(4):
        do(shard, put(b"k", BODY))
    rows = shard.view.execute("SELECT segment, offset, freed_ms FROM garbage").fetchall()
    (segment, first, _), (_, second, freed), (_, third, _) = rows
    do(shard, ForgetGarbage(segment=segment, start=first + 1, end=third + 1, freed_ms=freed))
    assert [one.offset for one in garbage_of(shard.view)] == [first, third]
    assert second not in (first, third)
    assert_rebuilt_alike(store, shard)


def test_closed_bucket_is_forgotten_and_an_open_one_is_kept() -> None:
    store = MemoryStore()
    shard = opened_bucket(store)
    before = dump(shard)
    do(shard, ForgetBucket(bucket=BUCKET))
    assert dump(shard) == before
    do(shard, CloseBucket(bucket=BUCKET))
    do(shard, ForgetBucket(bucket=BUCKET))
    assert dump(shard)["buckets"] == []
    assert_rebuilt_alike(store, shard)


def test_chunks_of_a_segment_that_may_be_taken_for_orphans_are_not_named() -> None:
    store = MemoryStore()
    clock = Clock()
    made_ms = clock.now
    shard = Shard(ShardId(0), MemoryLog(store, ShardId(0)), None, data_shards=1, now_ms=clock)
    do(shard, OpenBucket(bucket=BUCKET))
    upload = do(shard, CreateUpload(bucket=BUCKET, key=b"k", owner=OWNER))
    assert isinstance(upload, Upload)
    chunk = Extent(chunk_segment(made_ms, 1), 32, 200_000, 0, blocks=True)
    late = PutVersion(
        bucket=BUCKET, key=b"k", owner=OWNER, size=200_000, etag="e", extents=(chunk,)
    )
    part = PutPart(
        bucket=BUCKET, key=b"k", upload_id=upload.upload_id, number=1, size=200_000, etag="e",
        extents=(chunk,),
    )  # fmt: skip
    clock.now = made_ms + CHUNK_NAMED_S_MAX * 1000 + 10
    for mutation in (late, part):
        with pytest.raises(ChunksExpiredError):
            do(shard, mutation)
    clock.now = made_ms + CHUNK_NAMED_S_MAX * 1000 - 10
    for mutation in (late, part):
        do(shard, mutation)


def test_a_front_end_begins_a_new_segment_long_before_its_chunks_are_refused(
    tmp_path: Path,
) -> None:
    store = open_store(tmp_path / "data")
    clock = Clock()

    async def write() -> list[int]:
        chunks = LocalChunks(store.path, clock)
        segments = [(await chunks.write(b"c" * 10)).segment]
        clock.now += CHUNK_SEGMENT_S_MAX * 1000 - 10
        segments.append((await chunks.write(b"c" * 10)).segment)
        clock.now += 20
        segments.append((await chunks.write(b"c" * 10)).segment)
        await chunks.close()
        return segments

    first, same, next_one = asyncio.run(write())
    assert first == same
    assert next_one != first

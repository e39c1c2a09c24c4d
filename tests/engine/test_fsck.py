"""`fsck` finds what is damaged, names it, and rebuilds views."""

from __future__ import annotations

import asyncio
from pathlib import Path

import apsw
import pytest

from objectstore_app.atlas.fsck import Report, check
from objectstore_app.core.ids import ShardId
from objectstore_app.media.chunks import LocalChunks
from objectstore_app.media.segments import segment_path
from objectstore_app.media.store import Store, StoreFolderError, StoreInUseError, open_store
from objectstore_app.metadata_service.api import OpenBucket, PutVersion
from objectstore_app.metadata_service.writer import now_ms, open_shard
from tests.engine.support import BUCKET, OWNER, do, put

DATA = ShardId(0)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """A store with a small object, a larger one, one in a chunk, and garbage."""
    store = open_store(tmp_path / "data")
    shard = open_shard(store, DATA)
    do(shard, OpenBucket(bucket=BUCKET))
    do(shard, put(b"small", b"x"))
    for _ in range(2):
        do(shard, put(b"middle", b"m" * 2000))

    async def write() -> None:
        chunks = LocalChunks(store.path, now_ms)
        extent = await chunks.write(b"c" * 200_000)
        await chunks.close()
        large = PutVersion(
            bucket=BUCKET, key=b"large", owner=OWNER, size=200_000, etag="e", extents=(extent,)
        )
        do(shard, large)

    asyncio.run(write())
    shard.close()
    open_shard(store, store.shards[0]).close()
    return store


def errors(report: Report) -> list[str]:
    return [f"{one.where}: {one.what}" for one in report.findings if one.severity == "error"]


def change(store: Store, sql: str) -> None:
    connection = apsw.Connection(str(store.view(DATA)))
    connection.execute(sql)
    connection.close()


def flip(path: Path, at: int) -> None:
    content = bytearray(path.read_bytes())
    content[at] ^= 1
    path.write_bytes(content)


def test_whole_store_is_clean_and_counted(store: Store) -> None:
    report = check(store.path)
    assert report.findings == []
    assert (report.records, report.extents, report.bytes_read) == (5, 2, 202_000)


@pytest.mark.parametrize(
    ("sql", "found"),
    [
        ("DELETE FROM versions WHERE key = CAST('small' AS BLOB)", "is missing"),
        ("UPDATE versions SET size = 9 WHERE key = CAST('small' AS BLOB)", "differs"),
        ("UPDATE buckets SET objects = 9", "buckets"),
        ("DELETE FROM garbage", "garbage"),
        ("INSERT INTO nulls VALUES (7, CAST('k' AS BLOB), 1)", "not in the log"),
    ],
)
def test_view_that_differs_from_the_log_is_an_error_and_rebuild_mends_it(
    store: Store, sql: str, found: str
) -> None:
    change(store, sql)
    report = check(store.path)
    assert not report.clean
    assert found in errors(report)[0]
    assert check(store.path, rebuild=True).rebuilt == ["directory", "shard-000"]
    assert check(store.path).clean


def test_damaged_body_in_the_log_is_an_error(store: Store) -> None:
    path = store.shard(DATA) / "log-00000001.seg"
    flip(path, path.read_bytes().index(b"mmmm") + 50)
    assert "segment 0x1 offset" in errors(check(store.path))[0]


def test_damaged_chunk_is_named_with_its_row(store: Store) -> None:
    (path,) = store.chunks.glob("*.seg")
    flip(path, 150_000)
    (error,) = errors(check(store.path))
    assert "large" in error
    assert "does not match its checksum" in error


def test_missing_chunk_segment_is_an_error(store: Store) -> None:
    (path,) = store.chunks.glob("*.seg")
    path.unlink()
    assert "missing" in errors(check(store.path))[0]


def test_damaged_view_is_an_error_and_rebuilt(store: Store) -> None:
    store.view(DATA).write_bytes(b"not a database" * 1000)
    assert "--rebuild" in errors(check(store.path))[0]
    assert check(store.path, rebuild=True).clean
    assert check(store.path).clean


def test_chunk_that_nothing_names_is_a_note(store: Store) -> None:
    async def orphan() -> int:
        chunks = LocalChunks(store.path, now_ms)
        extent = await chunks.write(b"o" * 1000)
        await chunks.close()
        return extent.segment

    segment = asyncio.run(orphan())
    report = check(store.path)
    assert report.clean
    assert [one.where for one in report.findings] == [segment_path(store.path, segment).name]


def test_torn_tail_is_a_note_and_is_left_to_the_next_start(store: Store) -> None:
    path = store.shard(DATA) / "log-00000001.seg"
    size = path.stat().st_size
    with open(path, "ab") as file:
        file.write(b"OREC torn")
    report = check(store.path)
    assert report.clean
    assert "torn tail" in report.findings[0].what
    open_shard(store, DATA).close()
    assert path.stat().st_size == size


def test_store_in_use_and_folder_without_one_are_refused(store: Store, tmp_path: Path) -> None:
    with store.lock_shard(DATA), pytest.raises(StoreInUseError):
        check(store.path)
    with pytest.raises(StoreFolderError):
        check(tmp_path / "nothing")

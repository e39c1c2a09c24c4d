"""A flipped bit anywhere in a store is an error or is put right; it is never served.

Seeded samples over each kind of file: `OBJECTSTORE_TEST_SEED` repeats one, `OBJECTSTORE_BIT_FLIPS`
sets how many bits are flipped in each.
"""

from __future__ import annotations

import asyncio
import os
import random
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import apsw
import msgspec
import pytest

from objectstore_app.atlas.fsck import check
from objectstore_app.core.errors import ObjectStoreError
from objectstore_app.core.ids import ShardId
from objectstore_app.media.chunks import LocalChunks, LocalReader
from objectstore_app.media.errors import CorruptDataError
from objectstore_app.media.memory import MemoryStore
from objectstore_app.media.store import Store, open_store
from objectstore_app.metadata_service.api import OpenBucket, Written
from objectstore_app.metadata_service.inventory import TABLES, rows_of
from objectstore_app.metadata_service.reads import lookup
from objectstore_app.metadata_service.view import DATA, is_damage, open_reader, open_view
from objectstore_app.metadata_service.writer import now_ms, open_shard
from tests.engine.support import BUCKET, do, memory_shard, put

FLIPS = int(os.environ.get("OBJECTSTORE_BIT_FLIPS", "150"))
SEED = int(os.environ.get("OBJECTSTORE_TEST_SEED", str(time.time_ns() % 1_000_000)))

SHARD = ShardId(0)
Rows = dict[str, list[object]]


def rows(view: apsw.Connection) -> Rows:
    return {table: list(rows_of(view, "data", table)) for table in TABLES["data"]}


@pytest.fixture
def view(tmp_path: Path) -> Path:
    """A view of some dozen pages, with its last commits in the write-ahead log."""
    path = tmp_path / "view.sqlite"
    shard = memory_shard(MemoryStore(), view=path)
    do(shard, OpenBucket(bucket=BUCKET))
    shard.commit([put(b"key %03d" % n, b"x" * (n * 7 % 400)) for n in range(300)])
    shard.close()
    return path


def flips(path: Path) -> Iterator[str]:
    """Flip one bit after another, each put back before the next; says which."""
    rng = random.Random(SEED)
    content = path.read_bytes()
    for _ in range(FLIPS):
        at, bit = rng.randrange(len(content)), rng.randrange(8)
        with path.open("r+b") as file:
            file.seek(at)
            file.write(bytes([content[at] ^ 1 << bit]))
        yield f"seed {SEED}: bit {bit} of byte {at} of {path.name}"
        path.write_bytes(content)


def read(open_it: Callable[[], apsw.Connection]) -> Rows | None:
    """All rows, or None where damage was noticed; what else goes wrong rises."""
    try:
        view = open_it()
    except ObjectStoreError:
        return None
    try:
        return rows(view)
    except apsw.Error as error:
        if not is_damage(error):
            raise
        return None
    finally:
        view.close()


def test_flipped_bit_in_a_database_page_is_never_read(view: Path) -> None:
    wanted = read(lambda: open_reader(view))
    assert wanted
    found = []
    for flip in flips(view):
        found.append(read(lambda: open_reader(view)))
        assert found[-1] in (wanted, None), flip
    assert found.count(None) > FLIPS * 3 // 4


def test_flipped_bit_in_a_database_page_is_refused_by_the_writer_or_harmless(
    view: Path, tmp_path: Path
) -> None:
    wanted = read(lambda: open_reader(view))
    copy = tmp_path / "copy.sqlite"
    for flip in flips(view):
        shutil.copy(view, copy)
        assert read(lambda: open_view(copy, DATA)) in (wanted, None), flip


def test_flipped_bit_in_the_write_ahead_log_at_rest_is_cut_off_or_harmless(
    view: Path, tmp_path: Path
) -> None:
    """SQLite verifies it as it opens it. What it drops the shard's log brings back."""
    last = open_view(view, DATA)
    before = rows(last)
    last.execute("INSERT INTO nulls VALUES (1, CAST('late' AS BLOB), -9)")
    after = rows(last)
    log = Path(f"{view}-wal")
    content, database = log.read_bytes(), view.read_bytes()
    last.close()
    copy = tmp_path / "copy.sqlite"
    rng = random.Random(SEED)
    found = []
    for _ in range(FLIPS):
        at = rng.randrange(len(content))
        flipped = bytearray(content)
        flipped[at] ^= 1 << rng.randrange(8)
        copy.write_bytes(database)
        Path(f"{copy}-wal").write_bytes(flipped)
        Path(f"{copy}-shm").unlink(missing_ok=True)
        found.append(read(lambda: open_view(copy, DATA)))
        assert found[-1] in (before, after, None), f"seed {SEED}: byte {at}"
    assert found.count(before) > FLIPS // 2


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """Objects in rows, in the log and in chunks."""
    store = open_store(tmp_path / "data")
    shard = open_shard(store, SHARD)
    do(shard, OpenBucket(bucket=BUCKET))
    for number in range(30):
        do(shard, put(b"key %02d" % number, b"%02d" % number * (60 * number)))

    async def write_chunks() -> None:
        chunks = LocalChunks(store.path, now_ms)
        for number in range(30, 33):
            data = b"%02d" % number * 90_000
            extent = await chunks.write(data)
            large = put(b"key %02d" % number)
            do(shard, msgspec.structs.replace(large, size=len(data), extents=(extent,)))
        await chunks.close()

    asyncio.run(write_chunks())
    shard.close()
    open_shard(store, store.shards[0]).close()
    return store


def objects(store: Store) -> dict[bytes, bytes | None] | None:
    """What a start of the store serves: None for what it refuses."""
    try:
        shard = open_shard(store, SHARD)
    except ObjectStoreError:
        return None
    found: dict[bytes, bytes | None] = {}

    async def read_all() -> None:
        reader = LocalReader(store.path)
        for (key,) in shard.view.execute("SELECT key FROM versions").fetchall():
            version = lookup(shard.view, BUCKET, key, "")
            assert version is not None
            try:
                pieces = [await reader.read(one, 0, one.length) for one in version.body.extents]
                found[key] = version.body.inline + b"".join(map(bytes, pieces))
            except CorruptDataError:
                found[key] = None
        reader.close()

    asyncio.run(read_all())
    shard.close()
    return found


@pytest.mark.parametrize("kind", ["log", "log without a view", "chunks"])
def test_flipped_bit_in_a_segment_is_never_served_and_told_by_fsck(store: Store, kind: str) -> None:
    wanted = objects(store)
    assert wanted
    assert len(wanted) == 33
    if kind == "chunks":
        (path,) = store.chunks.glob("*.seg")
    else:
        path = store.shard(SHARD) / "log-00000001.seg"
    kept = {each: each.read_bytes() for each in store.shard(SHARD).glob("*") if each != path}
    for number, flip in enumerate(flips(path)):
        if "without" in kind:
            for each in store.shard(SHARD).glob("view.sqlite*"):
                each.unlink()
        if number % 10 == 0:
            report = check(store.path)
            # Behind its last append a damaged log looks like one whose last append was torn.
            assert not report.clean or any("torn" in one.what for one in report.findings), flip
        found = objects(store)
        if found is not None:
            wrong = {key for key, data in found.items() if data not in (wanted[key], None)}
            assert not wrong, flip
            if len(found) < len(wanted):
                assert "without" in kind, flip
                assert set(wanted) - set(found) == {b"key 32"}, flip
        for each in store.shard(SHARD).glob("*"):
            if each != path:
                each.unlink()
        for each, content in kept.items():
            each.write_bytes(content)


def test_writer_refuses_what_a_damaged_page_is_needed_for_and_goes_on(view: Path) -> None:
    memory = MemoryStore()
    shard = memory_shard(memory, view=view.with_name("other.sqlite"))
    do(shard, OpenBucket(bucket=BUCKET))
    shard.commit([put(b"key %04d" % n, b"x" * 300) for n in range(400)])
    shard.close()
    path = view.with_name("other.sqlite")
    content = bytearray(path.read_bytes())
    page = content.index(b"key 0200") // 4096
    content[page * 4096 + 2000] ^= 1
    path.write_bytes(content)
    shard = memory_shard(memory, view=path)
    first, damaged, last = shard.commit([put(b"key 0001"), put(b"key 0200"), put(b"key 0399")])
    assert isinstance(first, Written)
    assert isinstance(damaged, CorruptDataError)
    assert isinstance(last, Written)
    do(shard, put(b"key 0001", b"again"))
    shard.close()


def test_view_of_a_release_without_checksums_gets_them(tmp_path: Path) -> None:
    path = tmp_path / "view.sqlite"
    old = apsw.Connection(str(path), vfs="unix")
    old.execute("PRAGMA journal_mode=WAL").fetchall()
    old.execute(DATA.sql)
    old.execute(f"PRAGMA user_version={DATA.version}")
    old.execute("INSERT INTO nulls VALUES (1, CAST('k' AS BLOB), -5)")
    old.close()
    assert path.read_bytes()[20] == 0
    view = open_view(path, DATA)
    view.close()
    assert path.read_bytes()[20] == 8
    reader = open_reader(path)
    assert reader.execute("SELECT ord FROM nulls").fetchall() == [(-5,)]
    reader.close()
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    assert read(lambda: open_reader(path)) is None

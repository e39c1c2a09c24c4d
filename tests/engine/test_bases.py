"""Bases: what they hold, when they count, and how a view comes back from one."""

from __future__ import annotations

from pathlib import Path

import pytest

from objectstore_app.core.ids import ShardId
from objectstore_app.core.limits import COMMIT_BYTES_MAX, MIB
from objectstore_app.media.errors import CorruptDataError, MediaFailedError
from objectstore_app.media.local import LocalLog, log_segments
from objectstore_app.media.segments import segment_path
from objectstore_app.media.store import Store, open_store
from objectstore_app.metadata_service.api import OpenBucket
from objectstore_app.metadata_service.bases import (
    Base,
    base_path,
    make_base,
    newest_base,
    place_base,
    restore_view,
    verify,
)
from objectstore_app.metadata_service.shard import Shard
from objectstore_app.metadata_service.view import checkpoint, open_reader, read_position
from objectstore_app.metadata_service.writer import now_ms, open_shard

from .support import BUCKET, do, dump, put

DATA = ShardId(0)
NOW_MS = 1_800_000_000_000


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return open_store(tmp_path / "data")


@pytest.fixture
def shard(store: Store) -> Shard:
    shard = open_shard(store, DATA)
    do(shard, OpenBucket(bucket=BUCKET))
    for number in range(50):
        do(shard, put(b"k%03d" % number, b"b" * 2000))
    return shard


def base_of(store: Store) -> Base:
    reader = open_reader(store.view(DATA))
    steps = make_base(reader, store.shard(DATA), NOW_MS)
    try:
        while True:
            next(steps)
    except StopIteration as done:
        base = done.value
    reader.close()
    assert isinstance(base, Base)
    return base


def flip(path: Path, at: int) -> None:
    content = bytearray(path.read_bytes())
    content[at] ^= 1
    path.write_bytes(content)


def test_base_is_the_view_and_with_the_log_behind_it_rebuilds_the_view(
    store: Store, shard: Shard
) -> None:
    base = base_of(store)
    assert base.sequence == 51
    do(shard, put(b"later", b"x" * 1000))
    rows = dump(shard)
    shard.close()
    store.view(DATA).unlink()
    again = open_shard(store, DATA)
    assert again.replayed == 1
    assert dump(again) == rows
    again.close()


def test_newer_base_takes_the_place_of_the_older_one(store: Store, shard: Shard) -> None:
    older = base_of(store)
    do(shard, put(b"later"))
    newer = base_of(store)
    folder = store.shard(DATA)
    assert newest_base(folder) == newest_base(folder)
    assert newer.sequence == older.sequence + 1
    assert sorted(path.name for path in folder.glob("base*")) == [
        f"base-{newer.sequence:016x}.json",
        f"base-{newer.sequence:016x}.sqlite",
    ]
    shard.close()


def test_base_cut_short_at_any_step_leaves_the_one_before(store: Store, shard: Shard) -> None:
    folder = store.shard(DATA)
    older = base_of(store)
    do(shard, put(b"later"))
    total = 0
    while True:
        reader = open_reader(store.view(DATA))
        steps = make_base(reader, folder, NOW_MS)
        try:
            for _ in range(total + 1):
                next(steps)
        except StopIteration:
            break
        finally:
            steps.close()
            reader.close()
        total += 1
        found = newest_base(folder)
        assert found is not None
        assert found.sequence == older.sequence
        assert sum(verify(folder, found)) == found.size
    assert total > 1
    found = newest_base(folder)
    assert found is not None
    assert found.sequence == older.sequence + 1
    shard.close()


def test_view_behind_its_base_is_replaced_by_it(store: Store, shard: Shard) -> None:
    """After a power loss the view may lack commits that the base has."""
    shard.close()
    old = store.view(DATA).read_bytes()
    again = open_shard(store, DATA)
    do(again, put(b"later"))
    rows = dump(again)
    base = base_of(store)
    again.close()
    store.view(DATA).write_bytes(old)
    restored = restore_view(store.shard(DATA), store.view(DATA))
    assert restored is not None
    assert restored.sequence == base.sequence
    last = open_shard(store, DATA)
    assert dump(last) == rows
    assert restore_view(store.shard(DATA), store.view(DATA)) is None
    last.close()


def test_view_that_lost_all_before_its_first_checkpoint_is_replaced_by_the_base(
    store: Store, shard: Shard
) -> None:
    """Its tables were in the write-ahead log alone, which is never flushed for their sake."""
    without_tables = store.view(DATA).read_bytes()
    rows, base = dump(shard), base_of(store)
    shard.close()
    store.view(DATA).write_bytes(without_tables)
    with pytest.raises(MediaFailedError, match="no such table"):
        open_reader(store.view(DATA))
    restored = restore_view(store.shard(DATA), store.view(DATA))
    assert restored is not None
    assert restored.sequence == base.sequence
    again = open_shard(store, DATA)
    assert dump(again) == rows
    again.close()


def test_log_before_the_base_may_be_gone(store: Store, shard: Shard) -> None:
    """Once the log has gone on to another segment, the base stands for what was before."""
    folder = store.shard(DATA)
    shard.close()
    log = LocalLog(folder, DATA, segment_bytes_max=COMMIT_BYTES_MAX + 100)
    shard = Shard(DATA, log, store.view(DATA), data_shards=1, now_ms=now_ms)
    do(shard, put(b"second", b"s" * 600))
    base = base_of(store)
    assert base.segment == 2
    rows = dump(shard)
    shard.close()
    segment_path(store.path, 1).unlink()
    store.view(DATA).unlink()
    again = open_shard(store, DATA)
    assert dump(again) == rows
    assert log_segments(folder, DATA) == [2]
    again.close()
    store.view(DATA).unlink()
    base_path(folder, base).unlink()
    with pytest.raises(CorruptDataError, match="sequence"):
        open_shard(store, DATA)


def test_damaged_base_is_found_and_never_placed(store: Store, shard: Shard) -> None:
    base = base_of(store)
    shard.close()
    folder = store.shard(DATA)
    flip(base_path(folder, base), base.size // 2)
    with pytest.raises(CorruptDataError):
        list(verify(folder, base))
    with pytest.raises(CorruptDataError):
        place_base(folder, store.view(DATA))
    open_shard(store, DATA).close()


def test_manifest_that_is_not_whole_does_not_count(store: Store, shard: Shard) -> None:
    base = base_of(store)
    shard.close()
    manifest = base_path(store.shard(DATA), base).with_suffix(".json")
    flip(manifest, manifest.read_bytes().index(b"sequence") + 12)
    assert newest_base(store.shard(DATA)) is None


def test_damaged_page_of_the_view_makes_no_base(store: Store, shard: Shard) -> None:
    shard.close()
    reader = open_reader(store.view(DATA))
    assert read_position(reader)[0] == 51
    reader.close()
    flip(store.view(DATA), store.view(DATA).stat().st_size - 2000)
    with pytest.raises((MediaFailedError, CorruptDataError)):
        base_of(store)
    assert newest_base(store.shard(DATA)) is None


def test_base_of_a_large_view_has_checksums_in_pages_that_lay_in_the_write_ahead_log(
    store: Store, shard: Shard
) -> None:
    """A copy larger than SQLite's cache is written before its end, in any order of pages."""
    for first in range(0, 20_000, 500):
        shard.commit([put(b"%08d" % n * 12, b"i" * 300) for n in range(first, first + 500)])
    checkpoint(shard.view)
    for first in range(0, 20_000, 500):
        shard.commit([put(b"%08d" % n * 12, b"j" * 300) for n in range(first, first + 500, 7)])
    base = base_of(store)
    assert base.size > 10 * MIB
    rows = dump(shard)
    shard.close()
    store.view(DATA).unlink()
    again = open_shard(store, DATA)
    assert dump(again) == rows
    again.close()

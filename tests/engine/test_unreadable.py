"""A disk that cannot read (EIO): told with its place wherever it is met, taken for nothing else."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from objectstore_app.atlas.fsck import LOST, check
from objectstore_app.core.ids import ShardId
from objectstore_app.media.errors import MediaFailedError
from objectstore_app.media.local_segments import LocalSegments
from objectstore_app.media.segments import segment_path
from objectstore_app.media.store import Store
from objectstore_app.metadata_service.api import OpenBucket
from objectstore_app.metadata_service.client import EmbeddedClient
from objectstore_app.metadata_service.log_survey import Damage, survey
from objectstore_app.metadata_service.record import Record
from objectstore_app.metadata_service.writer import open_shard

from .atlas_store import Held, atlas, large, small, stopped_and_checked
from .processes import WriterProcess
from .support import BUCKET, do, dump, put
from .unreadable import spoil

DATA = ShardId(0)
KEYS = 12


@pytest.fixture
def filled(store: Store) -> Store:
    """Bodies of a page each in the log; no view."""
    shard = open_shard(store, DATA)
    do(shard, OpenBucket(bucket=BUCKET))
    for number in range(KEYS):
        do(shard, put(b"key %02d" % number, b"%04d" % number * 1024))
    shard.close()
    open_shard(store, store.shards[0]).close()
    for path in store.shard(DATA).glob("view.sqlite*"):
        path.unlink()
    return store


def log_of(store: Store) -> Path:
    return store.shard(DATA) / "log-00000001.seg"


def place_of(store: Store, number: int) -> int:
    """Within the body of a key."""
    return log_of(store).read_bytes().index(b"%04d" % number * 1024) + 2000


@pytest.mark.parametrize("number", [5, KEYS - 1])
def test_recovery_stops_and_names_the_place_and_cuts_nothing_off(
    filled: Store, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    """Not even at the log's end, where damage would be a torn tail."""
    content, at = log_of(filled).read_bytes(), place_of(filled, number)
    with monkeypatch.context() as patch:
        spoil(patch, log_of(filled), at, at + 1)
        with pytest.raises(MediaFailedError, match=f"offset {at - at % 4096}"):
            open_shard(filled, DATA)
    assert log_of(filled).read_bytes() == content
    shard = open_shard(filled, DATA)
    assert len(dump(shard)["versions"]) == KEYS
    shard.close()


@pytest.mark.parametrize("number", [5, KEYS - 1])
def test_fsck_tells_it_and_reads_on(
    filled: Store, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    at = place_of(filled, number)
    spoil(monkeypatch, log_of(filled), at, at + 1)
    found = list(survey(LocalSegments(filled), DATA))
    (damage,) = [one for one in found if isinstance(one, Damage)]
    assert damage.offset <= at < damage.end
    assert "cannot read" in damage.what
    # A page may hold the end of one record and the beginning of the next.
    assert len([one for one in found if isinstance(one, Record)]) in (KEYS, KEYS - 1)
    report = check(filled.path)
    assert not report.clean
    assert any("cannot read" in one.what for one in report.findings)


def test_salvage_keeps_what_can_be_read(filled: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    at = place_of(filled, 5)
    with monkeypatch.context() as patch:
        spoil(patch, log_of(filled), at, at + 1)
        report = check(filled.path, salvage=True)
    assert [one for one in report.findings if one.severity == LOST]
    shard = open_shard(filled, DATA)
    assert len(dump(shard)["versions"]) in (KEYS - 1, KEYS - 2)
    shard.close()


@pytest.mark.parametrize("where", ["log", "record", "chunk"])
def test_scrub_tells_it_and_compaction_goes_past_it(
    store: Store, writer: WriterProcess, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    held = Held(store)

    async def work() -> None:
        await held.create()
        await held.put({b"s%02d" % n: small(n) for n in range(60)})
        await held.put({b"large": large(1)})
        await atlas(store, ["compact"])
        await held.delete([b"s%02d" % n for n in range(40) if n % 4])
        assert held.bucket is not None
        client = EmbeddedClient(store)
        key = b"large" if where == "chunk" else b"s04"
        found = await client.lookup(held.bucket, key)
        assert found is not None
        (extent,) = found.body.extents
        path, at = segment_path(store.path, extent.segment), extent.offset + 100
        if where == "log":
            # Behind the base, where nothing but a rebuild reads: the last delete's record.
            path = sorted(store.shard(DATA).glob("log-????????.seg"))[-1]
            at = path.stat().st_size - 10
        with monkeypatch.context() as patch:
            spoil(patch, path, at, at + 1)
            state = await atlas(store, ["scrub", "compact"])
            assert state.passes["compact"].stopped_by == ""
        assert state.damage
        assert any(
            ("log" in one.where if where == "log" else repr(key) in one.where)
            for one in state.damage
        ), state.damage
        assert (await atlas(store, ["scrub"])).damage == []
        await client.close()
        await held.verify()

    asyncio.run(work())
    assert stopped_and_checked(store, writer).clean

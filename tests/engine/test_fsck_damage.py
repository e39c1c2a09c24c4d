"""Damage does not end `fsck`: each place is told, and a salvage keeps all that is good."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from objectstore_app.atlas.fsck import LOST, Report, check
from objectstore_app.core.ids import ShardId
from objectstore_app.media.chunks import LocalReader
from objectstore_app.media.errors import CorruptDataError
from objectstore_app.media.store import Store, open_store
from objectstore_app.metadata_service.api import OpenBucket
from objectstore_app.metadata_service.bases import make_base
from objectstore_app.metadata_service.reads import lookup
from objectstore_app.metadata_service.writer import now_ms, open_shard
from tests.engine.support import BUCKET, do, put

DATA = ShardId(0)
KEYS = 12


def body(number: int) -> bytes:
    return b"%02d" % number * 700


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """A store with objects whose bodies lie in the log."""
    store = open_store(tmp_path / "data")
    shard = open_shard(store, DATA)
    do(shard, OpenBucket(bucket=BUCKET))
    for number in range(KEYS):
        do(shard, put(b"key %02d" % number, body(number)))
    shard.close()
    open_shard(store, store.shards[0]).close()
    return store


def log_of(store: Store) -> Path:
    return store.shard(DATA) / "log-00000001.seg"


def damage(store: Store, number: int, *, header: bool = False) -> None:
    """Flip a bit in the body of a key's record, or in its payload."""
    content = bytearray(log_of(store).read_bytes())
    at = content.index(b"key %02d" % number) if header else content.index(body(number)) + 9
    content[at] ^= 4
    log_of(store).write_bytes(content)


def without_view(store: Store) -> None:
    for path in store.shard(DATA).glob("view.sqlite*"):
        path.unlink()


def said(report: Report, severity: str) -> list[str]:
    return [f"{one.where}: {one.what}" for one in report.findings if one.severity == severity]


def held(store: Store) -> dict[int, bytes | None]:
    """What each key holds; None where the bytes are refused."""

    async def read() -> dict[int, bytes | None]:
        shard, reader = open_shard(store, DATA), LocalReader(store.path)
        found: dict[int, bytes | None] = {}
        for number in range(KEYS):
            version = lookup(shard.view, BUCKET, b"key %02d" % number, "")
            if version is None:
                continue
            (extent,) = version.body.extents
            try:
                found[number] = bytes(await reader.read(extent, 0, extent.length))
            except CorruptDataError:
                found[number] = None
        reader.close()
        shard.close()
        return found

    return asyncio.run(read())


def test_every_damaged_record_is_told_with_its_place_and_its_key(store: Store) -> None:
    damage(store, 3)
    damage(store, 7, header=True)
    report = check(store.path)
    in_log = [one for one in said(report, "error") if one.startswith("shard-000 log")]
    assert len(in_log) == 2
    assert "records 5 to 5" in in_log[0]
    assert "key 03" in in_log[0]
    assert "records 9 to 9" in in_log[1]
    assert report.records >= KEYS - 2
    named = [one for one in said(report, "error") if "key 03" in one]
    assert len(named) == 2, "the record, and the row whose bytes lie in it"


def test_rebuild_refuses_what_it_would_lose_and_leaves_the_view(store: Store) -> None:
    damage(store, 3)
    before = store.view(DATA).read_bytes()
    report = check(store.path, rebuild=True)
    assert report.rebuilt == ["directory"]
    assert not report.clean
    assert store.view(DATA).read_bytes() == before


def test_salvage_with_a_sound_view_loses_only_the_bytes_that_are_damaged(store: Store) -> None:
    damage(store, 3)
    damage(store, 7, header=True)
    report = check(store.path, salvage=True)
    assert report.salvaged == ["shard-000"]
    assert said(report, LOST) == []
    # The payload of record 7 is damaged, its body is not: the view knows where that lies.
    assert held(store) == {number: None if number == 3 else body(number) for number in range(KEYS)}
    assert len(said(check(store.path), "error")) == 1, "the base stands for the damaged log"


def test_salvage_without_a_view_keeps_every_good_record_and_names_the_lost(store: Store) -> None:
    damage(store, 3)
    damage(store, 7, header=True)
    without_view(store)
    report = check(store.path, salvage=True)
    lost = said(report, LOST)
    assert len(lost) == 2
    assert "key 03" in lost[0]
    assert "records 9 to 9" in lost[1]
    assert not report.clean
    assert held(store) == {n: body(n) for n in range(KEYS) if n not in (3, 7)}
    again = check(store.path)
    assert again.clean, again.findings
    shard = open_shard(store, DATA)
    do(shard, put(b"key 03", body(3)))
    shard.close()
    assert held(store)[3] == body(3)
    assert check(store.path).clean


@pytest.mark.parametrize("at", [0, 9, 13, 17, 25, 29], ids="byte {}".format)
@pytest.mark.parametrize("view", ["with its view", "without"])
def test_salvage_mends_the_header_of_a_segment(store: Store, at: int, view: str) -> None:
    content = bytearray(log_of(store).read_bytes())
    content[at] ^= 16
    log_of(store).write_bytes(content)
    if view == "without":
        without_view(store)
    assert "segment 0x1 offset 0 to" in " ".join(said(check(store.path), "error"))
    report = check(store.path, salvage=True)
    assert said(report, LOST) == []
    assert "mended" in " ".join(said(report, "note"))
    assert held(store) == {number: body(number) for number in range(KEYS)}
    assert check(store.path).clean


def test_records_that_rest_on_a_lost_one_are_named_too(store: Store) -> None:
    content = bytearray(log_of(store).read_bytes())
    content[40] ^= 1  # in the first record, which opens the bucket
    log_of(store).write_bytes(content)
    without_view(store)
    lost = said(check(store.path, salvage=True), LOST)
    assert len(lost) == KEYS + 1
    assert all(f"key {number:02d}" in " ".join(lost) for number in range(KEYS))


def test_damage_before_a_base_needs_no_salvage(store: Store) -> None:
    shard = open_shard(store, DATA)
    for _ in make_base(shard.view, store.shard(DATA), now_ms()):
        pass
    do(shard, put(b"key 00", body(5)))
    shard.close()
    damage(store, 7, header=True)
    without_view(store)
    report = check(store.path, rebuild=True)
    assert report.clean, report.findings
    assert held(store) == {n: body(n or 5) for n in range(KEYS)}


def test_damaged_base_is_told_and_the_whole_log_serves(store: Store) -> None:
    shard = open_shard(store, DATA)
    for _ in make_base(shard.view, store.shard(DATA), now_ms()):
        pass
    shard.close()
    (base,) = store.shard(DATA).glob("base-*.sqlite")
    content = bytearray(base.read_bytes())
    content[5000] ^= 1
    base.write_bytes(content)
    report = check(store.path, rebuild=True)
    assert ["base" in one for one in said(report, "error")] == [True]
    assert report.rebuilt == ["directory", "shard-000"]


def test_damaged_page_of_the_view_is_told_and_rebuilt(store: Store) -> None:
    content = bytearray(store.view(DATA).read_bytes())
    content[len(content) // 2] ^= 1
    store.view(DATA).write_bytes(content)
    assert "view cannot be read" in " ".join(said(check(store.path), "error"))
    assert check(store.path, rebuild=True).clean
    assert check(store.path).clean


def test_missing_master_key_is_an_error(store: Store) -> None:
    store.master_key_path.unlink()
    assert "no secret can be opened" in said(check(store.path), "error")[0]

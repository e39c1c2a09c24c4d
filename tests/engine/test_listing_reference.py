"""Listings of larger random buckets against what their rows say, page by page.

Keys come in clumps: groups of one and of hundreds, long stacks of versions, long runs of delete
markers, so that walks change between slices and heads at every place.
"""

from __future__ import annotations

import random

import pytest

from objectstore_app.metadata_service import listing
from objectstore_app.metadata_service.api import (
    CreateUpload,
    DataMutation,
    DeleteKey,
    SetVersioning,
)
from objectstore_app.metadata_service.shard import Shard
from tests.engine.model import group
from tests.engine.support import BUCKET, OWNER, do, opened_bucket, put

Row = tuple[bytes, str, int]


def clumps(rng: random.Random) -> list[bytes]:
    keys = []
    for _ in range(rng.randrange(1, 12)):
        stem = rng.choice(["", "a", "a/", "a/b/", "é/", "~", "日本//"])
        stem += rng.choice(["", "x", "/", "0/1/"])
        width = rng.choice([1, 2, 40, 300])
        keys += [f"{stem}{number:03d}".encode() for number in range(width)]
        keys += [f"{stem}{number}/{number % 3}".encode() for number in range(width // 4)]
    return list(dict.fromkeys(keys))


def filled(rng: random.Random, versioned: bool) -> Shard:
    shard = opened_bucket()
    if versioned:
        do(shard, SetVersioning(bucket=BUCKET, state="Enabled"))
    changes: list[DataMutation] = []
    deleting = rng.random()
    for key in clumps(rng):
        # A clump's neighbours share its fate often enough to make runs.
        if rng.random() < 0.02:
            deleting = rng.choice([0.0, 0.1, 1.0])
        changes += [put(key)] * (rng.choice([1, 1, 1, 2, 60]) if versioned else 1)
        if rng.random() < deleting:
            changes.append(DeleteKey(bucket=BUCKET, key=key, owner=OWNER))
        if rng.random() < 0.05:
            changes += [CreateUpload(bucket=BUCKET, key=key, owner=OWNER)] * rng.choice([1, 70])
    rng.shuffle(changes)
    shard.commit(changes)
    return shard


def rows_of(shard: Shard) -> list[Row]:
    return shard.view.execute(
        "SELECT key, version_id, marker FROM versions ORDER BY key, ord"
    ).fetchall()


def grouped(names: list[tuple[bytes, str]], prefix: bytes, delimiter: bytes) -> list[object]:
    """Entries in order: (key, name), or the bytes of a common prefix, told once."""
    entries: list[object] = []
    for key, name in names:
        if key.startswith(prefix):
            shared = group(key, prefix, delimiter)
            entries.append((key, name) if shared is None else shared)
    return list(dict.fromkeys(entries))


def all_objects(shard: Shard, prefix: bytes, delimiter: bytes, limit: int) -> list[object]:
    told: list[object] = []
    after, more = b"", True
    while more:
        page = listing.list_objects(shard.view, BUCKET, prefix, after, delimiter, limit)
        assert len(page.objects) + len(page.prefixes) <= limit
        entries: list[object] = [(row[0], "") for row in page.objects] + list(page.prefixes)
        told += sorted(entries, key=lambda one: one if isinstance(one, bytes) else one[0])
        assert not any(row[7] for row in page.objects), "a delete marker is none"
        assert page.next_after != after or not page.truncated
        after, more = page.next_after, page.truncated
    return told


def all_versions(shard: Shard, prefix: bytes, delimiter: bytes, limit: int) -> list[object]:
    told: list[object] = []
    key, name, more = b"", "", True
    while more:
        page = listing.list_versions(shard.view, BUCKET, prefix, key, name, delimiter, limit)
        entries: list[object] = [row[:2] for row in page.versions] + list(page.prefixes)
        assert len(entries) == limit or not page.truncated
        told += sorted(entries, key=lambda one: one if isinstance(one, bytes) else one[0])
        key, name, more = page.next_key, page.next_version_id, page.truncated
    return told


def all_uploads(shard: Shard, prefix: bytes, delimiter: bytes, limit: int) -> list[object]:
    told: list[object] = []
    key, name, more = b"", "", True
    while more:
        page = listing.list_uploads(shard.view, BUCKET, prefix, key, name, delimiter, limit)
        entries: list[object] = [
            one if isinstance(one, bytes) else (one.key, one.upload_id) for one in page.entries
        ]
        assert len(entries) == limit or not page.truncated
        told += sorted(entries, key=lambda one: one if isinstance(one, bytes) else one[0])
        key, name, more = page.next_key, page.next_upload_id, page.truncated
    return told


@pytest.mark.parametrize("seed", range(24))
def test_pages_tell_what_the_rows_say(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    rng = random.Random(seed)
    shard = filled(rng, versioned=seed % 3 > 0)
    if seed % 2:
        monkeypatch.setattr(listing, "LIST_ROWS_MAX", rng.choice([3, 40, 300]))
    rows = rows_of(shard)
    newest = {key: marker for key, _, marker in reversed(rows)}
    uploads = shard.view.execute("SELECT key, upload FROM uploads ORDER BY 1, 2").fetchall()
    for _ in range(8):
        prefix = rng.choice(["", "a", "a/", "a/x", "é", "日本/"]).encode()
        delimiter = rng.choice(["", "/", "/", "0", "//", "é"]).encode()
        limit = rng.choice([7, 100, 1000])
        live = [(key, "") for key, marker in sorted(newest.items()) if not marker]
        assert all_objects(shard, prefix, delimiter, limit) == grouped(live, prefix, delimiter)
        names = [(key, name) for key, name, _ in rows]
        assert all_versions(shard, prefix, delimiter, limit) == grouped(names, prefix, delimiter)
        assert all_uploads(shard, prefix, delimiter, limit) == grouped(uploads, prefix, delimiter)


def test_a_run_of_delete_markers_is_crossed_in_bounded_pages(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(listing, "LIST_ROWS_MAX", 100)
    shard = opened_bucket()
    do(shard, SetVersioning(bucket=BUCKET, state="Enabled"))
    gone = [b"gone/%04d" % number for number in range(450)]
    shard.commit([put(key) for key in [b"a", *gone, b"gone/z", b"z"]])
    shard.commit([DeleteKey(bucket=BUCKET, key=key, owner=OWNER) for key in gone])
    for delimiter, entries in ((b"", [b"a", b"gone/z", b"z"]), (b"/", [b"a", b"gone/", b"z"])):
        after, told, pages = b"", [], 0
        more = True
        while more:
            page = listing.list_objects(shard.view, BUCKET, b"", after, delimiter, 1000)
            told += sorted([row[0] for row in page.objects] + list(page.prefixes))
            after, more = page.next_after, page.truncated
            pages += 1
        assert told == entries
        assert 5 <= pages <= 12

"""Listing: plans, seeks, and work that follows the page."""

from __future__ import annotations

import pytest

from objectstore_app.metadata_service import listing, reads
from objectstore_app.metadata_service.api import DeleteKey, SetVersioning
from objectstore_app.metadata_service.shard import Shard
from tests.engine.support import BUCKET, OWNER, do, opened_bucket, put

Bindings = dict[str, object] | tuple[object, ...]


def steps(shard: Shard, sql: str, bindings: Bindings) -> str:
    rows = shard.view.execute(f"EXPLAIN QUERY PLAN {sql}", bindings).fetchall()
    return " ".join(row[3] for row in rows)


WHERE = {
    "bucket": 1, "start": b"k", "end": b"l", "limit": 9, "behind": 0, "behind_prefix": 1,
    "delimiter": b"/", "behind_delimiter": b"0", "before_group": 1, "delimiter_size": 1,
    "owners": True,
}  # fmt: skip


@pytest.mark.parametrize(
    ("sql", "bindings"),
    [
        (listing.RUN_OF_OBJECTS, WHERE),
        (listing.RUN_OF_VERSIONS, WHERE),
        (listing.RUN_OF_UPLOADS, {**WHERE, "behind": ""}),
        (reads._CURRENT, (1, b"k")),
        (reads._BY_ORDER, (1, b"k", -3)),
    ],
)
def test_every_walk_seeks_in_the_primary_key_and_never_sorts(sql: str, bindings: Bindings) -> None:
    plan = steps(opened_bucket(), sql, bindings)
    assert "USING PRIMARY KEY (bucket=? AND" in plan
    assert "SCAN" not in plan
    assert "TEMP B-TREE" not in plan


@pytest.mark.parametrize(
    ("sql", "seeks"),
    [
        (listing.HEADS_OF_OBJECTS, 5),
        (listing.GROUPS_OF_VERSIONS, 2),
        (listing.GROUPS_OF_UPLOADS, 2),
    ],
)
def test_heads_are_found_by_seeks_alone(sql: str, seeks: int) -> None:
    plan = steps(opened_bucket(), sql, WHERE)
    assert plan.count("USING PRIMARY KEY (bucket=? AND key") == plan.count("SEARCH") == seeks
    assert "TEMP B-TREE" not in plan


def rows_read(shard: Shard, delimiter: bytes, limit: int = 1000) -> int:
    """How many rows SQLite steps over for one page of objects."""
    count = 0

    def trace(*_: object) -> bool:
        nonlocal count
        count += 1
        return True

    def trace_row(cursor: object, row: tuple[object, ...]) -> tuple[object, ...]:
        trace()
        return row

    shard.view.row_trace = trace_row
    try:
        listing.list_objects(shard.view, BUCKET, b"", b"", delimiter, limit)
    finally:
        shard.view.row_trace = None
    return count


def test_a_common_prefix_costs_one_seek_whatever_lies_in_it() -> None:
    shard = opened_bucket()
    keys = [b"%d/%04d" % (folder, number) for folder in range(5) for number in range(300)]
    shard.commit([put(key) for key in keys])
    assert rows_read(shard, b"/") <= 64
    assert rows_read(shard, b"", limit=100) <= 102  # and that of the bucket


@pytest.mark.parametrize("limit", [1, 7, 250, 251, 1000])
@pytest.mark.parametrize("delimiter", [b"/", b"//", b"\xff"])
def test_groups_and_keys_among_them_are_told_in_order(limit: int, delimiter: bytes) -> None:
    shard = opened_bucket()
    folders = [b"in/%03d" % number + delimiter for number in range(300)]
    plain = [b"in/000", b"in/150", b"in/299/", b"in/300", b"in/999"]
    shard.commit([put(folder + b"%d" % one) for folder in folders for one in range(10)])
    shard.commit([put(key) for key in [b"in.", *plain, b"in0"]])
    told: list[bytes] = []
    after, more = b"", True
    while more:
        page = listing.list_objects(shard.view, BUCKET, b"in/", after, delimiter, limit)
        told += sorted([row[0] for row in page.objects] + list(page.prefixes))
        assert len(page.objects) + len(page.prefixes) == limit or not page.truncated
        after, more = page.next_after, page.truncated
    assert told == sorted({*folders, *plain})


def test_a_long_run_of_versions_is_skipped() -> None:
    shard = opened_bucket()
    do(shard, SetVersioning(bucket=BUCKET, state="Enabled"))
    shard.commit([put(b"busy") for _ in range(500)])
    shard.commit([put(b"zz")])
    assert rows_read(shard, b"") <= 64


def test_page_ends_with_its_last_entry_and_a_limit_of_zero_is_empty() -> None:
    shard = opened_bucket()
    shard.commit([put(key) for key in (b"a/1", b"a/2", b"b")])
    first = listing.list_objects(shard.view, BUCKET, b"", b"", b"/", 1)
    assert (first.prefixes, first.truncated, first.next_after) == ([b"a/"], True, b"a/")
    second = listing.list_objects(shard.view, BUCKET, b"", b"a/", b"/", 1)
    assert [row[0] for row in second.objects] == [b"b"]
    assert not second.truncated
    inside = listing.list_objects(shard.view, BUCKET, b"", b"a/1", b"/", 5)
    assert [row[0] for row in inside.objects] == [b"b"]
    assert not listing.list_objects(shard.view, BUCKET, b"", b"", b"", 0).truncated


def test_a_prefix_with_only_deleted_objects_is_not_shown() -> None:
    shard = opened_bucket()
    do(shard, SetVersioning(bucket=BUCKET, state="Enabled"))
    shard.commit([put(b"gone/1"), put(b"kept/1")])
    do(shard, DeleteKey(bucket=BUCKET, key=b"gone/1", owner=OWNER))
    page = listing.list_objects(shard.view, BUCKET, b"", b"", b"/", 10)
    assert (page.objects, page.prefixes) == ([], [b"kept/"])


@pytest.mark.parametrize(
    ("group", "following"),
    [(b"a/", b"a0"), (b"a\xff", b"b"), (b"\xff\xff", None), (b"\x00", b"\x01")],
)
def test_successor_is_the_first_key_behind_a_group(group: bytes, following: bytes | None) -> None:
    assert listing.successor(group) == following

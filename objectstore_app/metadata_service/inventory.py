"""Walks over whole views, for verification: every row, every extent, every sum."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

import apsw

from ..media.api import Extent
from .api import Coding
from .keys import key_use
from .rows import decode_body, decode_coding, decode_extents

TABLES: dict[str, dict[str, str]] = {
    "data": {
        "buckets": "bucket",
        "versions": "bucket, key, ord",
        "nulls": "bucket, key",
        "uploads": "bucket, key, upload",
        "parts": "bucket, upload, number",
        "completed": "sequence",
        "garbage": "segment, offset",
        "key_use": "key",
    },
    "directory": {
        "buckets": "id",
        "users": "id",
        "keys": "access_key",
        "store_keys": "name",
    },
}
"""The tables of each schema (but for `position`) and their primary keys."""

_USAGE = """
SELECT buckets.bucket, buckets.objects, buckets.versions, buckets.size_bytes, buckets.uploads,
    (SELECT count(*) FROM versions v WHERE v.bucket = buckets.bucket AND NOT v.marker AND v.ord =
        (SELECT min(ord) FROM versions n WHERE n.bucket = v.bucket AND n.key = v.key)),
    (SELECT count(*) FROM versions v WHERE v.bucket = buckets.bucket AND NOT v.marker),
    (SELECT coalesce(sum(size), 0) FROM versions v
        WHERE v.bucket = buckets.bucket AND NOT v.marker),
    (SELECT count(*) FROM uploads u WHERE u.bucket = buckets.bucket)
FROM buckets
"""

Row = tuple[tuple[object, ...], tuple[object, ...]]


def rows_of(view: apsw.Connection, schema: str, table: str) -> Iterator[Row]:
    """The rows of a table as (primary key, all columns), in the order of the key."""
    key = TABLES[schema][table]
    width = key.count(",") + 1
    sql = f"SELECT {key}, * FROM {table} ORDER BY {key}"
    for row in view.execute(sql):
        yield row[:width], row[width:]


def extents_of(view: apsw.Connection) -> Iterator[tuple[str, Extent]]:
    """Every extent that a version or a part names, and what names it."""
    for bucket, key, version_id, raw in view.execute(
        "SELECT bucket, key, version_id, body FROM versions"
    ):
        for extent in decode_body(raw).extents:
            yield f"bucket {bucket} key {key!r} version {version_id}", extent
    for bucket, upload, number, raw in view.execute(
        "SELECT bucket, upload, number, extents FROM parts"
    ):
        for extent in decode_extents(raw):
            yield f"bucket {bucket} upload {upload} part {number}", extent


def garbage_of(view: apsw.Connection) -> Iterator[Extent]:
    """What nothing names any more; the checksums are not kept."""
    for segment, offset, length, blocks in view.execute(
        "SELECT segment, offset, length, blocks FROM garbage"
    ):
        yield Extent(segment, offset, length, 0, bool(blocks))


def coding_differences(view: apsw.Connection) -> Iterator[str]:
    """One text for each coding that does not cover its body, and for each version of a key whose
    count of data keys is not what the rows add up to.
    """
    wanted: Counter[int] = Counter()
    for bucket, key, version_id, size, raw in view.execute(
        "SELECT bucket, key, version_id, size, body FROM versions"
    ):
        body = decode_body(raw)
        wanted.update(_wrapping(body.coding))
        if body.coding and not _covered(body.coding, body.extents, size, inline=bool(body.inline)):
            yield f"bucket {bucket} key {key!r} version {version_id}: its coding is not of its body"
    for bucket, upload, number, size, raw, raw_coding in view.execute(
        "SELECT bucket, upload, number, size, extents, coding FROM parts"
    ):
        coding = decode_coding(raw_coding)
        wanted.update(_wrapping(coding))
        if coding and not _covered(coding, decode_extents(raw), size, inline=False):
            yield f"bucket {bucket} upload {upload} part {number}: its coding is not of its body"
    held = Counter(key_use(view))
    for version in sorted(held.keys() | wanted.keys()):
        if held[version] != wanted[version]:
            yield f"key version {version} wraps {wanted[version]} data keys, not {held[version]}"


def _wrapping(coding: tuple[Coding, ...]) -> list[int]:
    return [run.key for run in coding if run.key > 0]


def _covered(
    coding: tuple[Coding, ...], extents: tuple[Extent, ...], size: int, *, inline: bool
) -> bool:
    places = [plain for run in coding for plain in run.sizes]
    return sum(places) == size and len(places) == (1 if inline else len(extents))


def usage_differences(view: apsw.Connection) -> Iterator[str]:
    """One text for each bucket whose usage is not what its rows add up to."""
    for bucket, *sums in view.execute(_USAGE):
        held, wanted = sums[:4], sums[4:]
        if held != wanted:
            yield (
                f"bucket {bucket}: objects, versions, bytes, uploads are {held}"
                f" and should be {wanted}"
            )

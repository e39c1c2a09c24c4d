"""Walks over a live view, page by page, for Atlas: who names which bytes, what is garbage.

Each page is one short read of committed state, so a walk never holds a snapshot and the view may
change under it. An extent moves from a part to a version when its upload is completed, never back,
and a version's row keeps its place: who walks parts first and versions after them sees every extent
that is named all the time.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, TypeAlias

import apsw

from ..core.ids import BucketId
from ..media.api import Extent
from ..media.segments import CHUNK_BIT
from .api import Upload, Usage
from .reads import decode_upload
from .rows import decode_body, decode_extents

View: TypeAlias = apsw.Connection
ViewError: TypeAlias = apsw.Error
"""What these walks read, and what they raise where it cannot be read."""


class VersionBody(NamedTuple):
    """A version and the extents it names; its first three fields are its place in a walk."""

    bucket: BucketId
    key: bytes
    order: int
    extents: tuple[Extent, ...]

    def __str__(self) -> str:
        return f"bucket {self.bucket} key {self.key!r} version {-self.order}"


class PartBody(NamedTuple):
    """A part of an upload and the extents it names."""

    bucket: BucketId
    upload: str
    number: int
    extents: tuple[Extent, ...]

    def __str__(self) -> str:
        return f"bucket {self.bucket} upload {self.upload} part {self.number}"


class GarbageRow(NamedTuple):
    segment: int
    offset: int
    length: int
    freed_ms: int


class SegmentGarbage(NamedTuple):
    """Garbage rows of one segment: how many, how many bytes, and when the last was freed."""

    segment: int
    rows: int
    length: int
    freed_ms: int


PartPlace = tuple[int, str, int]
VersionPlace = tuple[int, bytes, int]
PARTS_BEGIN: PartPlace = (-1, "", 0)
VERSIONS_BEGIN: VersionPlace = (-1, b"", 0)


def parts_page(view: View, after: PartPlace, limit: int) -> Sequence[PartBody]:
    """The parts behind a place, in order."""
    rows = view.execute(
        "SELECT bucket, upload, number, extents FROM parts WHERE (bucket, upload, number) >"
        " (?, ?, ?) ORDER BY bucket, upload, number LIMIT ?",
        (*after, limit),
    ).fetchall()
    return [
        PartBody(bucket, upload, number, decode_extents(raw))
        for bucket, upload, number, raw in rows
    ]


def versions_page(view: View, after: VersionPlace, limit: int) -> Sequence[VersionBody]:
    """The versions behind a place, in order, with or without extents."""
    rows = view.execute(
        "SELECT bucket, key, ord, body FROM versions WHERE (bucket, key, ord) > (?, ?, ?)"
        " ORDER BY bucket, key, ord LIMIT ?",
        (*after, limit),
    ).fetchall()
    return [
        VersionBody(bucket, key, order, decode_body(raw).extents)
        for bucket, key, order, raw in rows
    ]


def row_of(view: View, row: VersionBody | PartBody) -> VersionBody | PartBody | None:
    """The same row as it is now."""
    if isinstance(row, PartBody):
        parts = parts_page(view, (row.bucket, row.upload, row.number - 1), 1)
        return parts[0] if parts and parts[0][:3] == row[:3] else None
    versions = versions_page(view, (row.bucket, row.key, row.order - 1), 1)
    return versions[0] if versions and versions[0][:3] == row[:3] else None


def chunk_garbage_page(
    view: View, after: tuple[int, int], freed_ms: int, limit: int
) -> Sequence[GarbageRow]:
    """Garbage in chunk segments that was freed at `freed_ms` or earlier, behind a (segment,
    offset), in order.
    """
    rows = view.execute(
        "SELECT segment, offset, length, freed_ms FROM garbage WHERE (segment, offset) > (?, ?)"
        " AND segment >= ? AND freed_ms <= ? ORDER BY segment, offset LIMIT ?",
        (*after, CHUNK_BIT, freed_ms, limit),
    ).fetchall()
    return [GarbageRow(*row) for row in rows]


def segment_garbage_page(view: View, segment: int, after: int, limit: int) -> Sequence[GarbageRow]:
    """Garbage of one segment behind an offset, in order."""
    rows = view.execute(
        "SELECT segment, offset, length, freed_ms FROM garbage WHERE segment=? AND offset>?"
        " ORDER BY offset LIMIT ?",
        (segment, after, limit),
    ).fetchall()
    return [GarbageRow(*row) for row in rows]


def garbage_after(view: View, segment: int) -> SegmentGarbage | None:
    """What the first segment behind this one that has garbage has of it."""
    rows = view.execute(
        "SELECT segment, count(*), sum(length), max(freed_ms) FROM garbage WHERE segment ="
        " (SELECT segment FROM garbage WHERE segment>? ORDER BY segment LIMIT 1)"
        " GROUP BY segment",
        (segment,),
    ).fetchall()
    return SegmentGarbage(*rows[0]) if rows else None


def uploads_page(
    view: View, after: tuple[int, bytes, str], limit: int
) -> Sequence[tuple[BucketId, Upload]]:
    """Uploads of all buckets behind a (bucket, key, upload), in order."""
    rows = view.execute(
        "SELECT bucket, record FROM uploads WHERE (bucket, key, upload) > (?, ?, ?)"
        " ORDER BY bucket, key, upload LIMIT ?",
        (*after, limit),
    ).fetchall()
    return [(bucket, decode_upload(raw)) for bucket, raw in rows]


def closed_buckets(view: View) -> frozenset[BucketId]:
    """Buckets that were deleted and whose row is still there."""
    return frozenset(row[0] for row in view.execute("SELECT bucket FROM buckets WHERE closed"))


def bucket_after(view: View, bucket: int) -> BucketId | None:
    """The next bucket of the shard that is not closed."""
    rows = view.execute(
        "SELECT bucket FROM buckets WHERE bucket>? AND NOT closed ORDER BY bucket LIMIT 1",
        (bucket,),
    ).fetchall()
    return BucketId(rows[0][0]) if rows else None


def usage_and_count(view: View, bucket: BucketId) -> tuple[Usage, Usage]:
    """A bucket's usage as it is kept, and as its rows count up to, of one snapshot."""
    view.execute("BEGIN")
    try:
        kept = view.execute(
            "SELECT objects, versions, size_bytes, uploads FROM buckets WHERE bucket=?", (bucket,)
        ).fetchall()
        # The first row of a key, in the order of the primary key, is its current version.
        counted = view.execute(
            "SELECT coalesce(sum(first AND NOT marker), 0), coalesce(sum(NOT marker), 0),"
            " coalesce(sum(CASE WHEN marker THEN 0 ELSE size END), 0) FROM (SELECT marker, size,"
            " ord = min(ord) OVER (PARTITION BY key) AS first FROM versions WHERE bucket=?)",
            (bucket,),
        ).fetchall()
        uploads = view.execute("SELECT count(*) FROM uploads WHERE bucket=?", (bucket,)).fetchall()
    finally:
        view.execute("ROLLBACK")
    objects, versions, size_bytes, open_uploads = kept[0] if kept else (0, 0, 0, 0)
    return (
        Usage(objects=objects, versions=versions, size_bytes=size_bytes, uploads=open_uploads),
        Usage(
            objects=counted[0][0],
            versions=counted[0][1],
            size_bytes=counted[0][2],
            uploads=uploads[0][0],
        ),
    )

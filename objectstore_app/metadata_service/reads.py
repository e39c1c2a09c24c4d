"""Point reads of a data shard's view: committed state, on the calling thread.

Every statement is read to its end at once: one that is left open would pin its snapshot, and later
reads on the same connection would see the past.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import apsw
import msgspec

from ..core.ids import NULL_VERSION, BucketId, UserId, VersionOrder
from .api import Attributes, Body, BucketState, ObjectVersion, Part, Upload, Usage
from .ordering import order_of
from .rows import EMPTY, decode_attributes, decode_body, decode_coding, decode_extents

_CURRENT = (
    "SELECT ord, version_id, size, etag, modified_ms, owner, marker, attributes, body"
    " FROM versions WHERE bucket=? AND key=? ORDER BY ord LIMIT 1"
)
_BY_ORDER = (
    "SELECT ord, version_id, size, etag, modified_ms, owner, marker, attributes, body"
    " FROM versions WHERE bucket=? AND key=? AND ord=?"
)
VersionCells = tuple[VersionOrder, str, int, str, int, UserId, int, bytes, bytes]
"""The columns of `_CURRENT` and `_BY_ORDER`."""

_NULL_ORDER = "SELECT ord FROM nulls WHERE bucket=? AND key=?"

decode_upload = msgspec.msgpack.Decoder(Upload).decode
_decode_checksums = msgspec.msgpack.Decoder(dict[str, str]).decode
NO_ATTRIBUTES = Attributes()
NO_BODY = Body()


def lookup(
    connection: apsw.Connection, bucket: BucketId, key: bytes, version_id: str
) -> ObjectVersion | None:
    """The current version, or the one named; a delete marker is one too."""
    rows = connection.execute(_CURRENT, (bucket, key)).fetchall()
    if not rows:
        return None
    if not version_id or rows[0][1] == version_id:
        return _version(key, rows[0])
    order = named_order(connection, bucket, key, version_id)
    if order is None:
        return None
    rows = connection.execute(_BY_ORDER, (bucket, key, order)).fetchall()
    if not rows or rows[0][1] != version_id:
        return None
    return _version(key, rows[0])


def named_order(
    connection: apsw.Connection, bucket: BucketId, key: bytes, version_id: str
) -> int | None:
    """The order that a version id means; of `null` only when a newer version buries it."""
    if version_id != NULL_VERSION:
        return order_of(version_id)
    rows = connection.execute(_NULL_ORDER, (bucket, key)).fetchall()
    return int(rows[0][0]) if rows else None


def bucket_state(connection: apsw.Connection, bucket: BucketId) -> BucketState:
    rows = connection.execute(
        "SELECT versioning, objects, versions, size_bytes, uploads FROM buckets WHERE bucket=?",
        (bucket,),
    ).fetchall()
    if not rows:
        return BucketState()
    versioning, objects, versions, size_bytes, uploads = rows[0]
    return BucketState(
        versioning=versioning,
        usage=Usage(objects=objects, versions=versions, size_bytes=size_bytes, uploads=uploads),
    )


def total_usage(connection: apsw.Connection) -> tuple[int, Usage]:
    """The number of a shard's buckets, and what they hold together."""
    ((buckets, objects, versions, size_bytes, uploads),) = connection.execute(
        "SELECT count(*), coalesce(sum(objects), 0), coalesce(sum(versions), 0),"
        " coalesce(sum(size_bytes), 0), coalesce(sum(uploads), 0) FROM buckets WHERE NOT closed"
    ).fetchall()
    return buckets, Usage(
        objects=objects, versions=versions, size_bytes=size_bytes, uploads=uploads
    )


def add_usage(totals: Iterable[tuple[int, Usage]]) -> tuple[int, Usage]:
    """The totals of several shards together."""
    held = list(totals)
    return sum(buckets for buckets, _ in held), Usage(
        objects=sum(usage.objects for _, usage in held),
        versions=sum(usage.versions for _, usage in held),
        size_bytes=sum(usage.size_bytes for _, usage in held),
        uploads=sum(usage.uploads for _, usage in held),
    )


def find_upload(
    connection: apsw.Connection, bucket: BucketId, key: bytes, upload_id: str
) -> Upload | None:
    rows = connection.execute(
        "SELECT record FROM uploads WHERE bucket=? AND key=? AND upload=?",
        (bucket, key, upload_id),
    ).fetchall()
    return decode_upload(rows[0][0]) if rows else None


def parts_of(
    connection: apsw.Connection, bucket: BucketId, upload_id: str, after: int, limit: int
) -> Sequence[Part]:
    rows = connection.execute(
        "SELECT number, size, etag, modified_ms, checksums, extents, coding FROM parts"
        " WHERE bucket=? AND upload=? AND number>? ORDER BY number LIMIT ?",
        (bucket, upload_id, after, limit),
    ).fetchall()
    return [
        Part(
            number=number,
            size=size,
            etag=etag,
            modified_ms=modified_ms,
            checksums=_decode_checksums(checksums),
            body=Body(extents=decode_extents(extents), coding=decode_coding(coding)),
        )
        for number, size, etag, modified_ms, checksums, extents, coding in rows
    ]


def _version(key: bytes, row: VersionCells) -> ObjectVersion:
    order, version_id, size, etag, modified_ms, owner, marker, attributes, body = row
    return ObjectVersion(
        key=key,
        order=order,
        version_id=version_id,
        size=size,
        etag=etag,
        modified_ms=modified_ms,
        owner=owner,
        delete_marker=bool(marker),
        attributes=NO_ATTRIBUTES if attributes == EMPTY else decode_attributes(attributes),
        body=decode_body(body),
    )

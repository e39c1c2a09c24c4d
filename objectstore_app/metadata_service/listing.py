"""Pages of objects, versions and uploads; the cost follows the page, not the bucket.

Theory of operation. All three walk a primary key in order: (key, order) or (key, upload id). A walk
is one statement read step by step. It is abandoned, and begun anew further on, where reading on
would cost more than a seek: behind a common prefix (one seek a group, whatever lies in it) and,
for objects, behind a long run of one key's older versions. No statement outlives the call.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TypeVar

import apsw

from ..core.ids import BucketId
from .api import ObjectsPage, ObjectVersion, Upload, UploadsPage, VersionsPage
from .ordering import order_of
from .reads import NO_ATTRIBUTES, decode_upload, named_order
from .rows import EMPTY, decode_attributes

# Older versions read and dropped before a seek is cheaper.
_RUN_MAX = 8
_COLUMNS = "key, ord, version_id, size, etag, modified_ms, owner, marker, attributes"
FROM_KEY = f"SELECT {_COLUMNS} FROM versions WHERE bucket=? AND key>=? ORDER BY key, ord"
FROM_ORDER = (
    f"SELECT {_COLUMNS} FROM versions WHERE bucket=? AND (key, ord) > (?, ?) ORDER BY key, ord"
)
FROM_UPLOAD = (
    "SELECT key, upload, record FROM uploads"
    " WHERE bucket=? AND (key, upload) > (?, ?) ORDER BY key, upload"
)
_Item = TypeVar("_Item", ObjectVersion, Upload)
_Cells = tuple[bytes, int, str, int, str, int, str, int, bytes]


def list_objects(
    connection: apsw.Connection,
    bucket: BucketId,
    prefix: bytes,
    after: bytes,
    delimiter: bytes,
    limit: int,
) -> ObjectsPage:
    """See MetadataClient.list_objects."""
    entries: list[ObjectVersion | bytes] = []
    if limit <= 0:
        return ObjectsPage(entries=(), truncated=False)
    position: bytes | None = start_key(prefix, after, delimiter)
    cursor = connection.cursor()
    while position is not None:
        start, position = position, None
        seen: bytes | None = None
        run = 0
        for row in cursor.execute(FROM_KEY, (bucket, start)):
            key = row[0]
            if key == seen:
                run += 1
                if run > _RUN_MAX:
                    position = key + b"\0"
                    break
                continue
            seen, run = key, 0
            if not key.startswith(prefix):
                break
            if row[7]:
                continue
            if len(entries) == limit:
                cursor.close()
                last = entries[-1]
                resume = last if isinstance(last, bytes) else last.key
                return ObjectsPage(entries=tuple(entries), truncated=True, next_after=resume)
            group = common_prefix(key, prefix, delimiter) if delimiter else None
            if group is not None:
                entries.append(group)
                position = successor(group)
                break
            entries.append(_version(row, latest=True))
    cursor.close()
    return ObjectsPage(entries=tuple(entries), truncated=False)


def list_versions(
    connection: apsw.Connection,
    bucket: BucketId,
    prefix: bytes,
    after_key: bytes,
    after_version_id: str,
    delimiter: bytes,
    limit: int,
) -> VersionsPage:
    """See MetadataClient.list_versions. When the version to resume behind is gone and was `null`,
    its key starts anew.
    """
    latest_of: bytes | None = None
    sql, start = FROM_KEY, (start_key(prefix, after_key, delimiter),)
    resume: tuple[object, ...] = start
    if after_version_id and after_key.startswith(prefix) and start[0] == after_key + b"\0":
        order, newest = _resume_order(connection, bucket, after_key, after_version_id)
        sql, resume = FROM_ORDER, (after_key, order)
        latest_of = after_key if newest else None

    def walk(sql: str, resume: tuple[object, ...]) -> Iterator[tuple[bytes, str, _Cells]]:
        cursor = connection.cursor()
        try:
            for row in cursor.execute(sql, (bucket, *resume)):
                yield row[0], row[2], row
        finally:
            cursor.close()

    seen = latest_of

    def make(row: _Cells) -> ObjectVersion:
        nonlocal seen
        latest, seen = row[0] != seen, row[0]
        return _version(row, latest=latest)

    entries, end = _page(
        walk, (sql, resume), lambda key: (FROM_KEY, (key,)), make, prefix, delimiter, limit
    )
    if end is None:
        return VersionsPage(entries=entries, truncated=False)
    return VersionsPage(entries=entries, truncated=True, next_key=end[0], next_version_id=end[1])


def list_uploads(
    connection: apsw.Connection,
    bucket: BucketId,
    prefix: bytes,
    after_key: bytes,
    after_upload_id: str,
    delimiter: bytes,
    limit: int,
) -> UploadsPage:
    """See MetadataClient.list_uploads."""
    start = start_key(prefix, after_key, delimiter)
    resume = (start, "")
    if after_upload_id and after_key.startswith(prefix) and start == after_key + b"\0":
        resume = (after_key, after_upload_id)

    def walk(sql: str, resume: tuple[object, ...]) -> Iterator[tuple[bytes, str, bytes]]:
        cursor = connection.cursor()
        try:
            yield from cursor.execute(sql, (bucket, *resume))
        finally:
            cursor.close()

    def make(row: bytes) -> Upload:
        return decode_upload(row)

    entries, end = _page(
        walk, (FROM_UPLOAD, resume), lambda key: (FROM_UPLOAD, (key, "")), make, prefix,
        delimiter, limit,
    )  # fmt: skip
    if end is None:
        return UploadsPage(entries=entries, truncated=False)
    return UploadsPage(entries=entries, truncated=True, next_key=end[0], next_upload_id=end[1])


_Raw = TypeVar("_Raw")
_Seek = tuple[str, tuple[object, ...]]


def _page(
    walk: Callable[[str, tuple[object, ...]], Iterator[tuple[bytes, str, _Raw]]],
    first: _Seek,
    seek: Callable[[bytes], _Seek],
    make: Callable[[_Raw], _Item],
    prefix: bytes,
    delimiter: bytes,
    limit: int,
) -> tuple[tuple[_Item | bytes, ...], tuple[bytes, str] | None]:
    """Entries in order, and behind which (key, id) the next page begins (None: there is none)."""
    entries: list[_Item | bytes] = []
    end = (b"", "")
    position: _Seek | None = first if limit > 0 else None
    while position is not None:
        rows = walk(*position)
        position = None
        for key, name, raw in rows:
            if not key.startswith(prefix):
                break
            if len(entries) == limit:
                rows.close()  # type: ignore[attr-defined] # the walks are generators
                return tuple(entries), end
            group = common_prefix(key, prefix, delimiter) if delimiter else None
            if group is not None:
                entries.append(group)
                end = (group, "")
                after = successor(group)
                position = None if after is None else seek(after)
                break
            entries.append(make(raw))
            end = (key, name)
        rows.close()  # type: ignore[attr-defined] # the walks are generators
    return tuple(entries), None


def _resume_order(
    connection: apsw.Connection, bucket: BucketId, key: bytes, version_id: str
) -> tuple[int, bool]:
    """The order to go on behind, and whether any version before it is still there."""
    rows = connection.execute(
        "SELECT ord, version_id FROM versions WHERE bucket=? AND key=? ORDER BY ord LIMIT 1",
        (bucket, key),
    ).fetchall()
    if not rows:
        return 0, False
    newest, newest_id = rows[0]
    order = newest if newest_id == version_id else named_order(connection, bucket, key, version_id)
    if order is None and version_id != "null":
        order = order_of(version_id)
    if order is None:
        return int(newest) - 1, False
    return order, newest <= order


def start_key(prefix: bytes, after: bytes, delimiter: bytes) -> bytes:
    """The first key that a page may show: behind `after`, and behind its whole common prefix."""
    if after < prefix:
        return prefix
    group = common_prefix(after, prefix, delimiter) if delimiter else None
    if group is None:
        return after + b"\0"
    return successor(group) or after + b"\0"


def common_prefix(key: bytes, prefix: bytes, delimiter: bytes) -> bytes | None:
    """What of the key lies before and in the first delimiter behind the prefix."""
    if not key.startswith(prefix):
        return None
    found = key.find(delimiter, len(prefix))
    return None if found < 0 else key[: found + len(delimiter)]


def successor(group: bytes) -> bytes | None:
    """The smallest key behind all keys that start with `group`; None when there is none."""
    stem = group.rstrip(b"\xff")
    if not stem:
        return None
    return stem[:-1] + bytes((stem[-1] + 1,))


def _version(row: _Cells, *, latest: bool) -> ObjectVersion:
    key, order, version_id, size, etag, modified_ms, owner, marker, attributes = row
    return ObjectVersion(
        key=key,
        order=order,  # type: ignore[arg-type] # cells are plain values of their NewTypes
        version_id=version_id,
        size=size,
        etag=etag,
        modified_ms=modified_ms,
        owner=owner,  # type: ignore[arg-type] # as is the owner
        delete_marker=bool(marker),
        latest=latest,
        attributes=NO_ATTRIBUTES if attributes == EMPTY else decode_attributes(attributes),
    )

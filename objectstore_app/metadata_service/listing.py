"""Pages of objects, versions and uploads; the cost follows the page, not the bucket.

Theory of operation. All three walk a primary key in order, (key, order) or (key, upload id), in one
snapshot. Where each row is an entry, one statement reads the whole page. Elsewhere rows may belong
to no entry of their own: they lie in a common prefix that is told already, are older versions or
delete markers. There the walk reads slices. While at least half of a slice is of use, the next one
is longer; else SQLite is asked for *heads*: a recursive statement that seeks from one key to the
next that matters, behind all versions of a key or behind a common prefix, whatever lies in it.

A page of objects reads at most LIST_ROWS_MAX rows and heads, then ends early: a long run of delete
markers is crossed page by page. Of versions and uploads each slice gives entries, so that a page's
limit bounds its work. Keys are compared as bytes; none is longer than KEY_BYTES_MAX or holds NUL.
"""

from __future__ import annotations

from typing import NamedTuple, cast

import apsw

from ..core.ids import BucketId
from ..core.limits import KEY_BYTES_MAX, LIST_ROWS_MAX
from .api import ObjectRow, ObjectsPage, Upload, UploadsPage, VersionRow, VersionsPage
from .ordering import order_of
from .pages import HOUR_MS
from .reads import bucket_state, decode_upload, named_order

_PROBE_ROWS = 8
_HEADS = 250
_BEHIND_ALL_KEYS = b"\xff" * (KEY_BYTES_MAX + 1)
_BEFORE_ALL_ORDERS = -(2**63)

_MODIFIED = f"v.modified_ms / {HOUR_MS}, v.modified_ms % {HOUR_MS}"
_OBJECT = f"v.key, {_MODIFIED}, v.etag, v.size, v.checksum, iif(:owners, v.owner, NULL), v.marker"
RUN_OF_OBJECTS = (
    f"SELECT {_OBJECT} FROM versions v"
    " WHERE bucket=:bucket AND (key, ord) > (:start, :behind) AND key<:end"
    " ORDER BY key, ord LIMIT :limit"
)
RUN_OF_VERSIONS = (
    f"SELECT key, version_id, {_MODIFIED}, etag, size, checksum, marker, owner, ord FROM versions v"
    " WHERE bucket=:bucket AND (key, ord) > (:start, :behind) AND key<:end"
    " ORDER BY key, ord LIMIT :limit"
)
RUN_OF_UPLOADS = (
    "SELECT key, upload, record, upload FROM uploads"
    " WHERE bucket=:bucket AND (key, upload) > (:start, :behind) AND key<:end"
    " ORDER BY key, upload LIMIT :limit"
)
_FIRST = (
    "SELECT {cell} FROM {table} n WHERE n.bucket=:bucket AND n.key>={start} AND n.key<:end"
    " ORDER BY n.key LIMIT 1"
)
_HEADS_FROM = (
    "WITH RECURSIVE heads({name}) AS ("
    f" SELECT ({_FIRST.replace('{start}', ':start')}) UNION ALL SELECT ({_FIRST})"
    " FROM heads h WHERE {goes_on} LIMIT :limit) "
)
_DELIMITER = "instr(substr(h.key, :behind_prefix), :delimiter)"
_BEHIND_GROUP = f"substr(h.key, 1, :behind_prefix + {_DELIMITER} - 2) || :behind_delimiter"
_CURRENT = (
    "(SELECT c.{column} FROM versions c WHERE c.bucket=:bucket AND c.key=h.key"
    " ORDER BY c.ord LIMIT 1)"
)
_TELLS_GROUP = f"{_DELIMITER} AND NOT {_CURRENT.format(column='marker')}"
# Behind the group that a head tells, else behind all versions of the key.
HEADS_OF_OBJECTS = (
    _HEADS_FROM.format(
        name="key",
        cell="n.key",
        table="versions",
        start=f"CAST(iif({_TELLS_GROUP}, {_BEHIND_GROUP}, h.key || x'00') AS BLOB)",
        goes_on="h.key IS NOT NULL",
    )
    + f"SELECT {_OBJECT} FROM heads h CROSS JOIN versions v"
    f" WHERE v.bucket=:bucket AND v.key=h.key AND v.ord={_CURRENT.format(column='ord')}"
)


def _groups_of(table: str) -> str:
    """One group after the other, each found behind the one before. Behind the last of them: what is
    shorter than any group where a key follows that is in none, NULL where no key follows.
    """
    delimiter = "instr(substr(n.key, :behind_prefix), :delimiter)"
    behind = "substr(h.name, 1, length(h.name) - :delimiter_size) || :behind_delimiter"
    return (
        _HEADS_FROM.format(
            name="name",
            cell=f"substr(n.key, 1, :before_group + {delimiter})",
            table=table,
            start=f"CAST({behind} AS BLOB)",
            goes_on="length(h.name) > :before_group",
        )
        + "SELECT name FROM heads"
    )


GROUPS_OF_VERSIONS = _groups_of("versions")
GROUPS_OF_UPLOADS = _groups_of("uploads")

_MARKER = 7
Bindings = dict[str, bytes | int | str | None]


def list_objects(
    connection: apsw.Connection,
    bucket: BucketId,
    prefix: bytes,
    after: bytes,
    delimiter: bytes,
    limit: int,
    *,
    owners: bool = False,
) -> ObjectsPage:
    """See MetadataClient.list_objects."""
    if limit <= 0:
        return ObjectsPage([], [])
    bindings = _bindings(bucket, prefix, delimiter)
    bindings["start"], bindings["owners"] = start_key(prefix, after, delimiter), owners
    bindings["behind"] = _BEFORE_ALL_ORDERS
    with connection:
        if bucket_state(connection, bucket).versioning:
            return _objects_in_slices(connection, bindings, prefix, delimiter, limit)
        rows, groups, end = _page(connection, _OBJECTS, bindings, prefix, delimiter, limit)
    objects = cast("list[ObjectRow]", rows)
    if end is None:
        return ObjectsPage(objects, groups)
    return ObjectsPage(objects, groups, truncated=True, next_after=end[0])


def _objects_in_slices(
    connection: apsw.Connection, bindings: Bindings, prefix: bytes, delimiter: bytes, limit: int
) -> ObjectsPage:
    objects: list[ObjectRow] = []
    groups: list[bytes] = []
    resume, position = b"", cast("bytes", bindings["start"])
    sql, size, left = RUN_OF_OBJECTS, _PROBE_ROWS, LIST_ROWS_MAX
    while left:
        room = limit - len(objects) - len(groups)
        size = min(size, left, room + 1)
        bindings["start"], bindings["limit"] = position, size
        rows: list[ObjectRow] = connection.execute(sql, bindings).fetchall()
        of_use = 0
        for row in rows:
            key = row[0]
            if key < position:
                continue
            of_use += 1
            position = key + b"\0"
            if row[_MARKER]:
                resume = position
                continue
            if not room:
                return ObjectsPage(objects, groups, truncated=True, next_after=resume)
            room -= 1
            group = common_prefix(key, prefix, delimiter) if delimiter else None
            if group is None:
                objects.append(row)
                resume = key
            else:
                groups.append(group)
                resume = group
                position = successor(group) or _BEHIND_ALL_KEYS
        if len(rows) < size:
            return ObjectsPage(objects, groups)
        left -= size
        sql, size = _next_slice(sql, size, of_use)
    return ObjectsPage(objects, groups, truncated=True, next_after=resume)


def _next_slice(sql: str, size: int, of_use: int) -> tuple[str, int]:
    """Which statement reads on, and how many rows."""
    if sql == HEADS_OF_OBJECTS:
        return RUN_OF_OBJECTS, _PROBE_ROWS
    if 2 * of_use < size:
        return HEADS_OF_OBJECTS, _HEADS
    return RUN_OF_OBJECTS, 8 * size


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
    bindings = _bindings(bucket, prefix, delimiter)
    start, behind = start_key(prefix, after_key, delimiter), _BEFORE_ALL_ORDERS
    continued = b""
    with connection:
        if after_version_id and after_key.startswith(prefix) and start == after_key + b"\0":
            start = after_key
            behind, newest = _resume_order(connection, bucket, after_key, after_version_id)
            continued = after_key if newest else b""
        bindings["start"], bindings["behind"] = start, behind
        rows, groups, end = _page(connection, _VERSIONS, bindings, prefix, delimiter, limit)
    versions = cast("list[VersionRow]", rows)
    if end is None:
        return VersionsPage(versions, groups, continued)
    return VersionsPage(versions, groups, continued, True, *end)


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
    bindings = _bindings(bucket, prefix, delimiter)
    start, behind = start_key(prefix, after_key, delimiter), ""
    if after_upload_id and after_key.startswith(prefix) and start == after_key + b"\0":
        start, behind = after_key, after_upload_id
    bindings["start"], bindings["behind"] = start, behind
    with connection:
        rows, groups, end = _page(connection, _UPLOADS, bindings, prefix, delimiter, limit)
    unsorted: list[Upload | bytes] = [decode_upload(cast("bytes", row[2])) for row in rows]
    unsorted += groups
    entries = tuple(sorted(unsorted, key=lambda one: one if isinstance(one, bytes) else one.key))
    if end is None:
        return UploadsPage(entries=entries, truncated=False)
    return UploadsPage(entries=entries, truncated=True, next_key=end[0], next_upload_id=end[1])


_Row = ObjectRow | VersionRow | tuple[bytes, str, bytes, str]
"""Key, name, …, and last what the primary key has besides the key."""


class _Table(NamedTuple):
    """How a table is read; `lowest` is less than all that its primary key has besides the key."""

    run: str
    groups: str
    lowest: int | str


# Where there never was versioning, each row is an object. Its last cell is 0: behind all orders.
_OBJECTS = _Table(RUN_OF_OBJECTS, GROUPS_OF_VERSIONS, _BEFORE_ALL_ORDERS)
_VERSIONS = _Table(RUN_OF_VERSIONS, GROUPS_OF_VERSIONS, _BEFORE_ALL_ORDERS)
_UPLOADS = _Table(RUN_OF_UPLOADS, GROUPS_OF_UPLOADS, "")


def _page(
    connection: apsw.Connection,
    table: _Table,
    bindings: Bindings,
    prefix: bytes,
    delimiter: bytes,
    limit: int,
) -> tuple[list[_Row], list[bytes], tuple[bytes, str] | None]:
    """Rows, groups, and behind which (key, name) the next page begins (None: there is none)."""
    entries: list[_Row] = []
    groups: list[bytes] = []
    if limit <= 0:
        return entries, groups, None
    last: _Row | None = None
    floor = b""
    size = _PROBE_ROWS if delimiter else limit + 1
    while True:
        room = limit - len(entries) - len(groups)
        bindings["limit"] = size = min(size, room + 1)
        rows: list[_Row] = connection.execute(table.run, bindings).fetchall()
        if not delimiter:
            entries, more = rows[:limit], rows[limit:]
            return entries, [], _end(entries[-1], []) if more else None
        of_use = 0
        for row in rows:
            key = row[0]
            if key < floor:
                continue
            if of_use == room:
                return entries, groups, _end(last, groups)
            of_use += 1
            group = common_prefix(key, prefix, delimiter)
            if group is None:
                entries.append(row)
                last = row
            else:
                groups.append(group)
                last, floor = None, successor(group) or _BEHIND_ALL_KEYS
        if len(rows) < size:
            return entries, groups, None
        if last is not None:
            bindings["start"], bindings["behind"] = last[0], last[-1]
            size *= 8
            continue
        bindings["start"], bindings["behind"] = floor, table.lowest
        if 2 * of_use >= size or not bindings["behind_delimiter"]:
            size *= 8
            continue
        room -= of_use
        found, ended = _groups_ahead(connection, table.groups, bindings, room + 1)
        groups += found[:room]
        if len(found) > room:
            return entries, groups, _end(None, groups)
        if ended:
            return entries, groups, None
        bindings["start"] = floor = successor(groups[-1]) or _BEHIND_ALL_KEYS
        size = _PROBE_ROWS


def _groups_ahead(
    connection: apsw.Connection, sql: str, bindings: Bindings, limit: int
) -> tuple[list[bytes], bool]:
    """The groups from the start on, up to the first key that is in none; whether that is all."""
    bindings["limit"] = min(_HEADS, limit)
    found: list[bytes | None] = [name for (name,) in connection.execute(sql, bindings)]
    last = found[-1]
    if last is None or len(last) <= cast("int", bindings["before_group"]):
        found.pop()
    return cast("list[bytes]", found), last is None


def _end(last: _Row | None, groups: list[bytes]) -> tuple[bytes, str]:
    """What a page ends with: its last row, else its last group."""
    return (groups[-1], "") if last is None else cast("tuple[bytes, str]", last[:2])


def _bindings(bucket: BucketId, prefix: bytes, delimiter: bytes) -> Bindings:
    """What the statements call the request; `delimiter` NULL is found in no key."""
    return {
        "bucket": bucket,
        "end": successor(prefix) or _BEHIND_ALL_KEYS,
        "behind_prefix": len(prefix) + 1,
        "before_group": len(prefix) + len(delimiter) - 1,
        "delimiter": delimiter or None,
        "delimiter_size": len(delimiter),
        "behind_delimiter": successor(delimiter),
    }


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
    """The first key that a page may show: behind `after`, and behind its whole common prefix. Where
    `after` ends with NUL it is that key itself (see `ObjectsPage`).
    """
    if after < prefix:
        return prefix
    if after.endswith(b"\0"):
        return after
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

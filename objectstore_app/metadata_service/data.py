"""A data shard: S3's rules for versions, conditions and deletes, decided in order.

A bucket without versioning keeps one version of a key, the `null` version. With versioning enabled
each write adds a version; suspended, a write replaces the null version and leaves the others. The
null version is found at once: it is the current one, or the table `nulls` names it (entered when a
newer version buries it). Multipart uploads are decided in `uploads.py`, rows changed in `rows.py`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import apsw

from ..core.errors import InvariantError
from ..core.ids import NULL_VERSION, BucketId, Sequence, UserId
from ..core.limits import CHUNK_NAMED_S_MAX, CODED_FRAME_BYTES_MORE, RECORD_BODY_BYTES_MAX
from ..media.api import Extent
from ..media.segments import chunk_segment_made_ms
from .api import (
    AbortUpload,
    Attributes,
    CloseBucket,
    CloseKey,
    Coding,
    CompleteUpload,
    CreateUpload,
    Deleted,
    DeleteKey,
    DeleteVersion,
    ForgetBucket,
    ForgetGarbage,
    MovePartBody,
    MoveVersionBody,
    OpenBucket,
    PutPart,
    PutVersion,
    RewrapVersion,
    SetObjectAcl,
    SetVersioning,
    WriteCondition,
    Written,
)
from .effects import (
    AclSet,
    BucketClosed,
    BucketOpened,
    KeyClosed,
    VersioningSet,
    VersionRemoved,
    VersionWritten,
)
from .errors import (
    BucketMissingError,
    BucketNotEmptyError,
    ChunksExpiredError,
    ConditionFailedError,
    KeyMissingError,
    RecordTooLargeError,
    VersionMissingError,
)
from .machine import Decision, Mutation
from .ordering import make_version_id, order_of, version_order
from .rows import BucketRow, DataRows
from .upkeep import UpkeepRules
from .uploads import UploadRules

_CURRENT = (
    "SELECT ord, version_id, size, etag, modified_ms, marker FROM versions"
    " WHERE bucket=? AND key=? ORDER BY ord LIMIT 1"
)
_BY_ORDER = (
    "SELECT ord, version_id, size, etag, modified_ms, marker FROM versions"
    " WHERE bucket=? AND key=? AND ord=?"
)


class Found(NamedTuple):
    """What decisions need to know of a version's row."""

    order: int
    version_id: str
    size: int
    etag: str
    modified_ms: int
    marker: int


class DataMachine:
    """Decides the mutations of buckets' contents; `random_bits(n)` makes ids unguessable."""

    def __init__(self, connection: apsw.Connection, random_bits: Callable[[int], int]) -> None:
        self._db = connection
        self._cursor = connection.cursor()
        self._random_bits = random_bits
        self._rows = DataRows(connection)
        self._uploads = UploadRules(connection, random_bits)
        self._upkeep = UpkeepRules(connection, self._rows.keys)
        self.apply = self._rows.apply
        self.flush = self._rows.flush
        self.forget = self._rows.forget

    def decide(self, mutation: Mutation, sequence: Sequence, now_ms: int) -> Decision:
        if isinstance(mutation, PutVersion):
            return self._put(mutation, sequence, now_ms)
        match mutation:
            case DeleteKey():
                return self._delete_key(mutation, sequence, now_ms)
            case DeleteVersion():
                return self._delete_version(mutation, now_ms)
            case SetObjectAcl():
                return self._set_acl(mutation)
            case CreateUpload():
                self._open_bucket(mutation.bucket)
                return self._uploads.create(mutation, sequence, now_ms)
            case PutPart():
                self._open_bucket(mutation.bucket)
                check_body(mutation.key, mutation.data, mutation.coding)
                if mutation.extents:
                    check_chunks(mutation.key, mutation.extents, now_ms)
                self._rows.keys.check_open(run.key for run in mutation.coding)
                return self._uploads.put_part(mutation, now_ms)
            case CompleteUpload():
                return self._complete(mutation, sequence, now_ms)
            case AbortUpload():
                self._open_bucket(mutation.bucket)
                return self._uploads.abort(mutation, now_ms)
            case OpenBucket() | CloseBucket() | SetVersioning():
                return self._bucket(mutation, now_ms)
            case CloseKey(key=key):
                return Decision(KeyClosed(key) if self._rows.keys.may_close(key) else None, None)
            case (
                MoveVersionBody()
                | MovePartBody()
                | RewrapVersion()
                | ForgetGarbage()
                | ForgetBucket()
            ):
                return self._upkeep.decide(mutation, now_ms)
        raise InvariantError("decide", f"{type(mutation).__name__} is not a data shard's")

    # --- buckets ---

    def _bucket(self, mutation: OpenBucket | CloseBucket | SetVersioning, now_ms: int) -> Decision:
        row = self._rows.bucket(mutation.bucket)
        if isinstance(mutation, OpenBucket):
            if row is not None and row.closed:
                raise BucketMissingError("open bucket", str(mutation.bucket), "it was deleted")
            return Decision(None if row else BucketOpened(mutation.bucket), None)
        if isinstance(mutation, CloseBucket):
            if row is not None and row.closed:
                return Decision(None, None)
            held = self._cursor.execute(
                "SELECT 1 FROM versions WHERE bucket=? LIMIT 1", (mutation.bucket,)
            ).fetchall()
            if held:
                raise BucketNotEmptyError("delete bucket", str(mutation.bucket))
            return Decision(BucketClosed(mutation.bucket, now_ms), None)
        if self._open_bucket(mutation.bucket).versioning == mutation.state:
            return Decision(None, None)
        return Decision(VersioningSet(mutation.bucket, mutation.state), None)

    def _open_bucket(self, bucket: BucketId) -> BucketRow:
        row = self._rows.bucket(bucket)
        if row is None or row.closed:
            raise BucketMissingError("find bucket", str(bucket))
        return row

    # --- versions ---

    def _put(self, put: PutVersion, sequence: int, now_ms: int) -> Decision:
        row = self._open_bucket(put.bucket)
        check_body(put.key, put.data, put.coding)
        if put.extents:
            check_chunks(put.key, put.extents, now_ms)
        if put.coding:
            self._rows.keys.check_open(run.key for run in put.coding)
        current = self._current(put.bucket, put.key)
        check_condition(put.key, put.condition, current)
        effect = self._new_version(
            row, put.bucket, put.key, current, sequence,
            size=put.size, etag=put.etag, modified_ms=now_ms, owner=put.owner,
            attributes=put.attributes, extents=put.extents, coding=put.coding,
        )  # fmt: skip
        return Decision(effect, written(row, effect), put.data)

    def _complete(self, request: CompleteUpload, sequence: int, now_ms: int) -> Decision:
        row = self._open_bucket(request.bucket)
        done = self._uploads.completed(request)
        if done is not None:
            return Decision(None, done)
        numbers, size = self._uploads.check_parts(request)
        current = self._current(request.bucket, request.key)
        check_condition(request.key, request.condition, current)
        effect = self._new_version(
            row, request.bucket, request.key, current, sequence,
            size=size, etag=request.etag, modified_ms=now_ms,
            owner=self._uploads.owner(request), attributes=request.attributes,
            upload=request.upload_id, part_numbers=numbers,
            parts_digest=self._uploads.digest(request),
            keeps_parts=self._uploads.parts_are_many(request),
        )  # fmt: skip
        return Decision(effect, written(row, effect))

    def _delete_key(self, delete: DeleteKey, sequence: int, now_ms: int) -> Decision:
        row = self._open_bucket(delete.bucket)
        current = self._current(delete.bucket, delete.key)
        check_condition(delete.key, delete.condition, current)
        if not row.versioning:
            if current is None:
                return Decision(None, Deleted(found=False))
            removed = VersionRemoved(
                delete.bucket, delete.key, current.order, 0 if current.marker else -1, now_ms
            )
            return Decision(removed, Deleted())
        effect = self._new_version(
            row, delete.bucket, delete.key, current, sequence,
            modified_ms=now_ms, owner=delete.owner, marker=True,
        )  # fmt: skip
        result = Deleted(
            version_id=effect.version_id, delete_marker=True, found=current is not None
        )
        return Decision(effect, result)

    def _delete_version(self, delete: DeleteVersion, now_ms: int) -> Decision:
        self._open_bucket(delete.bucket)
        found = self._named(delete.bucket, delete.key, delete.version_id)
        if found is None:
            return Decision(None, Deleted(version_id=delete.version_id, found=False))
        objects = 0
        first_two = self._cursor.execute(
            "SELECT ord, marker FROM versions WHERE bucket=? AND key=? ORDER BY ord LIMIT 2",
            (delete.bucket, delete.key),
        ).fetchall()
        if first_two[0][0] == found.order:
            live_after = len(first_two) == 2 and not first_two[1][1]
            objects = int(live_after) - int(not found.marker)
        effect = VersionRemoved(delete.bucket, delete.key, found.order, objects, now_ms)
        return Decision(
            effect, Deleted(version_id=delete.version_id, delete_marker=bool(found.marker))
        )

    def _set_acl(self, request: SetObjectAcl) -> Decision:
        row = self._open_bucket(request.bucket)
        if request.version_id:
            found = self._named(request.bucket, request.key, request.version_id)
            if found is None or found.marker:
                raise VersionMissingError("set acl", request.version_id)
        else:
            found = self._current(request.bucket, request.key)
            if found is None or found.marker:
                raise KeyMissingError("set acl", key_text(request.key))
        result = Written(
            version_id=found.version_id if row.versioning else "",
            etag=found.etag,
            modified_ms=found.modified_ms,
            size=found.size,
        )
        return Decision(AclSet(request.bucket, request.key, found.order, request.acl), result)

    def _new_version(
        self,
        row: BucketRow,
        bucket: BucketId,
        key: bytes,
        current: Found | None,
        sequence: int,
        *,
        modified_ms: int,
        owner: UserId,
        size: int = 0,
        etag: str = "",
        marker: bool = False,
        attributes: Attributes = Attributes(),  # noqa: B008 - immutable
        extents: tuple[Extent, ...] = (),
        upload: str = "",
        part_numbers: tuple[int, ...] = (),
        parts_digest: bytes = b"",
        coding: tuple[Coding, ...] = (),
        keeps_parts: bool = False,
    ) -> VersionWritten:
        """What writing a version does under the bucket's versioning state."""
        version_id = NULL_VERSION
        buries = 0
        replaces: tuple[int, ...] = ()
        current_is_null = current is not None and current.version_id == NULL_VERSION
        if row.versioning == "Enabled":
            version_id = make_version_id(version_order(sequence), self._random_bits(64))
            if current is not None and current_is_null:
                buries = current.order
        elif current is not None and current_is_null:
            replaces = (current.order,)
        elif row.versioning:
            null_order = self._buried_null(bucket, key)
            replaces = (null_order,) if null_order is not None else ()
        live_before = current is not None and not current.marker
        return VersionWritten(
            bucket, key, version_id, size, etag, modified_ms, owner, marker, attributes, extents,
            replaces, buries, int(not marker) - int(live_before),
            upload, part_numbers, parts_digest, coding, keeps_parts,
        )  # fmt: skip

    def _current(self, bucket: BucketId, key: bytes) -> Found | None:
        rows = self._cursor.execute(_CURRENT, (bucket, key)).fetchall()
        return Found(*rows[0]) if rows else None

    def _named(self, bucket: BucketId, key: bytes, version_id: str) -> Found | None:
        if version_id == NULL_VERSION:
            current = self._current(bucket, key)
            if current is None or current.version_id == NULL_VERSION:
                return current
            order = self._buried_null(bucket, key)
        else:
            order = order_of(version_id)
        if order is None:
            return None
        rows = self._cursor.execute(_BY_ORDER, (bucket, key, order)).fetchall()
        return Found(*rows[0]) if rows and rows[0][1] == version_id else None

    def _buried_null(self, bucket: BucketId, key: bytes) -> int | None:
        rows = self._cursor.execute(
            "SELECT ord FROM nulls WHERE bucket=? AND key=?", (bucket, key)
        ).fetchall()
        return int(rows[0][0]) if rows else None


def written(row: BucketRow, effect: VersionWritten) -> Written:
    return Written(
        version_id=effect.version_id if row.versioning else "",
        etag=effect.etag,
        modified_ms=effect.modified_ms,
        size=effect.size,
    )


def check_condition(key: bytes, condition: WriteCondition, current: Found | None) -> None:
    """Raises KeyMissingError or ConditionFailedError."""
    if not condition.if_match and not condition.if_none_match:
        return
    etag = None if current is None or current.marker else current.etag
    if condition.if_match:
        if etag is None:
            raise KeyMissingError("If-Match", key_text(key))
        if condition.if_match != "*" and condition.if_match.strip('"') != etag:
            raise ConditionFailedError("If-Match", key_text(key))
    if condition.if_none_match and etag is not None:
        unwanted = condition.if_none_match.strip('"')
        if unwanted in ("*", etag):
            raise ConditionFailedError("If-None-Match", key_text(key))


def check_body(key: bytes, data: bytes, coding: tuple[Coding, ...]) -> None:
    if len(data) > RECORD_BODY_BYTES_MAX + len(coding) * CODED_FRAME_BYTES_MORE:
        raise RecordTooLargeError("write", key_text(key), "the body belongs into chunks")


def check_chunks(key: bytes, extents: tuple[Extent, ...], now_ms: int) -> None:
    """Raises ChunksExpiredError where Atlas may have taken the chunks for orphans by now."""
    oldest_ms = min(chunk_segment_made_ms(extent.segment) for extent in extents)
    if now_ms - oldest_ms > CHUNK_NAMED_S_MAX * 1000:
        raise ChunksExpiredError("write", key_text(key), "the body took too long: send it again")


def key_text(key: bytes) -> str:
    return key.decode("utf-8", "backslashreplace")

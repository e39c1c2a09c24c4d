"""A data shard's rows: the only code that changes them, for commits and for replay alike.

Buckets' rows are kept in memory and written back by `flush`, once a commit. What a change frees
becomes garbage rows in the same transaction.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable
from dataclasses import dataclass

import apsw
import msgspec

from ..core.errors import InvariantError
from ..core.ids import BucketId
from ..core.limits import COMPLETED_UPLOADS_KEPT, INLINE_BYTES_MAX
from ..media.api import Extent
from .api import Attributes, Body, Coding, Written
from .effects import (
    AclSet,
    BucketClosed,
    BucketForgotten,
    BucketOpened,
    Effect,
    GarbageForgotten,
    KeyClosed,
    KeysRewrapped,
    PartBodyMoved,
    PartWritten,
    UploadAborted,
    UploadCreated,
    VersionBodyMoved,
    VersioningSet,
    VersionRemoved,
    VersionWritten,
)
from .keys import KeyUse, rewrapped
from .pages import checksum_text

encode = msgspec.msgpack.Encoder().encode
decode_body = msgspec.msgpack.Decoder(Body).decode
decode_extents = msgspec.msgpack.Decoder(tuple[Extent, ...]).decode
decode_coding = msgspec.msgpack.Decoder(tuple[Coding, ...]).decode
decode_attributes = msgspec.msgpack.Decoder(Attributes).decode
EMPTY = encode(Attributes())
_EMPTY_ATTRIBUTES = Attributes()
_BUCKETS_CACHED_MAX = 10_000
_VERSION = " WHERE bucket=? AND key=? AND ord=?"
_PART = " WHERE bucket=? AND upload=? AND number=?"


@dataclass(slots=True)
class BucketRow:
    versioning: str = ""
    closed: int = 0
    objects: int = 0
    versions: int = 0
    size_bytes: int = 0
    uploads: int = 0


class DataRows:
    """Applies effects inside the transaction that the shard holds open."""

    def __init__(self, connection: apsw.Connection) -> None:
        self._cursor = connection.cursor()
        self._cache: OrderedDict[BucketId, BucketRow] = OrderedDict()
        self._changed: set[BucketId] = set()
        self.keys = KeyUse(connection)

    def bucket(self, bucket: BucketId) -> BucketRow | None:
        row = self._cache.get(bucket)
        if row is None:
            found = self._cursor.execute(
                "SELECT versioning, closed, objects, versions, size_bytes, uploads FROM buckets"
                " WHERE bucket=?",
                (bucket,),
            ).fetchall()
            if not found:
                return None
            row = self._cache[bucket] = BucketRow(*found[0])
        return row

    def apply(
        self, effect: Effect, sequence: int, body: bytes | memoryview, extent: Extent | None
    ) -> None:
        if isinstance(effect, VersionWritten):
            self._write_version(effect, sequence, body, extent)
            return
        match effect:
            case VersionRemoved():
                self._change(effect.bucket).objects += effect.objects
                self._remove(effect.bucket, effect.key, effect.order, effect.at_ms)
            case PartWritten():
                self._write_part(effect, extent)
            case UploadCreated(bucket, upload):
                self._cursor.execute(
                    "INSERT INTO uploads VALUES (?, ?, ?, ?)",
                    (bucket, upload.key, upload.upload_id, encode(upload)),
                )
                self._change(bucket).uploads += 1
            case UploadAborted():
                self._end_upload(effect.bucket, effect.key, effect.upload, effect.at_ms)
            case AclSet():
                self._set_acl(effect)
            case VersioningSet(bucket, state):
                self._change(bucket).versioning = state
            case BucketOpened(bucket):
                self._cache[bucket] = BucketRow()
                self._changed.add(bucket)
            case BucketClosed(bucket, at_ms):
                self._close(bucket, at_ms)
            case VersionBodyMoved() | PartBodyMoved() | GarbageForgotten() | BucketForgotten():
                self._keep_up(effect, extent)
            case KeyClosed(key):
                self.keys.close(key)
            case KeysRewrapped():
                self._rewrap(effect)
            case _:
                raise InvariantError("apply", f"{type(effect).__name__} is not a data shard's")

    def flush(self) -> None:
        for bucket in sorted(self._changed):
            row = self._cache[bucket]
            self._cursor.execute(
                "INSERT OR REPLACE INTO buckets VALUES (?, ?, ?, ?, ?, ?, ?)",
                (
                    bucket, row.versioning, row.closed, row.objects, row.versions, row.size_bytes,
                    row.uploads,
                ),
            )  # fmt: skip
        self._changed.clear()
        self.keys.flush()
        while len(self._cache) > _BUCKETS_CACHED_MAX:
            self._cache.popitem(last=False)

    def forget(self) -> None:
        self._cache.clear()
        self._changed.clear()
        self.keys.forget()

    def _change(self, bucket: BucketId) -> BucketRow:
        row = self.bucket(bucket)
        if row is None:
            raise InvariantError("apply", f"bucket {bucket} has no row")
        self._changed.add(bucket)
        return row

    def _write_version(
        self, effect: VersionWritten, sequence: int, body: bytes | memoryview, extent: Extent | None
    ) -> None:
        bucket = effect.bucket
        row = self._change(bucket)
        for order in effect.replaces:
            self._remove(bucket, effect.key, order, effect.modified_ms)
        if effect.buries:
            # The row may be there: buried once, current again after deletes, now buried again.
            self._cursor.execute(
                "INSERT OR REPLACE INTO nulls VALUES (?, ?, ?)", (bucket, effect.key, effect.buries)
            )
        held = Body(extents=effect.extents, coding=effect.coding)
        if extent is not None:
            if extent.length <= INLINE_BYTES_MAX:
                held = Body(inline=bytes(body), coding=effect.coding)
            else:
                held = Body(extents=(extent,), coding=effect.coding)
        if effect.coding:
            self.keys.count(effect.coding, 1)
        if effect.upload:
            held = self._end_upload(
                bucket, effect.key, effect.upload, effect.modified_ms, effect.part_numbers,
                keep=effect.keeps_parts,
            )  # fmt: skip
            self._remember(effect, sequence, row)
        attributes = effect.attributes
        self._cursor.execute(
            "INSERT INTO versions VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (
                bucket, effect.key, -sequence, effect.version_id, effect.size, effect.etag,
                effect.modified_ms, effect.owner, int(effect.marker), checksum_text(attributes),
                EMPTY if attributes == _EMPTY_ATTRIBUTES else encode(attributes),
                encode(held),
            ),
        )  # fmt: skip
        row.objects += effect.objects
        if not effect.marker:
            row.versions += 1
            row.size_bytes += effect.size

    def _remove(self, bucket: BucketId, key: bytes, order: int, at_ms: int) -> None:
        removed = self._cursor.execute(
            "DELETE FROM versions WHERE bucket=? AND key=? AND ord=? RETURNING size, marker, body",
            (bucket, key, order),
        ).fetchall()
        if not removed:
            raise InvariantError("apply", f"bucket {bucket} lacks a version that is to go")
        size, marker, body = removed[0]
        row = self._change(bucket)
        if not marker:
            row.versions -= 1
            row.size_bytes -= size
        if row.versioning:
            self._cursor.execute(
                "DELETE FROM nulls WHERE bucket=? AND key=? AND ord=?", (bucket, key, order)
            )
        held = decode_body(body)
        if held.coding:
            self.keys.count(held.coding, -1)
        self._discard(held.extents, at_ms)
        if held.upload:
            parts = self._cursor.execute(
                "DELETE FROM parts WHERE bucket=? AND upload=? RETURNING extents",
                (bucket, held.upload),
            ).fetchall()
            for (raw,) in parts:
                self._discard(decode_extents(raw), at_ms)

    def _discard(self, extents: Iterable[Extent], at_ms: int) -> None:
        for extent in extents:
            self._cursor.execute(
                "INSERT INTO garbage VALUES (?, ?, ?, ?, ?)",
                (extent.segment, extent.offset, extent.length, int(extent.blocks), at_ms),
            )

    def _set_acl(self, effect: AclSet) -> None:
        where = (effect.bucket, effect.key, effect.order)
        ((raw,),) = self._cursor.execute(
            "SELECT attributes FROM versions WHERE bucket=? AND key=? AND ord=?", where
        ).fetchall()
        attributes = msgspec.structs.replace(decode_attributes(raw), acl=effect.acl)
        self._cursor.execute(
            "UPDATE versions SET attributes=? WHERE bucket=? AND key=? AND ord=?",
            (encode(attributes), *where),
        )

    def _write_part(self, effect: PartWritten, extent: Extent | None) -> None:
        old = self._cursor.execute(
            "DELETE FROM parts WHERE bucket=? AND upload=? AND number=? RETURNING extents, coding",
            (effect.bucket, effect.upload, effect.number),
        ).fetchall()
        for raw, coding in old:
            self._discard(decode_extents(raw), effect.modified_ms)
            self.keys.count(decode_coding(coding), -1)
        extents = effect.extents if extent is None else (extent,)
        self.keys.count(effect.coding, 1)
        self._cursor.execute(
            "INSERT INTO parts VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (
                effect.bucket, effect.upload, effect.number, effect.size, effect.etag,
                effect.modified_ms, encode(effect.checksums), encode(extents),
                encode(effect.coding),
            ),
        )  # fmt: skip

    def _end_upload(
        self,
        bucket: BucketId,
        key: bytes,
        upload: str,
        at_ms: int,
        used: tuple[int, ...] = (),
        *,
        keep: bool = False,
    ) -> Body:
        """Remove the upload and its parts; return the body made of the parts used, discard the
        others. With `keep` the used ones' rows stay, under the numbers they have: whoever walks
        over the rows meanwhile must not miss one.
        """
        kept: list[tuple[tuple[Extent, ...], tuple[Coding, ...]]] = []
        wanted = frozenset(used)
        parts = self._cursor.execute(
            "SELECT number, extents, coding FROM parts WHERE bucket=? AND upload=? ORDER BY number",
            (bucket, upload),
        ).fetchall()
        for number, raw_extents, raw_coding in parts:
            if keep and number in wanted:
                continue
            extents, coding = decode_extents(raw_extents), decode_coding(raw_coding)
            if number in wanted:
                kept.append((extents, coding))
            else:
                self._discard(extents, at_ms)
                self.keys.count(coding, -1)
                self._cursor.execute(f"DELETE FROM parts{_PART}", (bucket, upload, number))
        if not keep:
            self._cursor.execute("DELETE FROM parts WHERE bucket=? AND upload=?", (bucket, upload))
        self._cursor.execute(
            "DELETE FROM uploads WHERE bucket=? AND key=? AND upload=?", (bucket, key, upload)
        )
        self._change(bucket).uploads -= 1
        if keep:
            in_sequence = used == tuple(range(1, len(used) + 1))
            return Body(upload=upload, part_numbers=() if in_sequence else used)
        return _joined(kept)

    def _remember(self, effect: VersionWritten, sequence: int, row: BucketRow) -> None:
        """Keep the answer for a repeated completion; the oldest ones are dropped."""
        answer = Written(
            version_id=effect.version_id if row.versioning else "",
            etag=effect.etag,
            modified_ms=effect.modified_ms,
            size=effect.size,
        )
        self._cursor.execute(
            "INSERT INTO completed VALUES (?, ?, ?, ?, ?, ?)",
            (
                sequence, effect.bucket, effect.key, effect.upload, effect.parts_digest,
                encode(answer),
            ),
        )  # fmt: skip
        self._cursor.execute(
            "DELETE FROM completed WHERE sequence <= (SELECT sequence FROM completed"
            " ORDER BY sequence DESC LIMIT 1 OFFSET ?)",
            (COMPLETED_UPLOADS_KEPT,),
        )

    def _close(self, bucket: BucketId, at_ms: int) -> None:
        if self.bucket(bucket) is None:
            self._cache[bucket] = BucketRow()
        uploads = self._cursor.execute(
            "SELECT key, upload FROM uploads WHERE bucket=?", (bucket,)
        ).fetchall()
        for key, upload in uploads:
            self._end_upload(bucket, key, upload, at_ms)
        self._change(bucket).closed = 1

    def _rewrap(self, effect: KeysRewrapped) -> None:
        where = (effect.bucket, effect.key, effect.order)
        body = decode_body(self._only("SELECT body FROM versions", _VERSION, where))
        coding = rewrapped(body.coding, effect.wraps)
        self.keys.count(body.coding, -1)
        self.keys.count(coding, 1)
        changed = encode(msgspec.structs.replace(body, coding=coding))
        self._cursor.execute(f"UPDATE versions SET body=?{_VERSION}", (changed, *where))

    # --- upkeep ---

    def _keep_up(
        self,
        effect: VersionBodyMoved | PartBodyMoved | GarbageForgotten | BucketForgotten,
        extent: Extent | None,
    ) -> None:
        match effect:
            case VersionBodyMoved():
                version = (effect.bucket, effect.key, effect.order)
                body = decode_body(self._only("SELECT body FROM versions", _VERSION, version))
                extents = self._moved(effect, body.extents, extent)
                raw = encode(msgspec.structs.replace(body, extents=extents))
                self._cursor.execute(f"UPDATE versions SET body=?{_VERSION}", (raw, *version))
            case PartBodyMoved():
                part = (effect.bucket, effect.upload, effect.number)
                held = decode_extents(self._only("SELECT extents FROM parts", _PART, part))
                raw = encode(self._moved(effect, held, extent))
                self._cursor.execute(f"UPDATE parts SET extents=?{_PART}", (raw, *part))
            case GarbageForgotten(segment, start, end, freed_ms):
                self._cursor.execute(
                    "DELETE FROM garbage WHERE segment=? AND offset>=? AND offset<?"
                    " AND freed_ms<=?",
                    (segment, start, end, freed_ms),
                )
            case BucketForgotten(bucket):
                self._cache.pop(bucket, None)
                self._changed.discard(bucket)
                self._cursor.execute("DELETE FROM buckets WHERE bucket=?", (bucket,))

    def _only(self, select: str, where: str, values: tuple[object, ...]) -> bytes:
        rows = self._cursor.execute(select + where, values).fetchall()
        if not rows:
            raise InvariantError("apply", f"no row {values!r} to change")
        raw: bytes = rows[0][0]
        return raw

    def _moved(
        self,
        effect: VersionBodyMoved | PartBodyMoved,
        extents: tuple[Extent, ...],
        new: Extent | None,
    ) -> tuple[Extent, ...]:
        """The extents with `new` in the place of the one that the effect names."""
        place = (effect.segment, effect.offset)
        old = [one for one in extents if (one.segment, one.offset) == place]
        if new is None or len(old) != 1:
            raise InvariantError("apply", f"no body to move at {place}")
        self._discard(old, effect.at_ms)
        return tuple(new if one is old[0] else one for one in extents)


def _joined(parts: list[tuple[tuple[Extent, ...], tuple[Coding, ...]]]) -> Body:
    """The parts as one body. Where one of them is coded, plain ones get runs that say so."""
    extents = tuple(extent for held, _ in parts for extent in held)
    if not any(coding for _, coding in parts):
        return Body(extents=extents)
    runs: list[Coding] = []
    for held, coding in parts:
        if coding:
            runs += coding
        elif held:
            runs.append(Coding(tuple(extent.length for extent in held)))
    return Body(extents=extents, coding=tuple(runs))

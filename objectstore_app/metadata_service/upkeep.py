"""The rules of Atlas' mutations: moving bodies out of old segments, wrapping data keys anew,
forgetting what is gone.

A body is moved by compare-and-swap: Atlas read the row some time ago, so its move counts only if
the row still names the bytes that were read.
"""

from __future__ import annotations

import apsw

from ..core.ids import BucketId
from ..media.api import Extent
from .api import (
    ForgetBucket,
    ForgetGarbage,
    Moved,
    MovePartBody,
    MoveVersionBody,
    RewrapVersion,
)
from .effects import (
    BucketForgotten,
    GarbageForgotten,
    KeysRewrapped,
    PartBodyMoved,
    VersionBodyMoved,
)
from .keys import KeyUse, rewrapped
from .machine import Decision
from .rows import decode_body, decode_extents

Upkeep = MoveVersionBody | MovePartBody | RewrapVersion | ForgetGarbage | ForgetBucket


class UpkeepRules:
    """Decides; `rows.py` applies."""

    def __init__(self, connection: apsw.Connection, keys: KeyUse) -> None:
        self._cursor = connection.cursor()
        self._keys = keys

    def decide(self, request: Upkeep, now_ms: int) -> Decision:
        match request:
            case MoveVersionBody():
                return self._move_version(request, now_ms)
            case MovePartBody():
                return self._move_part(request, now_ms)
            case RewrapVersion():
                return self._rewrap(request)
            case ForgetGarbage(segment=segment, start=start, end=end, freed_ms=freed_ms):
                return Decision(GarbageForgotten(segment, start, end, freed_ms), None)
            case ForgetBucket(bucket=bucket):
                return self._forget_bucket(bucket)

    def _move_version(self, request: MoveVersionBody, now_ms: int) -> Decision:
        rows = self._cursor.execute(
            "SELECT body FROM versions WHERE bucket=? AND key=? AND ord=?",
            (request.bucket, request.key, request.order),
        ).fetchall()
        if not rows or not _names(decode_body(rows[0][0]).extents, request):
            return Decision(None, Moved(moved=False))
        old = request.old
        effect = VersionBodyMoved(
            request.bucket, request.key, request.order, old.segment, old.offset, now_ms
        )
        return Decision(effect, Moved(), request.data)

    def _move_part(self, request: MovePartBody, now_ms: int) -> Decision:
        rows = self._cursor.execute(
            "SELECT extents FROM parts WHERE bucket=? AND upload=? AND number=?",
            (request.bucket, request.upload_id, request.number),
        ).fetchall()
        if not rows or not _names(decode_extents(rows[0][0]), request):
            return Decision(None, Moved(moved=False))
        old = request.old
        effect = PartBodyMoved(
            request.bucket, request.upload_id, request.number, old.segment, old.offset, now_ms
        )
        return Decision(effect, Moved(), request.data)

    def _rewrap(self, request: RewrapVersion) -> Decision:
        self._keys.check_open(wrap.key for wrap in request.wraps)
        rows = self._cursor.execute(
            "SELECT body FROM versions WHERE bucket=? AND key=? AND ord=?",
            (request.bucket, request.key, request.order),
        ).fetchall()
        coding = decode_body(rows[0][0]).coding if rows else ()
        if rewrapped(coding, request.wraps) == coding:
            return Decision(None, Moved(moved=False))
        effect = KeysRewrapped(request.bucket, request.key, request.order, request.wraps)
        return Decision(effect, Moved())

    def _forget_bucket(self, bucket: BucketId) -> Decision:
        rows = self._cursor.execute(
            "SELECT 1 FROM buckets WHERE bucket=? AND closed", (bucket,)
        ).fetchall()
        return Decision(BucketForgotten(bucket) if rows else None, None)


def _names(extents: tuple[Extent, ...], request: MoveVersionBody | MovePartBody) -> bool:
    """Whether the row names the old extent and the data is as long as it."""
    return request.old in extents and len(request.data) == request.old.length

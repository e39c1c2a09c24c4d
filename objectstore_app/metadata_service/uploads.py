"""The rules of multipart uploads: what a part, a completion and an abort may do."""

from __future__ import annotations

import hashlib
from collections.abc import Callable

import apsw
import msgspec

from ..core.ids import UserId
from ..core.limits import PART_BYTES_MIN, ROW_EXTENTS_BYTES_MAX
from .api import (
    AbortUpload,
    CompletedPart,
    CompleteUpload,
    CreateUpload,
    Part,
    PutPart,
    Upload,
    Written,
)
from .effects import PartWritten, UploadAborted, UploadCreated
from .errors import InvalidPartError, PartTooSmallError, UploadMissingError
from .machine import Decision
from .ordering import make_upload_id

_decode_upload = msgspec.msgpack.Decoder(Upload).decode
NOT_CODED = msgspec.msgpack.encode(())
_decode_written = msgspec.msgpack.Decoder(Written).decode


class UploadRules:
    """Decides; `rows.py` applies."""

    def __init__(self, connection: apsw.Connection, random_bits: Callable[[int], int]) -> None:
        self._cursor = connection.cursor()
        self._random_bits = random_bits

    def create(self, request: CreateUpload, sequence: int, now_ms: int) -> Decision:
        upload = Upload(
            key=request.key,
            upload_id=make_upload_id(sequence, self._random_bits(64)),
            initiated_ms=now_ms,
            owner=request.owner,
            attributes=request.attributes,
            checksum_algorithm=request.checksum_algorithm,
            checksum_type=request.checksum_type,
        )
        return Decision(UploadCreated(request.bucket, upload), upload)

    def put_part(self, request: PutPart, now_ms: int) -> Decision:
        self._upload(request)
        effect = PartWritten(
            request.bucket, request.upload_id, request.number, request.size, request.etag, now_ms,
            request.checksums, request.extents, request.coding,
        )  # fmt: skip
        part = Part(
            number=request.number,
            size=request.size,
            etag=request.etag,
            modified_ms=now_ms,
            checksums=request.checksums,
        )
        return Decision(effect, part, request.data)

    def abort(self, request: AbortUpload, now_ms: int) -> Decision:
        self._upload(request)
        return Decision(UploadAborted(request.bucket, request.key, request.upload_id, now_ms), None)

    def completed(self, request: CompleteUpload) -> Written | None:
        """The answer that a completion with the same parts was given."""
        rows = self._cursor.execute(
            "SELECT written FROM completed WHERE upload=? AND bucket=? AND key=? AND digest=?",
            (request.upload_id, request.bucket, request.key, self.digest(request)),
        ).fetchall()
        return _decode_written(rows[0][0]) if rows else None

    def check_parts(self, request: CompleteUpload) -> tuple[tuple[int, ...], int]:
        """The part numbers and the size of the whole. Raises what CompleteUpload names."""
        self._upload(request)
        if not request.parts:
            raise InvalidPartError("complete upload", request.upload_id, "no parts are named")
        held: dict[int, tuple[int, str]] = {
            number: (size, etag)
            for number, size, etag in self._cursor.execute(
                "SELECT number, size, etag FROM parts WHERE bucket=? AND upload=?",
                (request.bucket, request.upload_id),
            ).fetchall()
        }
        total = 0
        before = 0
        for index, part in enumerate(request.parts):
            size, etag = held.get(part.number, (0, None))
            if etag is None or part.etag.strip('"') != etag:
                raise InvalidPartError("complete upload", request.upload_id, f"part {part.number}")
            if part.number <= before:
                raise InvalidPartError("complete upload", request.upload_id, "parts out of order")
            if size < PART_BYTES_MIN and index < len(request.parts) - 1:
                raise PartTooSmallError("complete upload", request.upload_id, f"part {part.number}")
            before = part.number
            total += size
        return tuple(part.number for part in request.parts), total

    def parts_are_many(self, request: CompleteUpload) -> bool:
        """Whether the parts' extents are too many for a row. Coded parts are put together all the
        same: keys are wrapped anew in versions only.
        """
        ((extents_bytes, coded),) = self._cursor.execute(
            "SELECT sum(length(extents)), max(coding <> ?) FROM parts WHERE bucket=? AND upload=?",
            (NOT_CODED, request.bucket, request.upload_id),
        ).fetchall()
        return extents_bytes > ROW_EXTENTS_BYTES_MAX and not coded

    def owner(self, request: CompleteUpload) -> UserId:
        return self._upload(request).owner

    @staticmethod
    def digest(request: CompleteUpload) -> bytes:
        named = [CompletedPart(part.number, part.etag.strip('"')) for part in request.parts]
        return hashlib.sha256(msgspec.msgpack.encode(named)).digest()

    def _upload(self, request: PutPart | CompleteUpload | AbortUpload) -> Upload:
        rows = self._cursor.execute(
            "SELECT record FROM uploads WHERE bucket=? AND key=? AND upload=?",
            (request.bucket, request.key, request.upload_id),
        ).fetchall()
        if not rows:
            raise UploadMissingError("find upload", request.upload_id)
        return _decode_upload(rows[0][0])

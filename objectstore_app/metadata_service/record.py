"""One record of a shard's log, encoded and decoded; no I/O (docs/formats/log.md).

A record is a header, a payload (the decided effect as msgpack) and a body (the bytes of a small
object). The record's checksum covers header and payload, and through `body_crc` the body: that is
also the checksum of the extent which names the body. It begins with the segment's salt, which no
client knows: bytes that look like a record inside a body are none.

`batch` is the sequence of the first record of the same append. Recovery needs it: after a power
loss the pages of the last append may survive in any combination, so damage is a torn tail as long
as nothing of a later append follows it.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator

import msgspec

from ..core.errors import invariant
from ..core.ids import Sequence
from ..media.api import LogPiece, LogSource
from ..media.errors import CorruptDataError
from ..media.segments import checksum, running_checksum

MAGIC = b"OREC"
RECORD_VERSION = 1
_HEADER = struct.Struct("<4sIHHIIIQQQ")
_SEAL = struct.Struct("<4sI")
_CHECKED = struct.Struct("<HHIIIQQQ")
HEADER_BYTES = _HEADER.size
NO_BODY_CRC = 0
_CHECKED_FROM = _SEAL.size
_SEARCH_BYTES = 1024 * 1024
_HELD_BYTES = 4 * 1024 * 1024
_ZEROS = bytes(_SEARCH_BYTES)

invariant(HEADER_BYTES == _SEAL.size + _CHECKED.size == 48, "docs/formats/log.md says so")


class Record(msgspec.Struct, frozen=True, gc=False):
    """A record found in a log, and where it and its body lie."""

    sequence: Sequence
    batch: Sequence
    epoch: int
    payload: memoryview
    body: memoryview
    body_crc: int
    segment: int
    offset: int
    body_offset: int
    end: int


class DamagedRecordError(Exception):
    """These bytes are not a whole record; the text says what is wrong."""


def encode(
    sequence: int, batch: int, epoch: int, payload: bytes, body_bytes: int, body_crc: int, salt: int
) -> bytes:
    """Header and payload of a record; the body's bytes follow."""
    checked = (
        _CHECKED.pack(RECORD_VERSION, 0, len(payload), body_bytes, body_crc, sequence, batch, epoch)
        + payload
    )
    return _SEAL.pack(MAGIC, running_checksum(checked, salt)) + checked


def decode(buffer: memoryview, start: int, segment: int, offset: int, salt: int) -> Record:
    """The record at `buffer[start:]`, which lies at `offset` of the segment.

    Raises DamagedRecordError.
    """
    if len(buffer) - start < HEADER_BYTES:
        raise DamagedRecordError("cut off in its header")
    magic, crc, version, _, payload_bytes, body_bytes, body_crc, sequence, batch, epoch = (
        _HEADER.unpack_from(buffer, start)
    )
    if magic != MAGIC:
        raise DamagedRecordError("no record begins here")
    body_at = start + HEADER_BYTES + payload_bytes
    end = body_at + body_bytes
    if end > len(buffer):
        raise DamagedRecordError("cut off")
    if running_checksum(buffer[start + _CHECKED_FROM : body_at], salt) != crc:
        raise DamagedRecordError("checksum of the record")
    if version > RECORD_VERSION:
        raise CorruptDataError(
            "read log",
            f"segment {segment:#x} offset {offset}",
            f"record version {version} was written by a newer release",
        )
    if checksum(buffer[body_at:end]) != body_crc:
        raise DamagedRecordError("checksum of the body")
    return Record(
        sequence=sequence,
        batch=batch,
        epoch=epoch,
        payload=buffer[start + HEADER_BYTES : body_at],
        body=buffer[body_at:end],
        body_crc=body_crc,
        segment=segment,
        offset=offset,
        body_offset=offset + body_at - start,
        end=offset + end - start,
    )


class LogScan:
    """Iterates the records behind a position; afterwards `position` is where the good log ends and
    `torn` says whether something behind it has to be cut off.

    Raises CorruptDataError where damage is not a torn tail.
    """

    def __init__(self, medium: LogSource, segment: int, offset: int, applied: int) -> None:
        self._medium = medium
        self._expected = applied + 1
        self.position = (segment, offset)
        self.torn = False

    def __iter__(self) -> Iterator[Record]:
        first = True
        for piece in self._medium.scan(*self.position):
            self._enter(piece.segment, piece.offset, first)
            first = False
            yield from self._read(piece)
        if first and self.position[0]:
            raise _corruption(*self.position, "the log ends before what the view has applied")

    def _enter(self, segment: int, offset: int, first: bool) -> None:
        before, at = self.position
        if self.torn:
            raise _corruption(before, at, "damage, and a later segment follows")
        if first and before and (segment, offset) != (before, at):
            raise _corruption(before, at, "the log ends before what the view has applied")
        self.position = (segment, offset)

    def _read(self, piece: LogPiece) -> Iterator[Record]:
        segment, offset, data, salt, let_go = piece
        start = held = 0
        while start < len(data):
            if start - held > _HELD_BYTES:
                let_go()
                held = start
            at = offset + start
            try:
                record = decode(data, start, segment, at, salt)
            except DamagedRecordError as damage:
                if not is_unused(piece, start):
                    self._judge(piece, start, damage)
                    self.torn = True
                return
            if record.sequence != self._expected:
                raise _corruption(
                    segment, at, f"sequence {record.sequence} where {self._expected} is due"
                )
            self._expected += 1
            start = record.end - offset
            self.position = (segment, record.end)
            yield record

    def _judge(self, piece: LogPiece, start: int, damage: DamagedRecordError) -> None:
        """Raise unless all that follows belongs to the append that the damaged record is part of:
        a later append proves that this one was acknowledged.
        """
        segment, offset, data, salt, _ = piece
        found = find_magic(data, end_of_damaged(data, start, salt))
        while found >= 0:
            try:
                later = decode(data, found, segment, offset + found, salt)
            except DamagedRecordError:
                found = find_magic(data, end_of_damaged(data, found, salt))
                continue
            if later.batch > self._expected:
                raise _corruption(
                    segment, offset + start, f"{damage}, and good records follow"
                ) from damage
            found = find_magic(data, later.end - offset)


def is_unused(piece: LogPiece, start: int) -> bool:
    """Whether nothing but zeros follows: room made ahead of use, which need not stay in memory."""
    held = start
    for at in range(start, len(piece.data), _SEARCH_BYTES):
        found = bytes(piece.data[at : at + _SEARCH_BYTES])
        if found != _ZEROS[: len(found)]:
            return False
        if at - held > _HELD_BYTES:
            piece.let_go()
            held = at
    piece.let_go()
    return True


def find_magic(data: memoryview, start: int) -> int:
    """Where the next record may begin; -1 where none does. In pieces, for a log is large."""
    for at in range(start, len(data), _SEARCH_BYTES):
        found = bytes(data[at : at + _SEARCH_BYTES + len(MAGIC) - 1]).find(MAGIC)
        if found >= 0:
            return at + found
    return -1


def end_of_damaged(buffer: memoryview, start: int, salt: int) -> int:
    """From where on what follows the damaged record may be another one: behind its body if header
    and payload are good. (In a segment without salt the bytes in there may be a client's forgery.)
    """
    payload = good_payload(buffer, start, salt)
    if payload is None:
        return start + 1
    body_bytes = _HEADER.unpack_from(buffer, start)[5]
    return int(start + HEADER_BYTES + len(payload) + body_bytes)


def good_payload(buffer: memoryview, start: int, salt: int) -> memoryview | None:
    """The payload of a record whose header and payload are good, whatever its body is."""
    if len(buffer) - start < HEADER_BYTES:
        return None
    magic, crc, _, _, payload_bytes, *_ = _HEADER.unpack_from(buffer, start)
    body_at = start + HEADER_BYTES + payload_bytes
    if magic != MAGIC or body_at > len(buffer):
        return None
    if running_checksum(buffer[start + _CHECKED_FROM : body_at], salt) != crc:
        return None
    return buffer[start + HEADER_BYTES : body_at]


def _corruption(segment: int, offset: int, what: str) -> CorruptDataError:
    return CorruptDataError(
        "read log",
        f"segment {segment:#x} offset {offset}",
        f"{what}; run `objectstore fsck --data DIR`",
    )

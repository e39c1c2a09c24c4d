"""Reading a log past its damage: every record that is good, and every gap between them.

Recovery stops at the first damage that is not a torn tail, for what follows cannot be trusted to
follow. Verification and salvage go on: a record's checksum, begun with its segment's salt, says
that it is ours wherever it stands, and its sequence says what is missing before it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import msgspec

from ..core.ids import ShardId
from ..media.api import LogPiece, Segments, WholeSegment
from ..media.errors import CorruptDataError
from ..media.segments import SEGMENT_HEADER_BYTES, check_header, checksum
from .effects import Effect, decode_effect
from .record import (
    DamagedRecordError,
    Record,
    decode,
    end_of_damaged,
    find_magic,
    good_payload,
    is_unused,
)


@dataclass(slots=True)
class Damage:
    """Bytes of a segment from `offset` to `end` that are no good records; `torn` when they are the
    end of the log and were never acknowledged. `effect` is what the first of them says of itself,
    if only its body is damaged. `first` and `last` are the sequences that are missing (`last` 0:
    unknown, the log ends here).
    """

    segment: int
    offset: int
    end: int
    what: str
    effect: Effect | None = None
    first: int = 0
    last: int = 0
    torn: bool = False
    unreadable: bool = False

    def __str__(self) -> str:
        missing = f"records {self.first} to {self.last}" if self.last else f"from {self.first} on"
        named = "" if self.effect is None else f", {effect_subject(self.effect)}"
        return (
            f"segment {self.segment:#x} offset {self.offset} to {self.end}: {self.what}"
            f" ({missing}{named})"
        )


def survey(segments: Segments, shard: ShardId, sequence: int = 0) -> Iterator[Record | Damage]:
    """The good records of all segments in order, and what lies between; `sequence` is the last
    record that the first segment need not hold.
    """
    expected = sequence + 1
    held: Damage | None = None
    for number in segments.logs(shard):
        for found in _segment(segments.whole(number), number):
            if isinstance(found, Damage):
                # Several in a row, or one at the end of a segment, are told apart by what follows.
                if held is not None:
                    yield held
                held = found
                held.first = expected
                continue
            if held is not None:
                held.last = found.sequence - 1
                yield held
                held = None
            elif found.sequence > expected > 1:
                what = "records are missing"
                yield Damage(
                    number, found.offset, found.offset, what, None, expected, found.sequence - 1
                )
            if found.sequence >= expected:
                expected = found.sequence + 1
                yield found
    if held is not None:
        held.torn = held.offset > 0 and not held.unreadable
        yield held


def _segment(whole: WholeSegment, number: int) -> Iterator[Record | Damage]:
    content, begin = whole.content, whole.records_at
    size = len(content)
    if size < begin:
        yield Damage(number, 0, size, "the segment is too short")
        return
    try:
        salt = check_header(number, content[:SEGMENT_HEADER_BYTES])
    except CorruptDataError as error:
        yield Damage(number, 0, size, str(error))
        return
    data = content[begin:]
    piece = LogPiece(number, begin, data, salt, whole.let_go)
    start = 0
    while start < len(data):
        try:
            record = decode(data, start, number, piece.offset + start, piece.salt)
        except DamagedRecordError as error:
            if is_unused(piece, start):
                return
            following = _next_good(piece, start)
            end = len(data) if following < 0 else following
            damage = Damage(number, piece.offset + start, piece.offset + end, str(error))
            damage.effect = _effect_of(piece, start)
            if whole.lacks(damage.offset, damage.end):
                damage.what, damage.unreadable = "the disk cannot read it", True
            yield damage
            start = end
            continue
        start = record.end - piece.offset
        yield record


def _next_good(piece: LogPiece, start: int) -> int:
    """Where the next good record begins, -1 where none does."""
    data = piece.data
    found = find_magic(data, end_of_damaged(data, start, piece.salt))
    while found >= 0:
        try:
            decode(data, found, piece.segment, piece.offset + found, piece.salt)
        except DamagedRecordError:
            found = find_magic(data, end_of_damaged(data, found, piece.salt))
            continue
        return found
    return -1


def _effect_of(piece: LogPiece, start: int) -> Effect | None:
    """What a record whose body is damaged says; None when it cannot be trusted either."""
    payload = good_payload(piece.data, start, piece.salt)
    if payload is None:
        return None
    try:
        return decode_effect(payload)
    except msgspec.MsgspecError:
        return None


def salt_of(whole: WholeSegment) -> int | None:
    """The salt of a segment whose header is damaged, proved by its first record: what the header
    holds, or that with one bit flipped. None when it cannot be found, and for a header that is
    whole: a newer release's.
    """
    content = whole.content
    if len(content) < whole.records_at:
        return None
    unsealed = bytes(content[:24]) + bytes(4) + bytes(content[28:SEGMENT_HEADER_BYTES])
    if checksum(unsealed).to_bytes(4, "little") == content[24:28]:
        return None
    held = int.from_bytes(content[SEGMENT_HEADER_BYTES - 4 : SEGMENT_HEADER_BYTES], "little")
    records = content[whole.records_at :]
    for salt in (held, 0, *(held ^ 1 << bit for bit in range(32))):
        if good_payload(records, 0, salt) is not None:
            return salt
    return None


def effect_subject(effect: Effect) -> str:
    """Kind, bucket, key and whatever else names what an effect is about."""
    names = ("bucket", "key", "version_id", "upload", "number", "id", "name")
    parts = [type(effect).__name__]
    for name in names:
        value = getattr(effect, name, None)
        if isinstance(value, (bytes, str, int)) and value not in ("", b""):
            parts.append(f"{name} {value!r}")
    return " ".join(parts)

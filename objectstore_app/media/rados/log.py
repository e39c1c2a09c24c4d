"""A shard's log on RADOS: segment objects, and appends that only the present owner can make.

Theory of operation. The *head* (`head.py`) says whose epoch it is and which segments exist. Each
segment object holds its header, then a *guard* with the epoch of who may write there, then records.
An append is one operation: compare the guard, write at the announced offset.

Taking over: the head gets the next epoch, so that nobody before us can make a segment count any
more; then the last segment's guard gets it, so that nobody before us can append. Only then is that
segment's size looked up: what was appended until then is in the log, whoever wrote it and whether
it was acknowledged or not; nothing can be added that we do not see. A paused owner that wakes up
fails at its next append or roll, whatever its clock says, and must end.

Rolling: the next segment is made under our epoch, then the head names it. One that an owner before
us made, but could not name any more, is replaced under its guard. No append is under way meanwhile.

An operation is done whole or not at all, so a log here has no torn tail: what looks like one is
damage, and refused.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterator, Sequence
from contextlib import suppress

import msgspec

from ...core.errors import invariant
from ...core.ids import ShardId
from ...core.limits import (
    COMMIT_BYTES_MAX,
    LOG_FREE_BYTES_MIN,
    RADOS_ROOM_MARGIN_BYTES,
    RADOS_SEGMENT_BYTES_MAX,
)
from ..api import LogPiece
from ..errors import CorruptDataError, FencedError, MediaError, MediaFailedError
from ..segments import (
    SEGMENT_HEADER_BYTES,
    check_header,
    encode_header,
    log_counter,
    log_segment,
    shard_folder,
)
from .head import (
    HEAD_BYTES_MAX,
    OWNER_CHARACTERS_MAX,
    Head,
    decode_head,
    encode_head,
    head_name,
)
from .mirror import LogMirror
from .names import object_name
from .objects import GuardError, Objects

GUARD_BYTES = 32
RECORDS_AT = SEGMENT_HEADER_BYTES + GUARD_BYTES
APPENDS_PER_LOOK = 16
_GUARD_TEXT = b"epoch "


def encode_guard(epoch: int) -> bytes:
    return _GUARD_TEXT + b"%025d\n" % epoch


def decode_guard(guard: bytes, subject: str) -> int:
    """The epoch. Raises CorruptDataError."""
    digits = guard[len(_GUARD_TEXT) : -1]
    if len(guard) != GUARD_BYTES or not digits.isdigit() or encode_guard(int(digits)) != guard:
        raise CorruptDataError("read guard", subject, "it is damaged")
    return int(digits)


invariant(
    APPENDS_PER_LOOK * COMMIT_BYTES_MAX <= RADOS_ROOM_MARGIN_BYTES,
    "what is appended until room is looked for again is within the margin",
)
invariant(len(encode_guard(1)) == GUARD_BYTES, "docs/formats/rados.md says so")


def _room_of(free: int) -> int:
    """What the shard is told of a pool's room. The margin is for what others write until it is
    looked at again; what gives room back needs little and may use it up.
    """
    if free >= LOG_FREE_BYTES_MIN + RADOS_ROOM_MARGIN_BYTES:
        return free - RADOS_ROOM_MARGIN_BYTES
    return min(free, LOG_FREE_BYTES_MIN - 1)


def read_head(pool: Objects, shard: ShardId) -> tuple[Head, bytes] | None:
    """The head and its bytes; None when the shard was never written. Raises CorruptDataError."""
    content = pool.read(head_name(shard), 0, HEAD_BYTES_MAX)
    return None if not content else (decode_head(content, head_name(shard)), content)


def is_owned(pool: Objects, shard: ShardId, epoch: int) -> bool:
    """Whether the log was still of this epoch when this was called. Then no successor had
    acknowledged anything by then: what the epoch's own view shows is the latest.
    """
    found = read_head(pool, shard)
    return found is not None and found[0].epoch == epoch


class RadosLogReader:
    """LogSource over a shard's segment objects, beside their owner or without one. What it reads
    is mirrored where there is a mirror.
    """

    def __init__(self, pool: Objects, shard: ShardId, mirror: LogMirror | None = None) -> None:
        self._pool = pool
        self._shard = shard
        self._mirror = mirror

    def scan(self, segment: int, offset: int) -> Iterator[LogPiece]:
        found = read_head(self._pool, self._shard)
        # The head first: a segment that has a later one behind it does not grow any more.
        head = found[0] if found else Head(shard=self._shard)
        # Before a base some may be gone; whoever has no base needs all of them.
        first = max(1, log_counter(segment))
        for counter in range(first, head.last + 1):
            number = log_segment(self._shard, counter)
            yield self._piece(number, offset if number == segment else RECORDS_AT)

    def _piece(self, number: int, start: int) -> LogPiece:
        name = object_name(number)
        size = self._pool.size(name)
        if size is None:
            raise CorruptDataError("read log", name, "the segment is missing: objectstore fsck")
        salt = check_header(number, self._pool.read(name, 0, SEGMENT_HEADER_BYTES) or b"")
        start = min(start, size)
        data = self._pool.read(name, start, size - start) if start < size else b""
        if data is None or len(data) != size - start:
            raise CorruptDataError("read log", name, "the segment is shorter than it was")
        if self._mirror is not None:
            self._mirror.put(number, start, data)
        return LogPiece(number, start, memoryview(data), salt)


class RadosLog:
    """LogMedium over a shard's segment objects; taken over from whoever had it by its making."""

    def __init__(
        self,
        pool: Objects,
        shard: ShardId,
        *,
        owner: str = "",
        mirror: LogMirror | None = None,
        segment_bytes_max: int = RADOS_SEGMENT_BYTES_MAX,
    ) -> None:
        """Where the mirror lies, beside the view, there must be room, too. Raises FencedError when
        another takes the log over at the same time, CorruptDataError, MediaFailedError.
        """
        self._pool = pool
        self._shard = shard
        self._mirror = mirror
        self._segment_bytes_max = segment_bytes_max
        self._failed = ""
        self._size = 0
        self._room = 0
        self._appends_since_look = APPENDS_PER_LOOK
        self._take_head(owner[:OWNER_CHARACTERS_MAX])
        self._guard = encode_guard(self._head.epoch)
        if self._head.last:
            self._open()
        else:
            self._roll()

    @property
    def epoch(self) -> int:
        """Ours: larger than that of every owner before."""
        return self._head.epoch

    @property
    def contested(self) -> bool:
        return True

    def confirm(self) -> bool:
        return is_owned(self._pool, self._shard, self.epoch)

    def epoch_after(self, epoch: int) -> int:
        if epoch >= self._head.epoch:
            # What was read is a successor's, which took over while we recovered.
            self._failed = "another process has taken the log over"
            raise FencedError("resume log", self._name, "a later owner has it")
        return self._head.epoch

    def append(self, buffers: Sequence[bytes | memoryview]) -> tuple[int, int]:
        self._check("append")
        segment, offset = self.position()
        data = b"".join(buffers)
        try:
            self._pool.write_if(self._name, self._guard, SEGMENT_HEADER_BYTES, data, offset)
        except GuardError as error:
            raise self._fenced("append", error) from error
        except MediaFailedError as error:
            self._failed = str(error)
            raise
        if self._mirror is not None:
            self._mirror.put(segment, offset, data)
        self._size = offset + len(data)
        self._appends_since_look += 1
        return segment, offset

    def scan(self, segment: int, offset: int) -> Iterator[LogPiece]:
        return RadosLogReader(self._pool, self._shard, self._mirror).scan(segment, offset)

    def resume(self, segment: int, offset: int, *, torn: bool) -> None:
        size = self._pool.size(self._name)
        if torn or segment != self._segment or size != offset:
            # Recovery takes time: a successor of ours may have appended, or rolled, meanwhile.
            if not self.confirm():
                self._failed = "another process has taken the log over"
                raise FencedError("resume log", self._name, "a later owner has it")
            raise CorruptDataError(
                "resume log",
                f"segment {segment:#x} offset {offset}",
                f"no good record begins here, and {size} bytes are there: objectstore fsck",
            )
        self._size = offset

    def position(self) -> tuple[int, int]:
        invariant(self._size > 0, "a log that was there before is resumed first")
        full = self._size + COMMIT_BYTES_MAX > self._segment_bytes_max
        if full and self._size > RECORDS_AT:
            self._check("roll")
            self._roll()
        return self._segment, self._size

    def room(self) -> int:
        # Who has no room appends nothing: only another look can tell that there is some again.
        short = self._room < LOG_FREE_BYTES_MIN
        if short or self._appends_since_look >= APPENDS_PER_LOOK:
            self._appends_since_look = 0
            room = _room_of(self._pool.free_bytes())
            if self._mirror is not None:
                try:
                    room = min(room, self._mirror.room())
                except OSError as error:
                    name = shard_folder(self._shard)
                    raise MediaFailedError("look for room", name, str(error)) from error
            self._room = room
        return self._room

    @property
    def salt(self) -> int:
        return self._salt

    def release(self) -> None:
        if self._failed:
            return  # it is not known to be ours
        with suppress(MediaError):  # who takes over without waiting needs no word from us
            self._change_head(msgspec.structs.replace(self._head, released=True))
        self._failed = "released"

    def close(self) -> None:
        self._failed = "closed"

    @property
    def _name(self) -> str:
        return object_name(self._segment)

    def _take_head(self, owner: str) -> None:
        found = read_head(self._pool, self._shard)
        name = head_name(self._shard)
        if found is None:
            self._head = Head(shard=self._shard, owner=owner)
            self._head_bytes = encode_head(self._head)
            if not self._pool.create(name, self._head_bytes):
                raise FencedError("take over", name, "another process made it meanwhile")
            return
        self._head, self._head_bytes = found
        self._change_head(
            msgspec.structs.replace(
                self._head, epoch=self._head.epoch + 1, owner=owner, released=False
            )
        )

    def _change_head(self, head: Head) -> None:
        """Raises FencedError, MediaFullError; the head is as it was then."""
        head = msgspec.structs.replace(head, change=self._head.change + 1)
        content = encode_head(head)
        try:
            self._pool.replace_if(head_name(self._shard), self._head_bytes, 0, content)
        except GuardError as error:
            raise self._fenced("change head", error) from error
        except MediaFailedError as error:
            self._failed = str(error)
            raise
        self._head, self._head_bytes = head, content

    def _open(self) -> None:
        """Make the last segment ours."""
        self._segment = log_segment(self._shard, self._head.last)
        while True:
            start = self._pool.read(self._name, 0, RECORDS_AT)
            if start is None:
                raise CorruptDataError("open log", self._name, "the segment is missing")
            self._salt = check_header(self._segment, start[:SEGMENT_HEADER_BYTES])
            guard = start[SEGMENT_HEADER_BYTES:]
            if decode_guard(guard, self._name) >= self._head.epoch:
                raise FencedError("take over", self._name, "a later owner has it")
            try:
                self._pool.write_if(
                    self._name, guard, SEGMENT_HEADER_BYTES, self._guard, SEGMENT_HEADER_BYTES
                )
            except GuardError:
                continue  # another successor was here, before us or after: its epoch says which
            return

    def _roll(self) -> None:
        """Raises FencedError, MediaFullError (the log is as it was)."""
        segment = log_segment(self._shard, self._head.last + 1)
        salt = secrets.randbits(32)
        content = encode_header(segment, salt) + self._guard
        try:
            if not self._pool.create(object_name(segment), content):
                self._replace_unnamed(segment, content)
        except MediaFailedError as error:
            self._failed = str(error)
            raise
        self._change_head(msgspec.structs.replace(self._head, last=self._head.last + 1))
        self._segment, self._salt, self._size = segment, salt, RECORDS_AT

    def _replace_unnamed(self, segment: int, content: bytes) -> None:
        """Replace a segment that was made, by one before us or by us, and that no head named."""
        name = object_name(segment)
        start = self._pool.read(name, 0, RECORDS_AT) or b""
        guard = start[SEGMENT_HEADER_BYTES:]
        if decode_guard(guard, name) > self._head.epoch:
            self._failed = "fenced"
            raise FencedError("roll", name, "a later owner made it")
        try:
            self._pool.replace_if(name, guard, SEGMENT_HEADER_BYTES, content)
        except GuardError as error:
            raise self._fenced("roll", error) from error

    def _fenced(self, operation: str, error: GuardError) -> FencedError:
        self._failed = "another process has taken the log over"
        return FencedError(operation, shard_folder(self._shard), str(error))

    def _check(self, operation: str) -> None:
        if self._failed:
            raise MediaFailedError(operation, shard_folder(self._shard), self._failed)

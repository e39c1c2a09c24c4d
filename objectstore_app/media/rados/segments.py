"""Segments as RADOS objects: what Atlas gives back, what fsck looks at, old chunks in a cold pool.

Theory of operation. Where a chunk segment was written, ranges are given back by zeroing them: the
offsets stay and the OSDs let go of the room. Which ranges these are is noted with the object, in
the same operation (`HOLES`), as a file system knows a file's holes. Where chunks begin at blocks of
the OSDs' disks, which the segment's header says, a range goes with the rest of its last block.

An old segment may be moved to the cold pool, as one object with the ranges that are kept
(`cold.py`): written whole, read back, and only then removed where it was. A reader that misses it
there finds it here, so nobody has to wait. Cut off in between, it is in both, and moved again.
Erasure-coded objects do not shrink: what dies later stays until so much of it is dead that the
object is replaced by a smaller one. Another Atlas may do the same at the same time: what it has
moved or removed meanwhile is no damage, and is left to it.

No reader holds anything on RADOS: a download that takes longer than the grace for one chunk finds
that its checksums do not match, and ends.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence

from ...core.ids import ShardId
from ...core.limits import (
    HURRY_FREE_BYTES,
    MIB,
    RADOS_CHUNK_ALIGN_BYTES,
    RADOS_ROOM_MARGIN_BYTES,
)
from ..api import Range, WholeSegment
from ..errors import CorruptDataError, MediaFailedError
from ..local_segments import joined, ranges_between
from ..segments import (
    SEGMENT_HEADER_BYTES,
    check_header,
    encode_header,
    is_chunk,
    log_segment,
    shard_folder,
)
from .cold import ColdIndex, decode_index, encode_cold, index_bytes, wanted_bytes
from .log import RECORDS_AT, read_head
from .names import cold_name, object_name
from .pool import Cluster, Pool
from .pools import StorePools

HOLES = "holes"
_HOLE = struct.Struct("<QQ")
_UNNAMED_BYTES_MIN = 1 * MIB
_COLD_UNNAMED_PART = 4


class RadosSegments:
    """Segments of a store."""

    def __init__(self, cluster: Cluster, pools: StorePools) -> None:
        self._pools = pools
        self.cold = None if pools.cold is None else RadosCold(cluster, pools.open, pools.cold)

    @property
    def tears(self) -> bool:
        """An append is one operation."""
        return False

    def logs(self, shard: ShardId) -> list[int]:
        found = read_head(self._pools.log, shard)
        last = found[0].last if found else 0
        prefix, suffix = f"{shard_folder(shard)}/log-", ".seg"
        counters = sorted(
            int(name[len(prefix) : -len(suffix)])
            for name in self._pools.log.names()
            if name.startswith(prefix) and name.endswith(suffix)
        )
        return [log_segment(shard, counter) for counter in counters if counter <= last]

    def chunks(self) -> list[int]:
        written = _numbers(self._pools.open, "chunks/")
        return list(written | (self.cold.numbers() if self.cold else frozenset()))

    def whole(self, number: int) -> WholeSegment:
        name = object_name(number)
        size = self._pools.log.size(name)
        content = None if size is None else self._pools.log.read(name, 0, size)
        if content is None:
            raise CorruptDataError("read log", name, "the segment is gone")
        return WholeSegment(memoryview(content), RECORDS_AT, lambda *_: False)

    def mend_header(self, number: int, salt: int) -> None:
        name, pool = object_name(number), self._pools.log
        before = pool.read(name, 0, SEGMENT_HEADER_BYTES) or b""
        pool.write_if(name, before, 0, encode_header(number, salt), 0)

    def header(self, number: int) -> bytes:
        found = self._pools.open.read(object_name(number), 0, SEGMENT_HEADER_BYTES)
        if found is None and self._pools.cold is not None:
            found = self._pools.cold.read(cold_name(number), 0, SEGMENT_HEADER_BYTES)
        return found or b""

    @property
    def chunk_align_bytes(self) -> int:
        return RADOS_CHUNK_ALIGN_BYTES

    def size(self, number: int) -> int:
        return self._pools.of(number).size(object_name(number)) or 0

    def taken(self, number: int) -> int | None:
        name, pool = object_name(number), self._pools.of(number)
        size = pool.size(name)
        cold = self.cold.taken(number) if self.cold and is_chunk(number) else None
        if size is None:
            return cold
        holes = _holes(pool, name) if is_chunk(number) else []
        # A hole at its end makes an object shorter.
        within = sum(max(0, min(end, size) - begin) for begin, end in holes)
        return size - within + (cold or 0)

    def unnamed_bytes_min(self, number: int) -> int:
        size = self.cold.taken(number) if self.cold else None
        return _UNNAMED_BYTES_MIN if size is None else size // _COLD_UNNAMED_PART

    def give_back(self, number: int, ranges: Sequence[Range]) -> tuple[list[bool], int]:
        """Of a cold segment nothing comes free now: `keep_only` does that when it pays."""
        freed = self._zero(number, ranges) if self._pools.open.size(object_name(number)) else 0
        return [True] * len(ranges), freed

    def keep_only(self, number: int, ranges: Sequence[Range]) -> int:
        size = self._pools.open.size(object_name(number))
        if size is not None:
            return self._zero(number, ranges_between(ranges, size))
        return self.cold.shrink(number, ranges) if self.cold else 0

    def remove(self, number: int) -> int:
        freed = self.taken(number) or 0
        self._pools.of(number).remove(object_name(number))
        if self.cold and is_chunk(number):
            self.cold.remove(number)
        return freed

    def is_short(self) -> bool:
        return self._pools.open.free_bytes() < HURRY_FREE_BYTES + RADOS_ROOM_MARGIN_BYTES

    def _zero(self, number: int, ranges: Sequence[Range]) -> int:
        """Give ranges back that were not given back before."""
        name, pool = object_name(number), self._pools.open
        align = self._align(number)
        whole = list(joined([(begin, end + -end % align) for begin, end in ranges]))
        before = _holes(pool, name)
        after = list(joined(sorted([*before, *whole])))
        gone = _length(after) - _length(before)
        if gone:
            pool.zero(name, whole, HOLES, b"".join(_HOLE.pack(*one) for one in after))
        return gone

    def _align(self, number: int) -> int:
        """What the offsets of a segment's chunks are multiples of, as far as it says so."""
        try:
            return check_header(number, self.header(number)) or 1
        except CorruptDataError:
            return 1


class RadosCold:
    """ColdSegments: objects of a pool that may be erasure-coded."""

    def __init__(self, cluster: Cluster, open_: Pool, cold: Pool) -> None:
        self._cluster = cluster
        self._open = open_
        self._cold = cold

    def is_calm(self) -> bool:
        return self._cluster.is_clean()

    def numbers(self) -> frozenset[int]:
        return _numbers(self._cold, "cold/")

    def waiting(self) -> frozenset[int]:
        return _numbers(self._open, "chunks/")

    def taken(self, number: int) -> int | None:
        """What the segment takes here, its index aside; None when it is not here."""
        size = self._cold.size(cold_name(number))
        start = self._cold.read(cold_name(number), 0, index_bytes(0))
        if size is None or start is None:
            return None
        return size - wanted_bytes(start) + SEGMENT_HEADER_BYTES

    def move(self, number: int, ranges: Sequence[Range]) -> int:
        name = object_name(number)
        size = self._open.size(name)
        if size is None:
            return 0
        content = self._open.read(name, 0, size)
        if content is None:
            return 0
        kept = list(joined(ranges))
        if kept and kept[-1][1] > len(content):
            raise CorruptDataError("move segment", name, "the segment is too short")
        written = self._write(number, encode_cold(number, kept, memoryview(content)))
        self._open.remove(name)
        return written

    def shrink(self, number: int, ranges: Sequence[Range]) -> int:
        """Replace an object by one with these ranges only; how much room came free."""
        name = cold_name(number)
        size = self._cold.size(name)
        if size is None:
            return 0
        held = self._cold.read(name, 0, size)
        if held is None:
            return 0
        index = decode_index(number, held, name)
        kept = list(joined(ranges))
        content = encode_cold(number, kept, memoryview(_spread(index, kept, held, name)))
        return size - self._write(number, content)

    def remove(self, number: int) -> None:
        self._cold.remove(cold_name(number))

    def _write(self, number: int, content: bytes) -> int:
        """Write an object, and read it back."""
        name = cold_name(number)
        self._cold.put(name, content)
        if self._cold.read(name, 0, len(content)) != content:
            raise MediaFailedError("move segment", name, "it does not read back as it was written")
        return len(content)


def _spread(index: ColdIndex, ranges: Sequence[Range], held: bytes, name: str) -> bytearray:
    """The ranges of a cold object at the offsets that they had when the segment was written."""
    content = bytearray(ranges[-1][1] if ranges else 0)
    for begin, end in ranges:
        place = index.place(begin, end - begin)
        if place is None:
            raise CorruptDataError("shrink segment", name, f"offset {begin} was given back")
        content[begin:end] = held[place : place + end - begin]
    return content


def _numbers(pool: Pool, prefix: str) -> frozenset[int]:
    """The segments whose objects' names begin so."""
    names = (name for name in pool.names() if name.startswith(prefix))
    return frozenset(int(name.removeprefix(prefix), 16) for name in names)


def _holes(pool: Pool, name: str) -> list[Range]:
    noted = pool.attribute(name, HOLES) or b""
    return [_HOLE.unpack_from(noted, at) for at in range(0, len(noted), _HOLE.size)]


def _length(ranges: Sequence[Range]) -> int:
    return sum(end - begin for begin, end in ranges)

"""The form of a chunk segment in the cold pool: the ranges that are kept, close together.

Pure; format: docs/formats/rados.md. Extents go on naming offsets of the segment as it was written;
the index at the object's beginning says where these lie now.
"""

from __future__ import annotations

import bisect
import struct
from collections.abc import Sequence

from ..api import Range
from ..errors import CorruptDataError
from ..segments import SEGMENT_HEADER_BYTES, check_header, checksum, encode_header

_FRAME = struct.Struct("<II")
_ENTRY = struct.Struct("<QQ")
INDEX_AT = SEGMENT_HEADER_BYTES
INDEX_BYTES_READ = 4096
"""What is read of an object to begin with: most often its whole index."""


class ColdIndex:
    """Where the ranges of a segment lie in its cold object."""

    __slots__ = ("_begins", "_places", "ranges")

    def __init__(self, ranges: Sequence[Range]) -> None:
        self.ranges = tuple(ranges)
        self._begins = [begin for begin, _ in ranges]
        place = index_bytes(len(ranges))
        self._places: list[int] = []
        for begin, end in ranges:
            self._places.append(place)
            place += end - begin

    def place(self, offset: int, length: int) -> int | None:
        """Where bytes of the segment lie in the object; None when they were given back."""
        found = bisect.bisect_right(self._begins, offset) - 1
        if found < 0 or offset + length > self.ranges[found][1]:
            return None
        return self._places[found] + offset - self._begins[found]


def index_bytes(count: int) -> int:
    """Header and index of a segment of which so many ranges are kept."""
    return INDEX_AT + _FRAME.size + count * _ENTRY.size


def encode_cold(number: int, ranges: Sequence[Range], content: memoryview) -> bytes:
    """The object; `content` is the segment as it was written, `ranges` are in order and apart."""
    entries = b"".join(_ENTRY.pack(begin, end) for begin, end in ranges)
    frame = _FRAME.pack(len(ranges), checksum(entries))
    kept = (content[begin:end] for begin, end in ranges)
    return b"".join([encode_header(number), frame, entries, *kept])


def wanted_bytes(start: bytes) -> int:
    """How long header and index are, by the object's first bytes."""
    if len(start) < index_bytes(0):
        return index_bytes(0)
    return index_bytes(_FRAME.unpack_from(start, INDEX_AT)[0])


def decode_index(number: int, start: bytes, subject: str) -> ColdIndex:
    """The index from the object's first bytes. Raises CorruptDataError."""
    check_header(number, start[:SEGMENT_HEADER_BYTES])
    size = wanted_bytes(start)
    if len(start) < size:
        raise CorruptDataError("read cold segment", subject, "it is too short")
    count, crc = _FRAME.unpack_from(start, INDEX_AT)
    entries = start[index_bytes(0) : size]
    if checksum(entries) != crc:
        raise CorruptDataError("read cold segment", subject, "its index is damaged")
    return ColdIndex([_ENTRY.unpack_from(entries, at * _ENTRY.size) for at in range(count)])

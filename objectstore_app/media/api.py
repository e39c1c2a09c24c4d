"""The media interface: where bytes lie, whatever the medium (a local directory, memory, later
RADOS).

Two kinds of segment exist. A *log* segment is written by one shard only, in order, and holds
records; a *chunk* segment holds the bodies of objects too large for a record. Both are append-only
and named by a number that is never reused. An `Extent` names bytes inside either. Formats:
docs/formats/.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Protocol

import msgspec


class Extent(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """Where `length` bytes of an object's body lie.

    A body inside a log record (`blocks` false) is checked by `crc`, the CRC32C of all its bytes. A
    chunk (`blocks` true) is followed on the medium by its table of block checksums, itself checked
    by `crc`, so that a range of it can be verified without reading it whole.
    """

    segment: int
    offset: int
    length: int
    crc: int
    blocks: bool = False


class LogSource(Protocol):
    """One shard's log as recovery and verification read it."""

    def scan(self, segment: int, offset: int) -> Iterator[tuple[int, int, memoryview]]:
        """Yield `(segment, offset, bytes)` in order from a position to the end of the log, one
        piece for each segment (no append spans two). A segment before the first one means the
        beginning. Raises CorruptDataError when a segment is missing in between.
        """


class LogMedium(LogSource, Protocol):
    """One shard's log as its single writer has it: what it appends to."""

    def append(self, buffers: Sequence[bytes | memoryview]) -> tuple[int, int]:
        """Append the buffers as one run of bytes and return `(segment, offset)` of its first;
        durable on return.

        Raises: MediaFullError when there is no room (nothing was appended, the log stays usable);
        MediaFailedError when the flush failed: the process must exit, acknowledge nothing more and
        recover.
        """

    def truncate(self, segment: int, offset: int) -> None:
        """Cut the log behind a position: a torn tail that no acknowledgement covers. Durable on
        return.
        """

    def position(self) -> tuple[int, int]:
        """Where the next append will start, provided that it has at most COMMIT_BYTES_MAX bytes."""

    def close(self) -> None: ...


class ChunkWriter(Protocol):
    """Writes chunks of at most CHUNK_BYTES_MAX; one per process, with segments of its own."""

    async def write(self, data: bytes | memoryview) -> Extent:
        """Append one chunk with its checksum table and return its extent; durable only after
        `flush`.

        Raises: MediaFullError, MediaFailedError.
        """

    async def flush(self) -> None:
        """Return once all chunks written so far are durable. Concurrent callers share one flush."""

    async def close(self) -> None: ...


class ExtentReader(Protocol):
    """Reads verified bytes; never returns bytes whose checksum did not match."""

    async def read(self, extent: Extent, start: int, length: int) -> bytes | memoryview:
        """Return `length` bytes of the extent from `start` (both within it), verified.

        Raises: CorruptDataError with segment and offset; MediaFailedError.
        """

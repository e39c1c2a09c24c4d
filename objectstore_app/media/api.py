"""The media interface: where bytes lie, whatever the medium (a local directory, memory, later
RADOS).

Two kinds of segment exist. A *log* segment is written by one shard only, in order, and holds
records; a *chunk* segment holds the bodies of objects too large for a record. Both are append-only
and named by a number that is never reused. An `Extent` names bytes inside either. Formats:
docs/formats/.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple, Protocol

import msgspec

from ..core.ids import ShardId
from ..runtime.http import ByteSource
from .ahead import ReadAhead


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


class LogPiece(NamedTuple):
    """What a segment of a log holds from `offset` on; zeros at its end are room that was never
    used. `salt` is the segment's. A reader calls `let_go` now and then: what it has read so far
    need not stay in memory, though it still can be read.
    """

    segment: int
    offset: int
    data: memoryview
    salt: int
    let_go: Callable[[], None] = lambda: None


class LogSource(Protocol):
    """One shard's log as recovery and verification read it."""

    def scan(self, segment: int, offset: int) -> Iterator[LogPiece]:
        """Yield the log in order from a position to its end, one piece for each segment (no append
        spans two). A segment before the first one means the beginning. Raises CorruptDataError when
        a segment is missing in between, MediaFailedError when one cannot be read.
        """


class LogMedium(LogSource, Protocol):
    """One shard's log as its single writer has it: what it appends to."""

    @property
    def contested(self) -> bool:
        """Whether a process of another store can take the log over."""

    def confirm(self) -> bool:
        """Whether none has done so. Asks the medium; may be called by another thread. Raises
        MediaFailedError when it cannot be asked.
        """

    def append(self, buffers: Sequence[bytes | memoryview]) -> tuple[int, int]:
        """Append the buffers as one run of bytes and return `(segment, offset)` of its first;
        durable on return.

        Raises: MediaFullError when there is no room (nothing was appended, the log stays usable);
        MediaFailedError when the flush failed: the process must exit, acknowledge nothing more and
        recover.
        """

    def resume(self, segment: int, offset: int, *, torn: bool) -> None:
        """Go on behind a position, where recovery found the end of the log. When it is `torn`
        there, what follows is cut off, durably: no acknowledgement covers it. A log that was there
        before is resumed before the first append.
        """

    def position(self) -> tuple[int, int]:
        """Where the next append will start, provided that it has at most COMMIT_BYTES_MAX bytes."""

    def epoch_after(self, epoch: int) -> int:
        """The epoch to write records under, `epoch` being that of the last one: larger. Raises
        FencedError when the last one is a successor's.
        """

    def room(self) -> int:
        """How many bytes are free where the log lies. Raises MediaFailedError."""

    @property
    def salt(self) -> int:
        """Of the segment that `position` named last."""

    def release(self) -> None:
        """Say that we write no more: who waits for the log may have it."""

    def close(self) -> None: ...


class WholeSegment(NamedTuple):
    """All bytes of a log segment as verification reads them; its records begin at `records_at`.
    What the medium cannot read `lacks` tells of a range (begin, end). `let_go` as in a LogPiece.
    """

    content: memoryview
    records_at: int
    lacks: Callable[[int, int], bool]
    let_go: Callable[[], None] = lambda: None


Range = tuple[int, int]
"""Bytes of a segment: where they begin and where they end."""


class Segments(Protocol):
    """All segments of a store, for who cleans up and verifies. What is done is durable on return.
    All calls block, and raise MediaFailedError.
    """

    @property
    def tears(self) -> bool:
        """Whether a crash in the midst of an append leaves some of it at the end of a log."""

    def logs(self, shard: ShardId) -> list[int]:
        """A shard's log segments in order."""

    def chunks(self) -> list[int]:
        """The chunk segments, in no order."""

    def whole(self, number: int) -> WholeSegment:
        """A log segment. Raises CorruptDataError when it is gone."""

    def mend_header(self, number: int, salt: int) -> None:
        """Write a log segment's header anew. No writer may have the log."""

    def header(self, number: int) -> bytes:
        """The first bytes of a chunk segment, fewer where there are not so many."""

    @property
    def chunk_align_bytes(self) -> int:
        """Chunks begin at multiples of this; the room up to the next one is nobody's."""

    def size(self, number: int) -> int:
        """Of a log segment, in bytes; 0 when it is gone."""

    def taken(self, number: int) -> int | None:
        """The room that a segment takes; None when it is gone."""

    def unnamed_bytes_min(self, number: int) -> int:
        """From how much on it pays to `keep_only` what rows name of a chunk segment."""

    def give_back(self, number: int, ranges: Sequence[Range]) -> tuple[list[bool], int]:
        """Give back ranges of a chunk segment, in order, but those that readers hold. Tells of each
        whether it is gone for good, and how much room came free. Raises UnsupportedError.
        """

    def keep_only(self, number: int, ranges: Sequence[Range]) -> int:
        """Give back all of a chunk segment but the ranges; how much room came free. Raises
        UnsupportedError.
        """

    def remove(self, number: int) -> int | None:
        """Remove a segment that nobody needs; how much room came free. None when a reader still
        holds it, 0 when it is gone.
        """

    def is_short(self) -> bool:
        """Whether so little room is left that giving some back is in a hurry."""

    @property
    def cold(self) -> ColdSegments | None:
        """Where chunk segments that got old are kept at less cost; None: nowhere."""


class ColdSegments(Protocol):
    """A second place for chunk segments. A reader finds a segment in whichever it is. All calls
    block, and raise MediaFailedError.
    """

    def is_calm(self) -> bool:
        """Whether the medium is whole: only then segments are moved."""

    def numbers(self) -> frozenset[int]:
        """The chunk segments that are there."""

    def waiting(self) -> frozenset[int]:
        """Those that are, or are still, where they were written."""

    def move(self, number: int, ranges: Sequence[Range]) -> int:
        """Bring the ranges of a segment there, read them back, and remove it where it was; how many
        bytes were written. Begun again where it was cut off. Raises CorruptDataError.
        """


Buffer = bytes | bytearray | memoryview
Also = Callable[[Buffer], None]


def nothing(_: Buffer) -> None:
    """Nothing else is to be computed over what is written."""


class ChunkInProgress(Protocol):
    """One chunk on its way to the medium. Whoever began it calls `close`, whatever happened: a
    chunk that was not finished is given up.

    `append` and `finish` are called one after the other; both run `also` on every piece, in the
    thread that writes it, while the processor's cache still holds it. The pieces must not change
    until the call is over, and then are not needed any more. Cancelling leaves the thread running.

    Raises: MediaFullError, MediaFailedError, what `also` raises.
    """

    async def append(self, pieces: Sequence[Buffer], also: Also = nothing) -> None: ...

    async def finish(self, pieces: Sequence[Buffer], also: Also = nothing) -> Extent:
        """With the last pieces; durable only once the chunk is settled and then flushed."""

    async def settle(self) -> None:
        """After `finish`: return once all of it was written. Other chunks may be written first."""

    def close(self) -> None: ...


class ChunkWriter(Protocol):
    """Writes chunks of at most `chunk_bytes_max`; one per process, with segments of its own."""

    @property
    def chunk_bytes_max(self) -> int: ...

    @property
    def streams(self) -> bool:
        """Whether what was appended to a chunk is not held in memory any more."""

    def begin(self, length: int) -> ChunkInProgress:
        """Begin a chunk of that many bytes. Raises: MediaFullError, MediaFailedError."""

    async def write(self, data: bytes | memoryview) -> Extent:
        """Write a chunk that is whole, durable only after `flush`. Raises as `begin` and `finish`
        do.
        """
        chunk = self.begin(len(data))
        try:
            extent = await chunk.finish([data])
            await chunk.settle()
            return extent
        finally:
            chunk.close()

    async def flush(self) -> None:
        """Return once all chunks written so far are durable. Concurrent callers share one flush."""

    async def close(self) -> None: ...


class ChunkFile(ByteSource, Protocol):
    """A chunk that lies in a file of this machine. Whoever opened it calls `close`.

    `read` and `fetch` raise CorruptDataError with segment and offset, MediaFailedError.
    """

    def close(self) -> None: ...


class ExtentReader(Protocol):
    """Reads verified bytes; never returns bytes whose checksum did not match."""

    @property
    def ahead(self) -> ReadAhead | None:
        """How far a download is to be read ahead; None where nothing is gained by it."""

    async def read(self, extent: Extent, start: int, length: int) -> bytes | memoryview:
        """Return `length` bytes of the extent from `start` (both within it), verified.

        Raises: CorruptDataError with segment and offset; MediaFailedError.
        """

    def file_of(self, extent: Extent) -> ChunkFile | None:
        """The file that a chunk lies in; None where it must be read. Raises: as `read`."""

"""Transforms: compression and encryption, between the write and read paths and the media.

Writing, a `BodyCoder` stands in the place of the chunk writer for one body: what comes in plain
lies on the medium as coded extents (media/frames.py), and the coder tells the coding to keep in the
row. Reading, `open_body` gives a body of plain extents and a reader that answers for them, so the
read path is the same for both. A body without coding passes by all of this.

Each encrypted body has a data key of its own, wrapped for the row (iam/envelope.py) and bound to
bucket and key. Compression and encryption of large bodies run in the threads that write and read.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, TypeVar

import msgspec

from ..core.errors import invariant
from ..core.ids import BucketId
from ..core.limits import (
    CODED_CHUNK_BYTES_MAX,
    CODED_CHUNK_BYTES_MIN,
    COMPRESS_INLINE_BYTES_MAX,
    CRYPT_INLINE_BYTES_MAX,
    FRAME_BYTES,
)
from ..iam.envelope import new_data_key, unwrap, wrap
from ..media import frames
from ..media.ahead import ReadAhead
from ..media.api import (
    Also,
    Buffer,
    ChunkFile,
    ChunkInProgress,
    ChunkWriter,
    Extent,
    ExtentReader,
    nothing,
)
from ..metadata_service.api import CUSTOMER_KEY, Body, Coding, Rewrapped
from .keychain import OpenKeys

if TYPE_CHECKING:
    from .receive import Received, UploadMemory


T = TypeVar("T")


def body_context(bucket: BucketId, key: bytes) -> bytes:
    """What a wrapped data key is bound to."""
    return bucket.to_bytes(8, "big") + key


class Sealing(msgspec.Struct, frozen=True, gc=False):
    """What wraps a body's data key: `key` is a version of a store key or CUSTOMER_KEY."""

    key: int
    wrapping_key: bytes
    context: bytes


class Transform(msgspec.Struct, frozen=True, gc=False):
    """What becomes of the bodies of one write."""

    compress: bool
    sealing: Sealing | None = None


class BodyCoder(ChunkWriter):
    """ChunkWriter of one body, over that of the process."""

    def __init__(self, transform: Transform, chunks: ChunkWriter, memory: UploadMemory) -> None:
        self._compress = transform.compress
        self._sealing = transform.sealing
        self._data_key = None if transform.sealing is None else new_data_key()
        self._chunks = chunks
        self._memory = memory
        self._written: list[tuple[int, bool]] = []

    @property
    def chunk_bytes_max(self) -> int:
        """What is compressed cannot be written before its size is known: less the more bodies are
        under way.
        """
        return max(CODED_CHUNK_BYTES_MIN, min(CODED_CHUNK_BYTES_MAX, self._memory.load_bytes))

    @property
    def streams(self) -> bool:
        return False

    def begin(self, length: int) -> CodedChunk:
        encoder = frames.Encoder(
            len(self._written), compress=self._compress, data_key=self._data_key
        )
        place = len(self._written)
        self._written.append((length, False))
        return CodedChunk(self, encoder, place, length)

    async def flush(self) -> None:
        await self._chunks.flush()

    async def close(self) -> None:
        """The process's writer goes on."""

    async def finish(self, received: Received) -> Received:
        """The received body as it is to be named: a small one coded now, a large one with the
        coding of what was written.
        """
        coding: tuple[Coding, ...] = ()
        data = received.data
        if data:
            encode = partial(frames.encode, data, compress=self._compress, data_key=self._data_key)
            coded = await _near(encode, len(data), compressed=self._compress)
            if coded is not None:
                coding = (self._run((len(data),)),)
                data = coded
        elif any(coded for _, coded in self._written):
            coding = tuple(self._runs())
        return msgspec.structs.replace(received, data=data, coding=coding)

    def begin_stored(self, length: int) -> ChunkInProgress:
        return self._chunks.begin(length)

    def stored(self, place: int, *, coded: bool) -> None:
        self._written[place] = (self._written[place][0], coded)

    def _runs(self) -> list[Coding]:
        """Neighbours that lie there alike make a run; an encrypted body is one run."""
        runs: list[Coding] = []
        sizes: list[int] = []
        before = self._written[0][1]
        for size, coded in [*self._written, (0, not self._written[-1][1])]:
            if coded != before:
                runs.append(self._run(tuple(sizes)) if before else Coding(tuple(sizes)))
                sizes, before = [], coded
            sizes.append(size)
        return runs

    def _run(self, sizes: tuple[int, ...]) -> Coding:
        sealing, data_key = self._sealing, self._data_key
        if sealing is None or data_key is None:
            return Coding(sizes, FRAME_BYTES)
        wrapped = wrap(sealing.wrapping_key, data_key, sealing.context)
        return Coding(sizes, FRAME_BYTES, sealing.key, wrapped)


class CodedChunk:
    """ChunkInProgress that is encoded frame by frame, and written when it is whole."""

    def __init__(self, coder: BodyCoder, encoder: frames.Encoder, place: int, length: int) -> None:
        self._coder = coder
        self._encoder = encoder
        self._place = place
        self._left = length
        self._stored: ChunkInProgress | None = None

    async def append(self, pieces: Sequence[Buffer], also: Also = nothing) -> None:
        loop = asyncio.get_running_loop()
        await asyncio.shield(loop.run_in_executor(None, self._encode, pieces, also))

    async def finish(self, pieces: Sequence[Buffer], also: Also = nothing) -> Extent:
        await self.append(pieces, also)
        invariant(self._left == 0, "a chunk has the length it began with")
        stored, coded = self._encoder.finish()
        self._coder.stored(self._place, coded=coded)
        self._stored = self._coder.begin_stored(sum(map(len, stored)))
        return await self._stored.finish(stored)

    async def settle(self) -> None:
        if self._stored is not None:
            await self._stored.settle()

    def close(self) -> None:
        """Nothing is on the medium before `finish`."""
        if self._stored is not None:
            self._stored.close()

    def _encode(self, pieces: Sequence[Buffer], also: Also) -> None:
        for piece in pieces:
            also(piece)
            self._encoder.update(piece)
            self._left -= len(piece)


async def open_body(
    body: Body, reader: ExtentReader, keys: OpenKeys, context: bytes, customer_key: bytes = b""
) -> tuple[Body, ExtentReader]:
    """The body as if it were plain, and what reads its extents.

    Raises, also later while reading: StoreKeyMissingError, SealError (a data key that does not
    open), CorruptDataError.
    """
    if not body.coding:
        return body, reader
    opened = CodedReader(body, reader, keys, context, customer_key)
    if body.inline:
        return Body(inline=await opened.inline()), opened
    return opened.plain, opened


async def rewraps(body: Body, keys: OpenKeys, context: bytes) -> tuple[Rewrapped, ...]:
    """The body's data keys that an older version of a store key wraps, wrapped by its active one.

    Raises: StoreKeyMissingError, SealError.
    """
    found: list[Rewrapped] = []
    for run in body.coding:
        if run.key <= 0:
            continue
        newest, wrapping_key = await keys.successor(run.key)
        if newest != run.key:
            data_key = unwrap(await keys.version(run.key), run.wrapped, context)
            new = wrap(wrapping_key, data_key, context)
            found.append(Rewrapped(run.wrapped, newest, new))
    return tuple(found)


async def _near(work: Callable[[], T], size: int, *, compressed: bool) -> T:
    """Run it on the loop where a hop to a thread would cost more, else in a thread."""
    if size <= (COMPRESS_INLINE_BYTES_MAX if compressed else CRYPT_INLINE_BYTES_MAX):
        return work()
    return await asyncio.get_running_loop().run_in_executor(None, work)


class CodedReader:
    """ExtentReader of one body. `plain` has its extents as they are told to the read path:
    `segment` is the index, `length` the plain bytes.
    """

    def __init__(
        self, body: Body, reader: ExtentReader, keys: OpenKeys, context: bytes, customer_key: bytes
    ) -> None:
        self._body = body
        self._reader = reader
        self._keys = keys
        self._context = context
        self._customer_key = customer_key
        self._data_keys: dict[bytes, bytes] = {}
        self._last: tuple[int, frames.CodedExtent] | None = None
        # For each extent its run, its place in that, and its plain bytes.
        self._places = [
            (run, place, size) for run in body.coding for place, size in enumerate(run.sizes)
        ]
        invariant(bool(body.inline) or len(self._places) == len(body.extents), "runs cover bodies")
        self.plain = Body(
            extents=tuple(
                Extent(index, 0, size, 0) for index, (_, _, size) in enumerate(self._places)
            )
        )

    async def inline(self) -> bytes:
        run, place, size = self._places[0]
        stored = self._body.inline
        opened = frames.CodedExtent(stored, place, size, len(stored), run.frame_bytes)
        begin, _ = opened.stored_range(0, size)
        return bytes(opened.decode(stored[begin:], 0, size, await self._data_key(run)))

    async def read(self, extent: Extent, start: int, length: int) -> bytes | memoryview:
        index = extent.segment
        run = self._places[index][0]
        held = self._body.extents[index]
        if not run.frame_bytes:
            return await self._reader.read(held, start, length)
        data_key = await self._data_key(run)
        stored: bytes | memoryview
        if held.blocks:
            opened = await self._opened(index)
            stored = await self._reader.read(held, *opened.stored_range(start, length))
        else:
            whole = await self._reader.read(held, 0, held.length)
            opened = self._table(index, whole)
            begin, size = opened.stored_range(start, length)
            stored = memoryview(whole)[begin : begin + size]
        decode = partial(opened.decode, stored, start, length, data_key)
        return await _near(decode, length, compressed=opened.compressed)

    @property
    def ahead(self) -> ReadAhead | None:
        return self._reader.ahead

    def file_of(self, extent: Extent) -> ChunkFile | None:
        """Only what lies there plain can be taken from a file."""
        index = extent.segment
        run = self._places[index][0]
        return None if run.frame_bytes else self._reader.file_of(self._body.extents[index])

    async def _opened(self, index: int) -> frames.CodedExtent:
        """The table of a chunk; the last one is kept, for reading goes on where it was."""
        if self._last is None or self._last[0] != index:
            run, _, size = self._places[index]
            table_bytes = frames.table_bytes(size, run.frame_bytes)
            table = await self._reader.read(self._body.extents[index], 0, table_bytes)
            self._last = index, self._table(index, table)
        return self._last[1]

    def _table(self, index: int, table: bytes | memoryview) -> frames.CodedExtent:
        run, place, size = self._places[index]
        return frames.CodedExtent(
            table, place, size, self._body.extents[index].length, run.frame_bytes
        )

    async def _data_key(self, run: Coding) -> bytes | None:
        if not run.key:
            return None
        data_key = self._data_keys.get(run.wrapped)
        if data_key is None:
            if run.key == CUSTOMER_KEY:
                wrapping_key = self._customer_key
            else:
                wrapping_key = await self._keys.version(run.key)
            data_key = self._data_keys[run.wrapped] = unwrap(
                wrapping_key, run.wrapped, self._context
            )
        return data_key

"""Giving a body out: any range of a version, verified, in bounded memory.

Theory of operation. What lies in a chunk on this machine is told as ranges of a file that the
connection reads, verified, as it sends them. All other bytes come as pieces in memory.

Where a read is a round trip, several are under way (`ReadAhead`): one more with each piece that the
client took, so that one which takes none holds none but the first. That one is small, and there
soon; those behind it are larger.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Iterator, Mapping
from contextlib import aclosing
from types import MappingProxyType

from ..core.limits import LOOP_WINDOW_BYTES_MAX, READ_PIECE_BYTES, SEND_WINDOW_BYTES_MIN
from ..media.ahead import ReadAhead
from ..media.api import Extent, ExtentReader
from ..metadata_service.api import Body
from ..runtime.http import FileRange, read_bytes
from .parts import KeptParts, touched_extents

Piece = bytes | memoryview
Window = tuple[Extent, int, int]
"""Bytes of an extent that are read at once: where in it they begin, and how many there are."""


async def read_body(
    body: Body | KeptParts,
    reader: ExtentReader,
    start: int,
    length: int,
    *,
    from_files: bool = False,
) -> bytes | AsyncIterator[Piece | FileRange]:
    """The bytes `[start, start + length)`: whole when they are few, else as pieces, which may be
    ranges of files if the connection can send `from_files`.

    The first piece is verified before this returns, so damage found there can still be told as an
    error. Raises: CorruptDataError, MediaFailedError.
    """
    if length == 0:
        return b""
    if isinstance(body, Body) and body.inline:
        return body.inline[start : start + length]
    at_once = SEND_WINDOW_BYTES_MIN if from_files else READ_PIECE_BYTES
    if isinstance(body, Body) and len(body.extents) == 1 and length <= at_once:
        data = await reader.read(body.extents[0], start, length)
        return data if isinstance(data, bytes) else bytes(data)
    pieces: AsyncGenerator[Piece | FileRange, None]
    files = from_files and reader.ahead is None
    pieces = (ranges_of if files else pieces_of)(body, reader, start, length)
    first = await anext(pieces)
    return _resumed(first, pieces)


async def pieces_of(
    body: Body | KeptParts, reader: ExtentReader, start: int, length: int
) -> AsyncGenerator[Piece, None]:
    """The same bytes, always as pieces in memory."""
    if isinstance(body, Body) and body.inline:
        yield body.inline[start : start + length]
        return
    touched = _touched(body, start, length)
    if reader.ahead is None:
        async for extent in touched:
            for window in _cut(*extent):
                yield await reader.read(*window)
        return
    async with aclosing(_read_ahead(touched, reader, reader.ahead)) as pieces:
        async for piece in pieces:
            yield piece


async def _read_ahead(
    touched: AsyncIterator[Window], reader: ExtentReader, ahead: ReadAhead
) -> AsyncGenerator[Piece, None]:
    """Windows in their order. The first one, and one that nothing else is held beside, is a piece
    and free; what is held of all others is taken from the budget until the client has it.
    """
    under_way: deque[tuple[asyncio.Future[tuple[Piece]], int]] = deque()
    taken, wanted, size = 0, 1, READ_PIECE_BYTES
    following = await anext(touched, None)
    with ahead.download():
        try:
            while following or under_way:
                while following and len(under_way) < wanted:
                    extent, at, left = following
                    window = charge = min(size, left)
                    if wanted == 1 or not ahead.take(charge):
                        if under_way:
                            break
                        window, charge = min(READ_PIECE_BYTES, left), 0
                    taken += charge
                    reading = asyncio.gather(reader.read(extent, at, window))
                    under_way.append((reading, charge))
                    following = extent, at + window, left - window
                    if window == left:
                        following = await anext(touched, None)
                await asyncio.wait([under_way[0][0]])
                reading, charge = under_way.popleft()
                (piece,) = reading.result()
                yield piece
                del reading, piece
                taken -= charge
                ahead.give_back(charge)
                wanted = min(wanted + 1, ahead.windows_max)
                size = ahead.window_bytes
        finally:
            for reading, _ in under_way:
                reading.cancel()
            ahead.give_back(taken)
            await asyncio.gather(*(one for one, _ in under_way), return_exceptions=True)


async def ranges_of(
    body: Body | KeptParts, reader: ExtentReader, start: int, length: int
) -> AsyncGenerator[Piece | FileRange, None]:
    """The same bytes, from files where they lie in files. The body is not inline."""
    first = True
    async for extent, skip, size in _touched(body, start, length):
        file = reader.file_of(extent)
        if file is None:
            for window in _cut(extent, skip, size):
                yield await reader.read(*window)
            continue
        try:
            if first:
                await read_bytes(file, skip, min(size, LOOP_WINDOW_BYTES_MAX))
                first = False
            yield FileRange(file, skip, size)
        finally:
            file.close()


def _cut(extent: Extent, skip: int, size: int) -> Iterator[Window]:
    end = skip + size
    for at in range(skip, end, READ_PIECE_BYTES):
        yield extent, at, min(READ_PIECE_BYTES, end - at)


async def _touched(body: Body | KeptParts, start: int, length: int) -> AsyncIterator[Window]:
    """The extents that the range touches: each with where in it to begin, and how many bytes."""
    if isinstance(body, Body):
        for touched in touched_extents(body.extents, start, length):
            yield touched
        return
    async for touched in body.touched(start, length):
        yield touched


async def _resumed(
    first: Piece | FileRange, rest: AsyncGenerator[Piece | FileRange, None]
) -> AsyncGenerator[Piece | FileRange, None]:
    async with aclosing(rest):
        yield first
        async for piece in rest:
            yield piece


class StoredPayload:
    """A range of a stored version as the payload of a copy."""

    trailers: Mapping[str, str] = MappingProxyType({})

    def __init__(
        self, body: Body | KeptParts, reader: ExtentReader, start: int, length: int
    ) -> None:
        self._pieces = pieces_of(body, reader, start, length)
        self.length = length

    async def read(self) -> bytes | memoryview:
        return await anext(self._pieces, b"")

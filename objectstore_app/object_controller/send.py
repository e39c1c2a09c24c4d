"""Giving a body out: any range of a version as verified pieces, in bounded memory."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from types import MappingProxyType

from ..core.errors import invariant
from ..core.limits import READ_PIECE_BYTES
from ..media.api import ExtentReader
from ..metadata_service.api import Body

Piece = bytes | memoryview


async def read_body(
    body: Body, reader: ExtentReader, start: int, length: int
) -> bytes | AsyncIterator[Piece]:
    """The bytes `[start, start + length)`: whole when they are few, else as pieces.

    The first piece is read before this returns, so damage found there can still be told as an
    error. Raises: CorruptDataError, MediaFailedError.
    """
    if length == 0:
        return b""
    if body.inline:
        return body.inline[start : start + length]
    if len(body.extents) == 1 and length <= READ_PIECE_BYTES:
        data = await reader.read(body.extents[0], start, length)
        return data if isinstance(data, bytes) else bytes(data)
    pieces = pieces_of(body, reader, start, length)
    first = await anext(pieces)
    return _resumed(first, pieces)


async def pieces_of(
    body: Body, reader: ExtentReader, start: int, length: int
) -> AsyncIterator[Piece]:
    """The same bytes, always as pieces of at most READ_PIECE_BYTES."""
    if body.inline:
        yield body.inline[start : start + length]
        return
    skip, left = start, length
    for extent in body.extents:
        if skip >= extent.length:
            skip -= extent.length
            continue
        while left and skip < extent.length:
            wanted = min(left, extent.length - skip, READ_PIECE_BYTES)
            yield await reader.read(extent, skip, wanted)
            skip += wanted
            left -= wanted
        skip = 0
        if not left:
            return
    invariant(left == 0, "extents are as long as the version's size says")


async def _resumed(first: Piece, rest: AsyncIterator[Piece]) -> AsyncIterator[Piece]:
    yield first
    async for piece in rest:
        yield piece


class StoredPayload:
    """A range of a stored version as the payload of a copy."""

    trailers: Mapping[str, str] = MappingProxyType({})

    def __init__(self, body: Body, reader: ExtentReader, start: int, length: int) -> None:
        self._pieces = pieces_of(body, reader, start, length)
        self.length = length

    async def read(self) -> bytes | memoryview:
        return await anext(self._pieces, b"")

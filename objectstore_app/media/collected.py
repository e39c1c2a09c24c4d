"""A chunk that is collected in memory, for media that take chunks only whole."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence

from ..core.errors import invariant
from .api import Also, Buffer, Extent, nothing


class CollectedChunk:
    """ChunkInProgress that is held in memory and written when it is whole."""

    def __init__(
        self, length: int, write: Callable[[bytes | memoryview], Awaitable[Extent]]
    ) -> None:
        self._data = bytearray()
        self._length = length
        self._write = write

    async def append(self, pieces: Sequence[Buffer], also: Also = nothing) -> None:
        await asyncio.get_running_loop().run_in_executor(None, self._take, pieces, also)

    async def finish(self, pieces: Sequence[Buffer], also: Also = nothing) -> Extent:
        await self.append(pieces, also)
        invariant(len(self._data) == self._length, "a chunk has the length it began with")
        # Whoever writes a body may hold on to its chunks until the last one, not to their bytes.
        data, self._data = self._data, bytearray()
        return await self._write(memoryview(data))

    async def settle(self) -> None:
        """`finish` waited."""

    def close(self) -> None:
        """Nothing names what was not written."""

    def _take(self, pieces: Sequence[Buffer], also: Also) -> None:
        for piece in pieces:
            also(piece)
            self._data += piece

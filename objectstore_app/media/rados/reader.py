"""Extents on RADOS, read and verified.

Theory of operation. A chunk's table and its blocks are asked for at the same time, and who asks for
the same table meanwhile shares it; a download has several windows under way (`ReadAhead`). A chunk
segment is looked for in the pool where it was written, and when it is gone there in the cold one,
whose index (`cold.py`) is kept from then on. A cold segment is replaced when much of it died, and
its index with it: what does not match is read once more, by an index that is read for that, whether
or not another read has renewed the kept one meanwhile. What a mirror on this machine has of a log
is read there.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict

from ...core.limits import (
    CHECKSUM_BLOCK_BYTES,
    RADOS_READ_AHEAD_BYTES_MAX,
    RADOS_READ_WINDOW_BYTES_MAX,
    RADOS_READ_WINDOWS_MAX,
)
from ..ahead import ReadAhead
from ..api import Extent
from ..errors import CorruptDataError
from ..segments import check_blocks, checksum, corrupt, is_chunk, table_bytes
from .cold import INDEX_BYTES_READ, ColdIndex, decode_index, wanted_bytes
from .heap import Heap
from .mirror import MirrorReader
from .names import cold_name, object_name
from .pool import READ_BYTES_MAX, Pool
from .pools import StorePools

TABLES_KEPT = 1024
INDEXES_KEPT = 4096


class RadosReader:
    """ExtentReader of one process. Belongs to one loop."""

    def __init__(self, pools: StorePools, heap: Heap, mirror: MirrorReader | None = None) -> None:
        self.ahead = ReadAhead(
            RADOS_READ_WINDOWS_MAX, RADOS_READ_WINDOW_BYTES_MAX, RADOS_READ_AHEAD_BYTES_MAX
        )
        self._pools = pools
        self._heap = heap
        self._mirror = mirror
        self._tables: OrderedDict[tuple[int, int, int], bytes] = OrderedDict()
        self._asked: dict[tuple[int, int, int], asyncio.Future[tuple[bytes]]] = {}
        self._cold: OrderedDict[int, ColdIndex] = OrderedDict()

    async def read(self, extent: Extent, start: int, length: int) -> bytes | memoryview:
        cold, segment = self._pools.cold, extent.segment
        try:
            return await self._verified(extent, start, length)
        except CorruptDataError:
            if cold is None or segment not in self._cold:
                raise
        index = await self._read_index(cold, segment)
        return await self._verified(extent, start, length, index)

    def file_of(self, extent: Extent) -> None:
        """No object is a file of this machine."""

    async def _verified(
        self, extent: Extent, start: int, length: int, index: ColdIndex | None = None
    ) -> bytes | memoryview:
        if not extent.blocks:
            body = self._mirror.read(extent) if self._mirror else None
            if body is None:
                body = await self._read(extent.segment, extent.offset, extent.length, None)
                if checksum(body) != extent.crc:
                    raise corrupt(extent.segment, extent.offset, "a record's body")
            return body if length == extent.length else memoryview(body)[start : start + length]
        step = CHECKSUM_BLOCK_BYTES
        first = start // step
        begin, end = first * step, min(-(-(start + length) // step) * step, extent.length)
        self._heap.used()
        reading = self._read(extent.segment, extent.offset + begin, end - begin, index)
        held = self._tables.get((extent.segment, extent.offset, extent.crc))
        if held is None:
            table, data = await asyncio.gather(self._table(extent, index), reading)
        else:
            table, data = held, await reading
        view = memoryview(data)
        check_blocks(view, table, first, extent.segment, extent.offset + begin)
        return view[start - begin : start - begin + length]

    async def _table(self, extent: Extent, index: ColdIndex | None) -> bytes:
        if index is not None:
            return await self._read_table(extent, index)
        key = (extent.segment, extent.offset, extent.crc)
        asked = self._asked.get(key)
        if asked is None:

            def over(answer: asyncio.Future[tuple[bytes]]) -> None:
                del self._asked[key]
                if not answer.cancelled():
                    answer.exception()  # whoever asked may be gone

            asked = self._asked[key] = asyncio.gather(self._read_table(extent, None))
            asked.add_done_callback(over)
        (table,) = await asyncio.shield(asked)
        return table

    async def _read_table(self, extent: Extent, index: ColdIndex | None) -> bytes:
        key = (extent.segment, extent.offset, extent.crc)
        place = extent.offset + extent.length
        table = await self._read(extent.segment, place, table_bytes(extent.length), index)
        if checksum(table) != extent.crc:
            raise corrupt(extent.segment, place, "a chunk's table")
        if len(self._tables) >= TABLES_KEPT:
            self._tables.popitem(last=False)
        self._tables[key] = table
        return table

    async def _read(self, segment: int, offset: int, length: int, index: ColdIndex | None) -> bytes:
        cold = self._pools.cold
        data = None
        if index is None and segment not in self._cold:
            data = await _read(self._pools.of(segment), object_name(segment), offset, length)
        if data is None and cold is not None and is_chunk(segment):
            index = index or self._cold.get(segment) or await self._read_index(cold, segment)
            place = index.place(offset, length)
            data = b"" if place is None else await _read(cold, cold_name(segment), place, length)
        if data is None:
            raise CorruptDataError("read", object_name(segment), "the segment is missing")
        if len(data) != length:
            subject = f"segment {segment:#x} offset {offset}"
            raise CorruptDataError("read", subject, "the segment is too short")
        return data

    async def _read_index(self, cold: Pool, segment: int) -> ColdIndex:
        """The index of now, kept from now on."""
        name = cold_name(segment)
        start = await cold.read_async(name, 0, INDEX_BYTES_READ)
        if start is not None and wanted_bytes(start) > len(start):
            start = await cold.read_async(name, 0, wanted_bytes(start))
        if start is None:
            raise CorruptDataError("read", object_name(segment), "the segment is missing")
        index = decode_index(segment, start, name)
        if segment not in self._cold and len(self._cold) >= INDEXES_KEPT:
            self._cold.popitem(last=False)
        self._cold[segment] = index
        return index


async def _read(pool: Pool, name: str, offset: int, length: int) -> bytes | None:
    """What the object has of these bytes; None when there is no such object."""
    if length <= READ_BYTES_MAX:
        return await pool.read_async(name, offset, length)
    pieces = await asyncio.gather(
        *(
            pool.read_async(name, offset + at, min(READ_BYTES_MAX, length - at))
            for at in range(0, length, READ_BYTES_MAX)
        )
    )
    return None if None in pieces else b"".join(piece or b"" for piece in pieces)

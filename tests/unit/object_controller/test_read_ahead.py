"""Downloads read ahead: in order, as far as the client comes along, within one budget."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncGenerator

import pytest

from objectstore_app.core.limits import MIB, READ_PIECE_BYTES
from objectstore_app.media.ahead import ReadAhead
from objectstore_app.media.api import Extent
from objectstore_app.media.errors import CorruptDataError
from objectstore_app.metadata_service.api import Body
from objectstore_app.object_controller.send import pieces_of, read_body

WINDOWS_MAX = 4
DATA = random.Random(1).randbytes(9 * MIB + 77)
SIZES = (2 * MIB + 500_000, 1, 6 * MIB)
EXTENTS = tuple(
    Extent(1, sum(SIZES[:number]), size, 0, blocks=True) for number, size in enumerate(SIZES)
)
BODY = Body(extents=EXTENTS)
LENGTH = sum(SIZES)


class SlowReader:
    """ExtentReader whose reads end in any order; knows how many are under way."""

    def __init__(self, budget: int, *, damaged_at: int = -1) -> None:
        self.ahead = ReadAhead(WINDOWS_MAX, budget)
        self.begun = 0
        self.under_way = 0
        self._dice = random.Random(2)
        self._damaged_at = damaged_at

    async def read(self, extent: Extent, start: int, length: int) -> bytes:
        self.begun += 1
        self.under_way += 1
        try:
            for _ in range(self._dice.randrange(6)):
                await asyncio.sleep(0)
            at = extent.offset + start
            if at <= self._damaged_at < at + length:
                raise CorruptDataError("read", "segment 0x1", "it does not match")
            return DATA[at : at + length]
        finally:
            self.under_way -= 1

    def file_of(self, _: Extent) -> None:
        raise AssertionError("what is read ahead lies in no file")

    def left(self) -> int:
        """How much of the budget nobody holds."""
        taken = 0
        while self.ahead.take():
            taken += 1
        for _ in range(taken):
            self.ahead.give_back()
        return taken


async def taken(pieces: AsyncGenerator[bytes | memoryview, None], count: int) -> list[bytes]:
    return [bytes(await anext(pieces)) for _ in range(count)]


@pytest.mark.parametrize("budget", [0, 1, 100])
def test_any_range_comes_in_order(budget: int) -> None:
    async def run() -> None:
        reader, dice = SlowReader(budget), random.Random(3)
        ranges = [(0, LENGTH), (MIB - 1, MIB + 1), (LENGTH - 1, LENGTH)]
        ranges += [sorted((dice.randrange(LENGTH), dice.randrange(LENGTH))) for _ in range(20)]
        for start, end in ranges:
            found = await read_body(BODY, reader, start, end - start, from_files=True)
            if not isinstance(found, bytes):
                found = b"".join([bytes(piece) async for piece in found])
            assert found == DATA[start:end]
        assert (reader.under_way, reader.left()) == (0, budget)

    asyncio.run(run())


def test_client_that_takes_nothing_has_one_window_read_and_each_piece_adds_one() -> None:
    async def run() -> None:
        reader = SlowReader(100)
        pieces = pieces_of(BODY, reader, 0, LENGTH)
        begun = []
        for _ in range(6):
            await anext(pieces)
            begun.append(reader.begun)
        # One, then two under way, three, four: as many as were taken, and the one waited for.
        assert begun == [1, 3, 5, 7, 8, 9]
        assert reader.left() == 100 - (WINDOWS_MAX - 1)
        await pieces.aclose()
        assert (reader.under_way, reader.left()) == (0, 100)

    asyncio.run(run())


def test_downloads_share_a_budget_and_go_on_without_it() -> None:
    async def run() -> None:
        reader = SlowReader(3)
        downloads = [pieces_of(BODY, reader, 0, LENGTH) for _ in range(3)]
        for _ in range(5):
            for pieces in downloads:
                await anext(pieces)
                assert reader.left() >= 0
        assert reader.left() == 0
        assert reader.begun <= len(downloads) * 5 + 3
        for pieces in downloads:
            await pieces.aclose()
        assert reader.left() == 3

    asyncio.run(run())


def test_damage_ends_the_download_at_its_place() -> None:
    async def run() -> None:
        damaged = READ_PIECE_BYTES * 2 + 5
        reader = SlowReader(100, damaged_at=damaged)
        pieces = pieces_of(BODY, reader, 0, LENGTH)
        good = b"".join(await taken(pieces, 2))
        assert good == DATA[: 2 * READ_PIECE_BYTES]
        with pytest.raises(CorruptDataError):
            await anext(pieces)
        assert (reader.under_way, reader.left()) == (0, 100)

    asyncio.run(run())


def test_client_that_leaves_while_it_waits_leaves_nothing() -> None:
    async def run() -> None:
        reader = SlowReader(100)
        pieces = pieces_of(BODY, reader, 0, LENGTH)
        await taken(pieces, 3)
        waiting = asyncio.ensure_future(anext(pieces))
        await asyncio.sleep(0)
        waiting.cancel()
        await asyncio.wait([waiting])
        await pieces.aclose()
        assert (reader.under_way, reader.left()) == (0, 100)

    asyncio.run(run())

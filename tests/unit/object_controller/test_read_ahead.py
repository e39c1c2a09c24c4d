"""Downloads read ahead: in order, as far as the client comes along, within one budget."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncGenerator
from contextlib import ExitStack

import pytest

from objectstore_app.core.limits import MIB, READ_PIECE_BYTES
from objectstore_app.media.ahead import ReadAhead
from objectstore_app.media.api import Extent
from objectstore_app.media.errors import CorruptDataError
from objectstore_app.metadata_service.api import Body
from objectstore_app.object_controller.send import pieces_of, read_body

WINDOWS_MAX = 3
WINDOW_BYTES_MAX = 2 * READ_PIECE_BYTES
PLENTY = 100 * MIB
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
        self.ahead = ReadAhead(WINDOWS_MAX, WINDOW_BYTES_MAX, budget)
        self.begun: list[int] = []
        self.under_way = 0
        self._dice = random.Random(2)
        self._damaged_at = damaged_at

    async def read(self, extent: Extent, start: int, length: int) -> bytes:
        self.begun.append(length)
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
        taken = sum(1 << bit for bit in reversed(range(32)) if self.ahead.take(1 << bit))
        self.ahead.give_back(taken)
        return taken


async def taken(pieces: AsyncGenerator[bytes | memoryview, None], count: int) -> list[bytes]:
    return [bytes(await anext(pieces)) for _ in range(count)]


@pytest.mark.parametrize("budget", [0, MIB, 3 * MIB, PLENTY])
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


def test_client_that_takes_nothing_has_one_piece_read_and_each_taken_adds_a_window() -> None:
    async def run() -> None:
        reader = SlowReader(PLENTY)
        pieces = pieces_of(BODY, reader, 0, LENGTH)
        begun = []
        for _ in range(4):
            await anext(pieces)
            begun.append(len(reader.begun))
        # One, then two under way, then three: as many as were taken, and the one waited for.
        assert begun == [1, 3, 5, 6]
        assert reader.begun[0] == READ_PIECE_BYTES
        assert max(reader.begun[1:]) == WINDOW_BYTES_MAX
        assert reader.left() == PLENTY - sum(reader.begun[-WINDOWS_MAX:])
        await pieces.aclose()
        assert (reader.under_way, reader.left()) == (0, PLENTY)

    asyncio.run(run())


def test_what_its_client_has_not_taken_yet_is_of_the_budget() -> None:
    async def run() -> None:
        reader = SlowReader(PLENTY)
        pieces = pieces_of(BODY, reader, 0, LENGTH)
        await anext(pieces)
        assert reader.left() == PLENTY
        sent = len(await anext(pieces))
        behind = sum(reader.begun[2:])
        assert reader.left() == PLENTY - sent - behind
        await pieces.aclose()

    asyncio.run(run())


def test_downloads_share_a_budget_and_go_on_without_it() -> None:
    async def run() -> None:
        budget = 3 * READ_PIECE_BYTES
        reader = SlowReader(budget)
        downloads = [pieces_of(BODY, reader, 0, LENGTH) for _ in range(3)]
        for _ in range(5):
            for pieces in downloads:
                await anext(pieces)
                assert reader.left() >= 0
        assert reader.left() == 0
        assert max(reader.begun) == READ_PIECE_BYTES
        assert len(reader.begun) <= len(downloads) * 5 + 3
        for pieces in downloads:
            await pieces.aclose()
        assert reader.left() == budget

    asyncio.run(run())


def test_windows_are_smaller_the_more_downloads_there_are() -> None:
    ahead = ReadAhead(WINDOWS_MAX, 4 * MIB, 32 * MIB)
    sizes = []
    with ExitStack() as downloads:
        for _ in range(20):
            downloads.enter_context(ahead.download())
            sizes.append(ahead.window_bytes // MIB)
    assert sizes == [4] * 4 + [3] + [2] * 3 + [1] * 12
    assert ahead.window_bytes == 4 * MIB


def test_damage_ends_the_download_at_its_place() -> None:
    async def run() -> None:
        damaged = SIZES[0] + SIZES[1] + 5
        reader = SlowReader(PLENTY, damaged_at=damaged)
        pieces = pieces_of(BODY, reader, 0, LENGTH)
        good = b"".join(await taken(pieces, 3))
        assert good == DATA[: SIZES[0] + SIZES[1]]
        with pytest.raises(CorruptDataError):
            await anext(pieces)
        assert (reader.under_way, reader.left()) == (0, PLENTY)

    asyncio.run(run())


def test_client_that_leaves_while_it_waits_leaves_nothing() -> None:
    async def run() -> None:
        reader = SlowReader(PLENTY)
        pieces = pieces_of(BODY, reader, 0, LENGTH)
        await taken(pieces, 3)
        waiting = asyncio.ensure_future(anext(pieces))
        await asyncio.sleep(0)
        waiting.cancel()
        await asyncio.wait([waiting])
        await pieces.aclose()
        assert (reader.under_way, reader.left()) == (0, PLENTY)

    asyncio.run(run())

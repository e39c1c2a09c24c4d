"""When the heap of large pieces gives its room back."""

from __future__ import annotations

import asyncio

import pytest

from objectstore_app.media.rados import heap as heap_module
from objectstore_app.media.rados.heap import Heap

CALM_S, TRIM_S_MAX = 0.02, 0.2


class Libc:
    def __init__(self) -> None:
        self.trimmed = asyncio.Event()
        self.times: list[float] = []

    def mallopt(self, *_: int) -> int:
        return 1

    def malloc_trim(self, _: int) -> int:
        self.times.append(asyncio.get_running_loop().time())
        self.trimmed.set()
        return 1


def test_it_is_trimmed_once_when_pieces_stop_coming(monkeypatch: pytest.MonkeyPatch) -> None:
    async def run() -> None:
        libc = Libc()
        monkeypatch.setattr(heap_module, "_libc", libc)
        heap = Heap(calm_s=CALM_S, trim_s_max=60.0)
        loop = asyncio.get_running_loop()
        for number in range(2):
            libc.trimmed.clear()
            for _ in range(10):
                heap.used()
                last = loop.time()
                await asyncio.sleep(0)
            await asyncio.wait_for(libc.trimmed.wait(), 5)
            assert len(libc.times) == number + 1
            assert libc.times[-1] >= last + CALM_S

    asyncio.run(run())


def test_it_is_trimmed_now_and_then_while_pieces_come(monkeypatch: pytest.MonkeyPatch) -> None:
    async def run() -> None:
        libc = Libc()
        monkeypatch.setattr(heap_module, "_libc", libc)
        heap = Heap(calm_s=CALM_S, trim_s_max=TRIM_S_MAX)
        begun = asyncio.get_running_loop().time()
        async with asyncio.timeout(5):
            while not libc.trimmed.is_set():
                heap.used()
                await asyncio.sleep(0)
        assert libc.times[0] >= begun + TRIM_S_MAX

    asyncio.run(run())

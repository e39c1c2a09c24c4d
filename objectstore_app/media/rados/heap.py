"""The heap of a process that moves large pieces through librados.

librados copies what it sends, and what it receives, in one thread and lets go of it in another.
With a heap for each thread the allocator would keep such pieces in the holes of all of them, so
there is one. With a mapping for each piece every page of it would cost a fault, as much as all else
that a download costs, so they come from the heap, which keeps what it has while pieces come and go.
What is in its holes is given back when none came for a moment, and now and then: who sends to
clients that do not read holds only what they wait for.
"""

from __future__ import annotations

import asyncio
import ctypes

from ...core.limits import (
    HEAP_CALM_S,
    HEAP_KEPT_BYTES_MAX,
    HEAP_MAPPED_BYTES_MIN,
    HEAP_TRIM_S_MAX,
)

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD, _M_ARENA_MAX = -1, -3, -8
_libc = ctypes.CDLL(None)


class Heap:
    """Belongs to one loop once it is used."""

    def __init__(self, *, calm_s: float = HEAP_CALM_S, trim_s_max: float = HEAP_TRIM_S_MAX) -> None:
        _libc.mallopt(_M_ARENA_MAX, 1)
        _libc.mallopt(_M_MMAP_THRESHOLD, HEAP_MAPPED_BYTES_MIN)
        _libc.mallopt(_M_TRIM_THRESHOLD, HEAP_KEPT_BYTES_MAX)
        self._calm_s = calm_s
        self._trim_s_max = trim_s_max
        self._last_use = 0.0
        self._armed = False

    def used(self) -> None:
        """A large piece comes or goes: its room is given back in time."""
        loop = asyncio.get_running_loop()
        self._last_use = loop.time()
        if not self._armed:
            self._armed = True
            loop.call_later(self._calm_s, self._look, self._last_use + self._trim_s_max)

    def _look(self, trim_by: float) -> None:
        loop = asyncio.get_running_loop()
        now = loop.time()
        if now < self._last_use + self._calm_s and now < trim_by:
            loop.call_later(self._calm_s, self._look, trim_by)
            return
        self._armed = False
        _libc.malloc_trim(0)

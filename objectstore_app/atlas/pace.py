"""How Atlas keeps out of the way: a budget of bytes a second, and pauses for who was kept waiting.

The process runs at the lowest priority of processor and disk. That is not enough where it asks a
writer, which serves everybody in turn: Atlas asks for little at once (`work.ASK_AT_ONCE`), so that
no commit gets much longer by it, and pauses several times as long as it waited for the answer, so
that it has a small share of the writer, and less the busier it is.

When room gets short, what gives room back is hurried: no budget, no pauses (`passes`).
"""

from __future__ import annotations

import asyncio
import ctypes
import os
import platform
import time
from collections.abc import Awaitable, Callable

from ..core.errors import ObjectStoreError

PAUSE_FACTOR = 16.0
PAUSE_S_MAX = 2.0
STEP_S = 0.02
_BURST_S = 0.1
_IOPRIO_WHO_PROCESS, _IOPRIO_IDLE = 1, 3 << 13
_IOPRIO_SET = {"x86_64": 251, "aarch64": 30}


class StoppedError(ObjectStoreError):
    """The process was asked to end; the pass goes on where it is at the next start."""


class Pace:
    """`bytes_per_s` 0 means no budget, and no pauses either: for tests and operators in a hurry.
    While `hurried`, so it is whatever the budget: the disk is filling up.
    """

    def __init__(
        self,
        bytes_per_s: int,
        *,
        stop: asyncio.Event | None = None,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._bytes_per_s = bytes_per_s
        self.hurried = False
        self._clock = clock
        self._sleep = sleep
        self._paid_until = clock()
        self._worked_since = clock()
        self._stop = stop

    @property
    def stopped(self) -> bool:
        """Whether the process was asked to end."""
        return self._stop is not None and self._stop.is_set()

    @property
    def _paced(self) -> bool:
        return self._bytes_per_s > 0 and not self.hurried

    async def spend(self, count: int) -> None:
        """Return when that many bytes more are within the budget. Raises StoppedError."""
        if self._paced:
            now = self._clock()
            start = max(self._paid_until, now - _BURST_S)
            self._paid_until = start + count / self._bytes_per_s
            if self._paid_until > now:
                await self._sleep(self._paid_until - now)
        await self.rest()

    async def rest(self) -> None:
        """Give the processor up for as long as it was used since the last rest. Raises
        StoppedError.
        """
        if self.stopped:
            raise StoppedError("atlas", "pass", "the process was asked to end")
        worked = self._clock() - self._worked_since
        if worked < STEP_S and self._paced:
            return
        await self._sleep(min(worked, PAUSE_S_MAX) if self._paced else 0)
        self._worked_since = self._clock()

    async def after_commit(self, took_s: float) -> None:
        """Pause for a commit of ours that took so long. Raises StoppedError."""
        if self._paced:
            await self._sleep(min(took_s * PAUSE_FACTOR, PAUSE_S_MAX))
        self._worked_since = self._clock()
        await self.rest()


def lowest_priority() -> None:
    """Let this process have processor and disk only when nobody else wants them."""
    os.nice(19)
    number = _IOPRIO_SET.get(platform.machine())
    if number is not None:
        ctypes.CDLL(None, use_errno=True).syscall(number, _IOPRIO_WHO_PROCESS, 0, _IOPRIO_IDLE)

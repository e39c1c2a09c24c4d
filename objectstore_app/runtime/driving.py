"""Running a coroutine without a task for as long as it has nothing to wait for.

Theory of operation. Most requests are answered without waiting, and a task with its wake-ups costs
a good part of such an answer. So a coroutine is started on its caller's stack with `send(None)`:
either it ends there (StopIteration), or it hands out what it waits for; then `Started` makes of the
two what a task can go on with. There is one way to write operations, `async def`, and it does not
matter to them which way they run, but for one thing: asyncio's TaskGroup and timeout need a task
around them from the beginning. Who uses those awaits `inside_task` first.
"""

from __future__ import annotations

import asyncio
import types
from collections.abc import Coroutine, Generator
from typing import Any


class Started(Coroutine[Any, Any, None]):
    """A coroutine that has been started and waits for `waited`, as a task takes it."""

    __slots__ = ("_coroutine", "_resumed", "_waited")

    def __init__(self, coroutine: Coroutine[Any, Any, None], waited: object) -> None:
        self._coroutine = coroutine
        self._waited = waited
        self._resumed = False

    def send(self, value: object) -> object:
        if self._resumed:
            return self._coroutine.send(value)
        self._resumed = True
        waited, self._waited = self._waited, None
        return waited

    def throw(self, *error: Any) -> object:
        self._resumed = True
        return self._coroutine.throw(*error)

    def close(self) -> None:
        self._coroutine.close()

    def __await__(self) -> Generator[Any, Any, None]:
        return self._coroutine.__await__()


@types.coroutine
def inside_task() -> Generator[None, None, None]:
    """Go on inside a task: await it before the first TaskGroup or timeout of an operation."""
    if asyncio.current_task() is None:
        yield

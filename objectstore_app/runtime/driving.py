"""Running a coroutine without a task, by the callbacks of what it waits for.

Theory of operation. A task costs its making, a turn of the loop before it begins and another at its
end; an answer is worth little more. So a coroutine is started on its caller's stack with
`send(None)`. Either it ends there (StopIteration) or it hands out the future that it waits for,
whose callback then takes it to the next one; where it hands out nothing (`asyncio.sleep(0)`) it
goes on in the loop's next turn. There is one way to write operations, `async def`, and it makes but
one difference to them: without a task around them asyncio's TaskGroup and timeout are not to be
had, and nobody can cancel them. An operation that needs those makes a task of that part.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine

Operation = Coroutine["asyncio.Future[object] | None", None, None]


class Driven:
    """A coroutine that waits; `ended` is called after its end, unless that was an error."""

    __slots__ = ("_coroutine", "_ended", "_loop")

    def __init__(
        self, loop: asyncio.AbstractEventLoop, coroutine: Operation, ended: Callable[[], None]
    ) -> None:
        self._loop = loop
        self._coroutine = coroutine
        self._ended = ended

    def wait(self, waited: asyncio.Future[object] | None) -> None:
        """Go on once `waited` is done, which is what the coroutine handed out."""
        if waited is None:
            self._loop.call_soon(self._go_on)
        else:
            # This is what tells a future handed out by `await` from one that was yielded.
            waited._asyncio_future_blocking = False
            waited.add_done_callback(self._go_on)

    def _go_on(self, _: asyncio.Future[object] | None = None) -> None:
        try:
            waited = self._coroutine.send(None)
        except (StopIteration, asyncio.CancelledError):  # what it waited for may be cancelled
            self._ended()
        else:
            self.wait(waited)

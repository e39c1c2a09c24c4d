"""Whether a shard's log is still ours, asked now and then.

An append says so by itself. This is for a writer that has nothing to append: while another store
has its log, its views grow old, and whoever reads them must not do so for longer than a moment.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from ..media.api import LogMedium
from ..media.errors import MediaError
from ..runtime.logging import event

CONFIRM_S = 1.0


class OwnershipWatch:
    """Belongs to the loop that commits to the shard; asks in a thread."""

    def __init__(self, medium: LogMedium, lost: Callable[[], None]) -> None:
        """`lost` is called once, when another process has the log. Nothing is asked of a medium
        where none can have it.
        """
        self._medium = medium
        self._lost = lost
        self._loop = asyncio.get_running_loop()
        self._asking: asyncio.Future[bool] | None = None
        self._due: asyncio.TimerHandle | None = None
        self._closed = False
        if medium.contested:
            self._wait()

    async def close(self) -> None:
        """Ask no more, and wait for the answer under way; the log is the caller's to close."""
        self._closed = True
        if self._due is not None:
            self._due.cancel()
        if self._asking is not None:
            await asyncio.wait([self._asking])

    def _wait(self) -> None:
        self._due = self._loop.call_later(CONFIRM_S, self._ask)

    def _ask(self) -> None:
        self._asking = self._loop.run_in_executor(None, self._medium.confirm)
        self._asking.add_done_callback(self._answered)

    def _answered(self, asking: asyncio.Future[bool]) -> None:
        self._asking = None
        try:
            ours = asking.result()
        except MediaError as error:
            # Nobody can say. Appends will: they compare who we are, or wait for the medium.
            event("owner_unknown", reason=str(error))
            ours = True
        if self._closed:
            return
        if ours:
            self._wait()
        else:
            self._lost()

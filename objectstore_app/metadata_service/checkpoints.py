"""Checkpoints of a view, beside its commits.

Theory of operation. SQLite would move its write-ahead log into the database inside the commit that
makes the log long enough, and that commit would wait for two flushes and thousands of pages. Here a
thread does it, over a connection of its own, while commits go on. SQLite begins its log anew only
when all of it is moved and nobody reads from it: so what commits append meanwhile is moved by more
rounds, and the last pages of it between two commits.

A round begins when the write-ahead log is long, or when something in it is old: its pages have no
checksum that readers verify, those of the database have. Until it is moved a page is read from the
kernel's memory, where it was just written; so what a disk does to it in the meantime is never seen.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from pathlib import Path

import apsw

from ..runtime.logging import event
from .view import checkpoint, open_checkpointer

CHECKPOINT_PAGES = 4000
FINISH_PAGES = 500
ROUNDS_MAX = 4
UNMOVED_S_MAX = 5.0
_OK: int = apsw.SQLITE_OK


class Checkpointer:
    """Belongs to the loop that commits to the view. A full disk delays it."""

    def __init__(self, view: apsw.Connection, path: Path, fail: Callable[[str], None]) -> None:
        """`fail` learns why the process must not go on: pages could not be written."""
        self._view = view
        self._path = path
        self._fail = fail
        self._loop = asyncio.get_running_loop()
        self._own: apsw.Connection | None = None
        self._running: asyncio.Future[int] | None = None
        self._rounds = 0
        self._pages = 0
        self._moved = 0
        self._due: asyncio.TimerHandle | None = None
        # This takes the place of SQLite's automatic checkpoints.
        view.set_wal_hook(self._committed)
        # What a writer before this one left is old, too.
        self._wait()

    async def close(self) -> None:
        """Begin no more rounds, wait for one under way; the view is the caller's to close."""
        self._rounds = ROUNDS_MAX
        with contextlib.suppress(apsw.ConnectionClosedError):  # a commit that failed closed it
            self._view.set_wal_hook(None)
        if self._running is not None:
            await asyncio.wait([self._running])
        if self._due is not None:
            self._due.cancel()
        if self._own is not None:
            self._own.close()

    def _committed(self, _: apsw.Connection, __: str, pages: int) -> int:
        if pages < self._pages:
            self._moved = 0
        self._pages = pages
        if self._running is None and pages - self._moved >= CHECKPOINT_PAGES:
            self._begin()
        else:
            self._wait()
        return _OK

    def _wait(self) -> None:
        if self._due is None:
            self._due = self._loop.call_later(UNMOVED_S_MAX, self._grown_old)

    def _grown_old(self) -> None:
        self._due = None
        if self._running is None:
            self._begin()

    def _begin(self) -> None:
        self._rounds = 0
        self._start()

    def _start(self) -> None:
        self._rounds += 1
        self._running = self._loop.run_in_executor(None, self._move)
        self._running.add_done_callback(self._done)

    def _move(self) -> int:
        """Runs in a thread: how many pages of the write-ahead log are moved by now."""
        if self._own is None:
            self._own = open_checkpointer(self._path)
        return checkpoint(self._own)

    def _done(self, moving: asyncio.Future[int]) -> None:
        self._running = None
        try:
            self._moved = moving.result()
            left = self._pages - self._moved
            if 0 < left <= FINISH_PAGES:
                self._moved = checkpoint(self._view)
            elif left > FINISH_PAGES and self._rounds < ROUNDS_MAX:
                self._start()
                return
            if self._pages > self._moved:
                self._wait()
        except apsw.FullError:
            # Nothing is lost, the log keeps its pages: a later commit tries again.
            event("checkpoint_without_room", view=str(self._path))
        except apsw.Error as error:
            self._fail(f"checkpoint of {self._path}: {error}")

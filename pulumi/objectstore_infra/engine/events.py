"""What an operation tells about itself, and how it is told to stop.

`Reporter` is the seam between the engine and its output; `Control` counts the steps under way and
refuses new ones once something failed or the operator said stop.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterable, Iterator, Sequence
from typing import Literal, Protocol

from .errors import StoppedError
from .plugins import Change
from .state import Resource

Op = Literal["same", "create", "update", "replace", "delete", "retain", "refresh", "clean"]


class Reporter(Protocol):
    """Hears what happens, from any thread."""

    def begin(
        self,
        op: Op,
        row: Resource,
        old: Resource | None = None,
        changes: Sequence[Change] = (),
        note: str = "",
    ) -> None:
        """A step begins; in a preview this is all there will be of it."""

    def end(self, op: Op, row: Resource) -> None:
        """A step is done."""

    def fail(self, row: Resource | None, message: str) -> None:
        """A step, or (without a row) the program, failed."""

    def hide(self, texts: Iterable[str]) -> None:
        """From now on none of these texts may be shown."""


class Control:
    """Whether further steps may begin, and how many are under way."""

    def __init__(self) -> None:
        self._condition = threading.Condition()
        self._running = 0
        self._stopped = False
        self.failed = False

    @property
    def stopped(self) -> bool:
        """Whether no further step may begin."""
        return self._stopped

    def stop(self, *, failed: bool) -> None:
        """Begin no further step."""
        with self._condition:
            self._stopped = True
            self.failed = self.failed or failed

    @contextlib.contextmanager
    def step(self) -> Iterator[None]:
        """Count one step as under way.

        Raises:
            StoppedError: no further step may begin.
        """
        with self._condition:
            if self._stopped:
                raise StoppedError
            self._running += 1
        try:
            yield
        finally:
            with self._condition:
                self._running -= 1
                self._condition.notify_all()

    def wait(self) -> None:
        """Return when no step is under way."""
        with self._condition:
            self._condition.wait_for(lambda: self._running == 0)
